// demo shows a conversation with a harmonyd binary as an editor would have it:
// make demo runs it.
package main

import (
	"context"
	"fmt"
	"os"

	"harmonyd/rpc/rpctest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo BINARY")
		os.Exit(2)
	}
	if err := rpctest.Demo(context.Background(), os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
