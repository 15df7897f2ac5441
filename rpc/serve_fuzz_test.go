package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
)

// FuzzServe sends lines of garbage in sound frames: the connection stays up, every
// request whose id can be read is answered exactly once, and nothing is
// answered that was not asked.
func FuzzServe(f *testing.F) {
	words, messages := rpc.JSONWords(f)
	for _, prompt := range []string{
		"say:a", "think:b", "repeat:40", "block", "abort", "panic", "crash", "partial", "fail:engine_error", "load", "prefill:3", "decode", "stop",
	} {
		words = append(words, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"generate","params":{"prompt":"%s"}}`, prompt), `"`+prompt+`"`, prompt+" ")
	}
	d := rpc.NewDictionary(append(words, `"slow"`, `"huge"`, `"all":true`, `"generationId":"a"`))
	for i, m := range messages {
		f.Add(true, d.Contract(m))
		f.Add(false, d.Contract(m+"\n"+messages[(i+1)%len(messages)]))
	}
	generate := `{"jsonrpc":"2.0","id":1,"method":"generate","params":{"generationId":"a","prompt":"repeat:40 block"}}` + "\n"
	for _, seed := range []string{
		generate + `{"jsonrpc":"2.0","id":2,"method":"cancel","params":{"generationId":"a"}}`, generate + generate,
		generate + `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`, generate + `{"jsonrpc":"2.0","id":2,"method":"shutdown"}`,
		`{"jsonrpc":"2.0","id":"\u0061","method":"tools/list"}` + "\n" + `{"jsonrpc":"2.0","id":"a","method":"tools/list"}`,
		"[{}]", `{"id":null}`, "{", `"x"`, `{"a":1,"a":2}`, `{"jsonrpc":"2.0","id":2,"result":{}}`,
	} {
		f.Add(true, d.Contract(seed))
		f.Add(false, d.Contract(seed))
	}
	f.Fuzz(func(t *testing.T, headers bool, script []byte) {
		var bodies []string
		want, perhaps := map[string]int{`"first"`: 1, `"last"`: 1}, 0 // answers by id
		for _, line := range bytes.Split(d.Expand(script), []byte("\n")) {
			body := string(bytes.TrimSpace(line))
			if body == "" || strings.Contains(body, "exit") || strings.Contains(body, `\u00`) {
				continue // nothing, or the end, however that is written
			}
			bodies = append(bodies, body)
			switch id, n := asks(body); n {
			case always:
				want[id]++
			case sometimes:
				perhaps++
			}
		}
		got := playGarbage(t, headers, bodies)
		require.GreaterOrEqual(t, got["null"], want["null"], "%q", bodies)
		require.LessOrEqual(t, got["null"], want["null"]+perhaps, "%q", bodies)
		delete(got, "null")
		delete(want, "null")
		require.Equal(t, want, got, "%q", bodies)
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

// playGarbage sends bodies on a connection, ends it, and counts the answers by id.
func playGarbage(t *testing.T, headers bool, bodies []string) map[string]int {
	c := rpctest.Start(context.Background(), &rpctest.Agent{}, rpc.Options{})
	c.Headers = headers
	first, last := `{"jsonrpc":"2.0","id":"first","method":"initialize"}`, `{"jsonrpc":"2.0","id":"last","method":"shutdown"}`
	require.NoError(t, c.Send(slices.Concat([]string{first}, bodies, []string{last, `{"jsonrpc":"2.0","method":"exit"}`})...))
	answers := map[string]int{}
	for {
		m, err := c.Receive()
		if err != nil {
			require.ErrorIs(t, err, io.EOF, "%q", bodies)
			break
		}
		if m.Method == "" {
			answers[string(m.ID)]++
		}
	}
	require.Equal(t, rpc.ExitOK, c.Wait(), "%q", bodies)
	return answers
}
