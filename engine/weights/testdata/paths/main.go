// Command paths opens each folder that is named on its standard input, one a
// line, and prints as JSON which error that gave and which code it ran through.
// It is built with go build -cover -covermode=atomic: the statements that ran are
// the path.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/coverage"
	"strings"

	"harmonyd/engine/weights"
)

type line struct {
	Folder, Error, Path string
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		folder := lines.Text()
		if err := coverage.ClearCounters(); err != nil {
			fail(err)
		}
		err := open(folder)
		if err == nil {
			fail(fmt.Errorf("%s: was accepted", folder))
		}
		path, bad := blocks()
		if bad != nil {
			fail(bad)
		}
		if err := json.NewEncoder(os.Stdout).Encode(line{folder, err.Error(), path}); err != nil {
			fail(err)
		}
	}
}

// open reads the GGUF file of a folder, or else its safetensors.
func open(folder string) error {
	gguf := filepath.Join(folder, "m.gguf")
	if _, err := os.Stat(gguf); errors.Is(err, fs.ErrNotExist) {
		_, err := weights.Open(folder)
		return err
	}
	_, err := weights.OpenGGUF(gguf)
	return err
}

// blocks lists the blocks that ran since the counters were cleared, as function
// and number within it. The format is that of internal/coverage/encodecounter: a
// header of 32 bytes, then one segment, which begins with the number of functions,
// the lengths of a string table and of arguments, and pads these to 4 bytes.
func blocks() (string, error) {
	const header = 32
	var b bytes.Buffer
	if err := coverage.WriteCounters(&b); err != nil {
		return "", err
	}
	data := b.Bytes()[header:]
	functions := binary.LittleEndian.Uint64(data)
	skip := 16 + binary.LittleEndian.Uint32(data[8:]) + binary.LittleEndian.Uint32(data[12:])
	data = data[(skip+3)&^3:]
	next := func() uint64 { // the counters are ULEB128
		v, n := binary.Uvarint(data)
		data = data[n:]
		return v
	}
	var ran strings.Builder
	for range functions {
		n, pkg, function := next(), next(), next()
		for i := range n {
			if next() > 0 {
				fmt.Fprintf(&ran, "%d.%d.%d ", pkg, function, i)
			}
		}
	}
	return ran.String(), nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
