package rpctest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
)

// Recorded is one message of a recording.
type Recorded struct {
	// From is client or server.
	From    string          `json:"from"`
	Message json.RawMessage `json:"message"`
}

// Record runs a server between a client that somebody else wrote, at in and out,
// and its command, passes every byte on as it is, and writes the messages to a
// recording, a line each. It returns the server's exit code when the server has
// ended; it may still be reading from in then.
func Record(cmd *exec.Cmd, in io.Reader, out, recording io.Writer) (int, error) {
	toServer, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	fromServer, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("spawn %s: %w", cmd.Path, err)
	}
	r := recorder{lines: json.NewEncoder(recording)}
	r.lines.SetEscapeHTML(false)
	fromClient := &noting{in: in}
	fromClient.mu.Lock()
	go func() {
		defer fromClient.mu.Unlock()
		r.pass("client", fromClient, toServer)
		_ = toServer.Close() // the server has ended, or sees its end of input now
	}()
	r.pass("server", fromServer, out)
	err = cmd.Wait()
	fromClient.mu.Lock() // until what the server has read is noted too
	defer fromClient.mu.Unlock()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmd.ProcessState.ExitCode(), errors.Join(err, r.err)
}

// noting is a reader whose mutex is held except while it waits for more.
type noting struct {
	in io.Reader
	mu sync.Mutex
}

func (n *noting) Read(p []byte) (int, error) {
	n.mu.Unlock()
	defer n.mu.Lock()
	return n.in.Read(p)
}

// recorder writes what passes in two directions.
type recorder struct {
	mu    sync.Mutex
	lines *json.Encoder
	err   error
}

// pass copies bytes to their end, and notes the messages among them while they
// can be told apart.
func (r *recorder) pass(from string, in io.Reader, out io.Writer) {
	passed := bufio.NewReader(io.TeeReader(in, out))
	for {
		m, err := ReadMessage(passed)
		if errors.Is(err, io.EOF) {
			return
		}
		r.mu.Lock()
		if err == nil {
			err = r.lines.Encode(Recorded{from, json.RawMessage(m.Raw)})
		}
		if r.err == nil && err != nil {
			r.err = fmt.Errorf("record what the %s says: %w", from, err)
		}
		r.mu.Unlock()
		if err != nil {
			_, _ = io.Copy(out, in) // what is recorded has failed already
			return
		}
	}
}
