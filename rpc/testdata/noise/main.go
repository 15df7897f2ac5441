// noise is a server whose C and Go code print while it serves. Everything that
// it prints must miss the protocol's descriptor.
package main

// #include <stdio.h>
// static void loud(void) { puts("puts from C"); fflush(stdout); }
import "C"

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
)

func main() {
	in, out, err := rpc.ClaimStdio()
	if err != nil {
		panic(err)
	}
	stop := make(chan struct{})
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		for {
			C.loud()
			fmt.Println("print from Go")
			_, _ = syscall.Write(1, []byte("write to descriptor 1\n"))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	code := rpc.Serve(context.Background(), in, out, new(rpctest.Agent), rpc.Options{})
	close(stop)
	<-quiet
	os.Exit(code)
}
