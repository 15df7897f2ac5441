// record runs a server for a client that somebody else wrote and records what
// they say to each other:
//
//	record FILE PROGRAM ARGUMENT…
//
// A number that no other file has takes the place of a * in FILE. It ends with the
// server's exit code. rpc/rpctest/clients/run.sh uses it.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"harmonyd/rpc/rpctest"
)

func main() {
	code, err := record(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		code = 70
	}
	os.Exit(code)
}

func record(args []string) (code int, err error) {
	if len(args) < 2 {
		return 0, errors.New("want a file, a program and its arguments")
	}
	f, err := os.CreateTemp(filepath.Split(args[0]))
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stderr = os.Stderr
	code, err = rpctest.Record(cmd, os.Stdin, os.Stdout, f)
	return code, errors.Join(err, f.Close())
}
