package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/mutate"
	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
)

// garbage is what a client sends between initialize and shutdown.
type garbage struct {
	headers bool
	bodies  []string
}

// serveMutants makes garbage: messages of every method, sound but for a few changes.
func serveMutants(t testing.TB) func(c *mutate.Choices) garbage {
	words, messages := rpc.JSONWords(t)
	for _, prompt := range []string{
		"say:a", "think:b", "repeat:40", "block", "abort", "panic", "crash", "partial", "fail:engine_error", "load", "prefill:3", "decode",
		"stop", "tool:a", "ask:a",
	} {
		messages = append(messages, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"generate","params":{"generationId":"a","prompt":"%s"}}`, prompt))
		words = append(words, `"`+prompt+`"`)
	}
	messages = append(messages, `{"jsonrpc":"2.0","id":1,"method":"cancel","params":{"all":true}}`,
		`{"jsonrpc":"2.0","method":"cancel","params":{"generationId":"a"}}`, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`,
		`{"jsonrpc":"2.0","id":1,"method":"model/load","params":{"model":"slow"}}`, `[{}]`, `{"id":null}`, `"x"`)
	words = append(words, `"slow"`, `"huge"`, "0", "1", "2")
	var all []mutate.Document
	for _, m := range messages {
		all = append(all, mutate.JSON([]byte(m)))
	}
	return func(c *mutate.Choices) garbage {
		g := garbage{headers: c.OneIn(2)}
		for range 1 + c.Below(5) {
			text := all[c.Below(len(all))].Mutate(c, words).Bytes()
			for _, line := range bytes.Split(text, []byte("\n")) {
				body := string(bytes.TrimSpace(line))
				// Nothing, or the end of the connection, however that is written.
				if body != "" && !strings.Contains(body, "exit") && !strings.Contains(body, `\u00`) {
					g.bodies = append(g.bodies, body)
				}
			}
		}
		return g
	}
}

// check sends garbage in sound frames: the connection stays up, every request
// whose id can be read is answered exactly once, and nothing is answered that
// was not asked.
func (g garbage) check() error {
	want, perhaps := map[string]int{`"first"`: 1, `"last"`: 1}, 0 // answers by id
	for _, body := range g.bodies {
		switch id, n := asks(body); n {
		case always:
			want[id]++
		case sometimes:
			perhaps++
		}
	}
	got, err := g.play()
	if err != nil {
		return err
	}
	nulls := got["null"] - want["null"]
	delete(got, "null")
	delete(want, "null")
	if nulls < 0 || nulls > perhaps || !maps.Equal(want, got) {
		return fmt.Errorf("answers by id: got %v, want %v; to null %d more, want 0 to %d", got, want, nulls, perhaps)
	}
	return nil
}

// play sends garbage on a connection, ends it, and counts the answers by id.
func (g garbage) play() (map[string]int, error) {
	c := rpctest.Start(context.Background(), &rpctest.Agent{}, rpc.Options{})
	c.Headers = g.headers
	first, last := `{"jsonrpc":"2.0","id":"first","method":"initialize"}`, `{"jsonrpc":"2.0","id":"last","method":"shutdown"}`
	err := c.Send(slices.Concat([]string{first}, g.bodies, []string{last, `{"jsonrpc":"2.0","method":"exit"}`})...)
	if err != nil {
		return nil, err
	}
	answers := map[string]int{}
	for {
		m, err := c.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if m.Method == "" {
			answers[string(m.ID)]++
		}
	}
	if code := c.Wait(); code != rpc.ExitOK {
		return nil, fmt.Errorf("exit code %d", code)
	}
	return answers, nil
}

// TestServeMutants serves many clients. A long run is recorded in
// testdata/fuzz.txt.
func TestServeMutants(t *testing.T) {
	generate := serveMutants(t)
	count, took := rpc.Each(10, func(seed uint64, c *mutate.Choices) {
		g := generate(c)
		if err := g.check(); err != nil {
			t.Errorf("seed %d: %q: %v", seed, g.bodies, err)
		}
	})
	if !t.Failed() {
		t.Logf("serving: %d executions, no finding, %s", count, took)
	}
}

// FuzzServe has the fuzzer choose the messages and the changes.
func FuzzServe(f *testing.F) {
	generate := serveMutants(f)
	for seed := range uint64(64) {
		f.Add(mutate.Seeded(seed, nil).Bytes())
	}
	f.Fuzz(func(t *testing.T, decisions []byte) {
		g := generate(mutate.From(decisions))
		require.NoError(t, g.check(), "%q", g.bodies)
	})
}

// How a message is answered.
const (
	never = iota
	sometimes
	always
)

// asks says how a message is answered, and with which id. Encoding/json tells what
// the message is, not the parser under test.
func asks(body string) (id string, answered int) {
	in := json.NewDecoder(strings.NewReader(body))
	if first, err := in.Token(); !json.Valid([]byte(body)) || !utf8.ValidString(body) || err != nil || first != json.Delim('{') {
		return "null", always
	}
	count := map[string]int{}
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return "null", always
		}
		var value json.RawMessage
		if in.Decode(&value) != nil {
			return "null", always
		}
		count[name.(string)]++
		if name == "id" {
			id = string(value)
		}
	}
	switch {
	case count["method"] == 0 && count["result"]+count["error"] > 0:
		return "", never // an answer
	case count["id"] == 0 && count["method"] == 1:
		return "null", sometimes // as it is a notification or wrong
	case count["id"] != 1 || len(id) > 128 || !answerable.MatchString(id):
		return "null", always
	}
	return id, always
}

var answerable = regexp.MustCompile(`^("|-?[0-9]+$)`)
