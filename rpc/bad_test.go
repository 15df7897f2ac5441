package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

// TestBadInput plays testdata/bad/*.txtar. Each line that a client sends there
// is wrong in a way of its own: it is answered with exactly one error object,
// in its turn, and the connection serves on.
func TestBadInput(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.txtar")
	require.NoError(t, err)
	inputs, different := 0, map[string]bool{}
	// Where two inputs have the same error, it comes from different methods.
	texts := map[string]string{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			var got *txtar.Archive
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				c := rpctest.Start(ctx, &rpctest.Agent{}, rpc.Options{})
				got, err = rpctest.Play(txtar.Parse(want), c, settle)
				require.NoError(t, err)
				requireAlive(t, c)
				cancel()
				c.Wait()
			})
			sent, answers := exchanged(got)
			require.Len(t, answers, len(sent), "one answer each")
			for i, answer := range answers {
				require.Contains(t, answer, `"error":{"code":-3`, sent[i])
				_, text, _ := strings.Cut(answer, `"error"`)
				_, method, _ := strings.Cut(sent[i], `"method":`)
				method, _, _ = strings.Cut(method, ",")
				text += method
				require.Empty(t, texts[text], "%s is answered as another input is", sent[i])
				texts[text] = sent[i]
				var m rpctest.Message
				require.NoError(t, json.Unmarshal([]byte(answer), &m))
				different[rpc.Placeholders.ReplaceAllString(m.Error.Message, "_")] = true
			}
			inputs += len(sent)
			if *update {
				require.NoError(t, os.WriteFile(file, txtar.Format(got), 0o644))
				return
			}
			require.Equal(t, string(want), string(txtar.Format(got)))
		})
	}
	// What remains differs in the text of the error, so that there is no need to
	// ask which code gave it.
	t.Logf("%d bad inputs with %d different errors, numbers and quoted names aside", inputs, len(different))
	require.GreaterOrEqual(t, len(different), 150)
}

// exchanged is what went to and fro.
func exchanged(a *txtar.Archive) (sent, answers []string) {
	for _, f := range a.Files {
		lines := strings.Split(strings.TrimSpace(string(f.Data)), "\n")
		switch f.Name {
		case "client", "bytes":
			sent = append(sent, lines...)
		case "server":
			answers = append(answers, lines...)
		}
	}
	return sent, answers
}

// requireAlive checks that the next request is answered.
func requireAlive(t *testing.T, c *rpctest.Client) {
	t.Helper()
	_, _ = c.Initialize() // may have been
	var tools schema.ToolsListResult
	require.NoError(t, c.Call("tools/list", struct{}{}, &tools, nil))
	require.NotNil(t, tools.Tools)
}

// TestR6BadInputLarge is about messages whose size or depth is what is wrong.
func TestR6BadInputLarge(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	request := func(params string) string {
		return `{"jsonrpc":"2.0","id":7,"method":"tokens/count","params":{"text":"a b","x":` + params + `}}`
	}
	tooDeep := `{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"the message nests deeper than 129 levels","data":{"kind":"invalid_request","retryable":false}}}`
	tooLarge := `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the message is larger than 33554432 bytes","data":{"kind":"invalid_request","retryable":false}}}`
	malformed := `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no JSON: it ends after %d bytes","data":{"kind":"parse_error","retryable":false}}}`
	fine := `{"jsonrpc":"2.0","id":7,"result":{"tokens":2}}`
	large := strings.Repeat("x", 40<<20)
	room := 32<<20 - len(request(`""`))
	for _, test := range []struct{ name, body, want string }{
		{"depth 128", request(deep(127)), fine},
		{"depth 129", request(deep(128)), tooDeep},
		{"depth 10,001", request(deep(10_000)), tooDeep},
		{"depth 1,000,000", request(deep(1_000_000)), tooDeep},
		{"depth, id last", `{"params":` + deep(200) + `,"method":"x","jsonrpc":"2.0","id":7}`, tooDeep},
		{"depth, no end", `{"id":7,"params":` + strings.Repeat("[", 200), fmt.Sprintf(malformed, 217)},
		{"brackets alone", strings.Repeat("[", 1_000_000), fmt.Sprintf(malformed, 1_000_000)},
		{"batch of 100,000", "[" + strings.Repeat("{},", 99_999) + "{}]", `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batches are not served: send each message by itself","data":{"kind":"invalid_request","retryable":false}}}`},
		{"40 MB", request(`"` + large + `"`), tooLarge},
		{"40 MB of nothing", large, tooLarge},
		{"just fits", request(`"` + large[:room] + `"`), fine},
		{"one byte too many", request(`"` + large[:room+1] + `"`), tooLarge},
		{"members", request(members(100_000, "")), fine},
		{"members, one twice", request(members(100_000, `,"m7":0`)), `{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"member \"m7\" stands twice in one object, again at offset 1088966","data":{"kind":"invalid_request","retryable":false}}}`},
	} {
		for _, headers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/headers=%v", test.name, headers), func(t *testing.T) {
				c := rpctest.Start(t.Context(), &rpctest.Agent{}, rpc.Options{})
				c.Headers = headers
				_, err := c.Initialize()
				require.NoError(t, err)
				require.NoError(t, c.Send(test.body))
				m, err := c.Receive()
				require.NoError(t, err)
				require.Equal(t, test.want, m.Raw)
				requireAlive(t, c)
				code, err := c.Shutdown()
				require.NoError(t, err)
				require.Equal(t, rpc.ExitOK, code)
			})
		}
	}
}

// members is an object of n members, and what is added.
func members(n int, add string) string {
	var b strings.Builder
	b.WriteString(`{"m0":0`)
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, `,"m%d":0`, i)
	}
	return b.String() + add + "}"
}

// TestLongHeader sends header lines and blocks beyond their bounds.
func TestLongHeader(t *testing.T) {
	for _, test := range []struct {
		name, header, want string
	}{
		{"line", "X: " + strings.Repeat("y", 8<<10) + "\r\n\r\n", "message header: a line is longer than 8192 bytes"},
		{"line with a length in it", "X: " + strings.Repeat("y", 9000) + " Content-Length: 2\r\n\r\n", "message header: a line is longer than 8192 bytes"},
		{"line of 64 MB", "X: " + strings.Repeat("y", 64<<20) + "\r\n\r\n", "message header: a line is longer than 8192 bytes"},
		{"block", strings.Repeat("X: "+strings.Repeat("y", 1000)+"\n", 70) + "\n", "message header: longer than 65536 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := rpctest.Start(t.Context(), &rpctest.Agent{}, rpc.Options{})
			c.Headers = true
			go func() {
				_, _ = c.Write([]byte(test.header))
				_ = c.Send(`{"jsonrpc":"2.0","id":1,"method":"initialize"}`)
			}()
			m, err := c.Receive()
			require.NoError(t, err)
			require.Equal(t, schema.Errorf(schema.KindParse, "%s", test.want), m.Error)
			m, err = c.Receive()
			require.NoError(t, err)
			require.Equal(t, "1", string(m.ID))
			requireAlive(t, c)
			_, err = c.Shutdown()
			require.NoError(t, err)
		})
	}
}
