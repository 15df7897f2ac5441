// figures shows the figures of the wire: make bench-wire runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"harmonyd/rpc/rpctest"
)

func main() {
	f := rpctest.Figures{Mark: "✗ missed"}
	flag.StringVar(&f.Scripted, "scripted", "bin/harmonyd-scripted", "the server with the scripted engine")
	flag.StringVar(&f.Real, "real", "bin/harmonyd", "the server whose default model is measured")
	flag.IntVar(&f.Samples, "n", 100, "how many times each answer is waited for")
	flag.Parse()
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		f.Mark = "\x1b[31m" + f.Mark + "\x1b[0m"
	}
	if err := f.Show(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}
