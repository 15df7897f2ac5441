package rpctest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"harmonyd/rpc"
	"harmonyd/schema"
)

// Message is one message of the server's.
type Message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *schema.Error   `json:"error"`
	// Raw is the body as it came.
	Raw string `json:"-"`
}

// Client is one client of one server. It reads all the time into a queue of
// any length, so that the server never waits for it. Its methods may be called
// from several goroutines, except that there is one reader of the queue.
type Client struct {
	// Headers frames with Content-Length; otherwise a line is a message.
	Headers bool

	in   io.WriteCloser // to the server
	wait func() int

	mu    sync.Mutex
	came  sync.Cond // pairs with read
	inbox []Message
	err   error // why no more messages come
	next  int   // id of the next Call
}

// Start serves an agent in process.
func Start(ctx context.Context, agent rpc.Agent, o rpc.Options) *Client {
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	code := make(chan int, 1)
	go func() { code <- rpc.Serve(ctx, in, out, agent, o) }()
	return newClient(toServer, fromServer, sync.OnceValue(func() int { return <-code }))
}

// Spawn starts a program that serves on its standard input and output. Its
// standard error goes to stderr. Ctx kills it.
func Spawn(ctx context.Context, stderr io.Writer, path string, args ...string) (*Client, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = stderr
	return SpawnCommand(cmd)
}

// SpawnCommand starts a command that serves on its standard input and output.
func SpawnCommand(cmd *exec.Cmd) (*Client, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// Not StdoutPipe: Wait would close it under what is still to be read.
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = childOut
	err = cmd.Start()
	if e := childOut.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spawn %s: %w", cmd.Path, err), out.Close())
	}
	wait := sync.OnceValue(func() int {
		if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
			return -1
		}
		return cmd.ProcessState.ExitCode()
	})
	return newClient(in, out, wait), nil
}

func newClient(in io.WriteCloser, out io.ReadCloser, wait func() int) *Client {
	c := &Client{in: in, wait: wait}
	c.came.L = &c.mu
	go func() {
		c.read(bufio.NewReader(out))
		_ = out.Close() // only read from
	}()
	return c
}

// Write sends bytes as they are.
func (c *Client) Write(b []byte) (int, error) { return c.in.Write(b) }

// Frame is a body with its frame.
func (c *Client) Frame(body string) string {
	if c.Headers {
		return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	return body + "\n"
}

// Send sends bodies, in one write.
func (c *Client) Send(bodies ...string) error {
	var b strings.Builder
	for _, body := range bodies {
		b.WriteString(c.Frame(body))
	}
	_, err := io.WriteString(c.in, b.String())
	return err
}

// Notify sends a notification.
func (c *Client) Notify(method string, params any) error {
	body, err := schema.Encode(map[string]any{"jsonrpc": "2.0", "method": method, "params": params})
	if err != nil {
		return err
	}
	return c.Send(string(body))
}

// Request sends a request and returns its id.
func (c *Client) Request(method string, params any) (int, error) {
	c.mu.Lock()
	c.next++
	id := c.next
	c.mu.Unlock()
	body, err := schema.Encode(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	if err != nil {
		return 0, err
	}
	return id, c.Send(string(body))
}

// Call sends a request and waits for its answer, which it decodes into result
// unless that is nil. Messages before the answer go to seen, or stay unseen
// where that is nil.
func (c *Client) Call(method string, params, result any, seen func(Message)) error {
	id, err := c.Request(method, params)
	if err != nil {
		return err
	}
	return c.Await(id, result, seen)
}

// Await is the second half of Call.
func (c *Client) Await(id int, result any, seen func(Message)) error {
	for {
		m, err := c.Receive()
		if err != nil {
			return err
		}
		if string(m.ID) != strconv.Itoa(id) {
			if seen != nil {
				seen(m)
			}
			continue
		}
		if m.Error != nil {
			return m.Error
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	}
}

// Initialize opens the connection.
func (c *Client) Initialize() (schema.InitializeResult, error) {
	var r schema.InitializeResult
	if err := c.Call("initialize", map[string]any{"capabilities": map[string]any{}}, &r, nil); err != nil {
		return r, err
	}
	return r, c.Notify("initialized", struct{}{})
}

// Receive waits for the next message. The error is io.EOF when the server has
// closed its output.
func (c *Client) Receive() (Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.inbox) == 0 && c.err == nil {
		c.came.Wait()
	}
	if len(c.inbox) == 0 {
		return Message{}, c.err
	}
	m := c.inbox[0]
	c.inbox = c.inbox[1:]
	return m, nil
}

// Received returns the messages that have come, without waiting.
func (c *Client) Received() []Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.inbox
	c.inbox = nil
	return all
}

// CloseInput ends the server's input.
func (c *Client) CloseInput() error { return c.in.Close() }

// Wait waits for the server's end and returns its exit code, -1 where a signal
// ended it.
func (c *Client) Wait() int { return c.wait() }

// Shutdown ends the connection as the protocol has it and returns the server's
// exit code.
func (c *Client) Shutdown() (int, error) {
	if err := c.Call("shutdown", nil, nil, nil); err != nil {
		return 0, err
	}
	if err := c.Notify("exit", nil); err != nil {
		return 0, err
	}
	return c.Wait(), nil
}

func (c *Client) read(r *bufio.Reader) {
	for {
		m, err := ReadMessage(r)
		c.mu.Lock()
		if err != nil {
			c.err = err
		} else {
			c.inbox = append(c.inbox, m)
		}
		c.came.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// ReadMessage reads one message in either framing, with a parser that is not the
// server's. The error is io.EOF at the end.
func ReadMessage(r *bufio.Reader) (Message, error) {
	first, err := r.Peek(1)
	if err != nil {
		return Message{}, io.EOF
	}
	var body []byte
	if first[0] == '{' {
		if body, err = r.ReadBytes('\n'); err != nil {
			return Message{}, fmt.Errorf("server: line %q: %w", body, err)
		}
	} else {
		h, err := textproto.NewReader(r).ReadMIMEHeader()
		if err != nil {
			return Message{}, fmt.Errorf("server: header: %w", err)
		}
		n, err := strconv.Atoi(h.Get("Content-Length"))
		if err != nil {
			return Message{}, fmt.Errorf("server: header: %w", err)
		}
		body = make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return Message{}, fmt.Errorf("server: body: %w", err)
		}
	}
	m := Message{Raw: strings.TrimSuffix(string(body), "\n")}
	if err := json.Unmarshal(body, &m); err != nil {
		return Message{}, fmt.Errorf("server: message %q: %w", body, err)
	}
	return m, nil
}
