package rpc

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// chunked hands out its data in random pieces.
type chunked struct {
	data []byte
	rand *rand.Rand
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := 1 + c.rand.IntN(min(len(p), len(c.data)))
	if c.rand.IntN(2) == 0 {
		n = 1
	}
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

// readAll is all that frames makes of an input.
func readAll(t testing.TB, r io.Reader, limits schema.Limits) string {
	f := newFrames(r, limits)
	var out strings.Builder
	for {
		body, problem, err := f.next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return out.String()
		case problem != nil:
			fmt.Fprintf(&out, "problem %s\n", problem.Message)
		default:
			require.NoError(t, err)
			fmt.Fprintf(&out, "body %d %q\n", len(body), body)
		}
	}
}

// TestR5FramesInAnyPieces reads conversations of 40 messages, good and bad, cut
// at random: what is read does not depend on the cuts.
func TestR5FramesInAnyPieces(t *testing.T) {
	limits := schema.Limits{MaxMessageBytes: 150, MaxHeaderLineBytes: 100, MaxHeaderBytes: 300, MaxDepth: 10, MaxIDBytes: 20}
	var headers, lines strings.Builder
	for i := range 40 {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"x","params":{"text":%q}}`, i, strings.Repeat("é\n", i))
		switch i % 10 {
		case 3:
			fmt.Fprintf(&headers, "X-Junk: 1\r\ncontent-length:%d\n\n%s\r\n", len(body), body)
		case 5:
			fmt.Fprintf(&headers, "no colon\r\n\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		case 7:
			fmt.Fprintf(&headers, "X: %s\r\nContent-Length: %d\r\n\r\n%s", strings.Repeat("y", 200), len(body), body)
		default:
			fmt.Fprintf(&headers, "Content-Length: %d\r\n\r\n%s", len(body), body)
		}
		fmt.Fprintf(&lines, "%s\r\n\n", body)
	}
	rounds := 10_000
	if testing.Short() || raceEnabled {
		rounds = 500
	}
	for name, input := range map[string]string{"headers": headers.String(), "lines": lines.String()} {
		t.Run(name, func(t *testing.T) {
			want := readAll(t, strings.NewReader(input), limits)
			require.Equal(t, 40, strings.Count(want, "body ")+strings.Count(want, "larger than"))
			require.Contains(t, want, "problem ")
			for i := range rounds {
				got := readAll(t, &chunked{[]byte(input), rand.New(rand.NewPCG(1, uint64(i)))}, limits)
				require.Equal(t, want, got, "round %d", i)
			}
		})
	}
}

// TestR4FrameClaimsMemory sends headers that announce much and little of it: the
// memory follows what has come.
func TestR4FrameClaimsMemory(t *testing.T) {
	for _, input := range []string{
		"Content-Length: 33554432\r\n\r\n{\"jsonrpc\"",
		"Content-Length: 2147483647\r\n\r\n{\"jsonrpc\"",
		"Content-Length: 9223372036854775807\r\n\r\n{\"jsonrpc\"",
	} {
		got := allocated(func() { readAll(t, strings.NewReader(input), schema.DefaultLimits()) })
		require.Less(t, got, uint64(1<<20), input)
	}
}

// TestR6FrameEndlessHeader streams a header line of 4 GiB.
func TestR6FrameEndlessHeader(t *testing.T) {
	size := int64(4 << 30)
	if testing.Short() || raceEnabled {
		size = 64 << 20
	}
	input := io.MultiReader(strings.NewReader("X: "), io.LimitReader(endless('y'), size),
		strings.NewReader("\r\n\r\nContent-Length: 2\r\n\r\n{}"))
	var out string
	got := allocated(func() { out = readAll(t, input, schema.DefaultLimits()) })
	require.Equal(t, "problem message header: a line is longer than 8192 bytes\nbody 2 \"{}\"\n", out)
	require.Less(t, got, uint64(2<<20))
}

// TestR6Nesting: what a message nests costs no memory, however deep it is.
func TestR6Nesting(t *testing.T) {
	for _, body := range []string{
		strings.Repeat("[", 1_000_000),
		strings.Repeat(`{"a":`, 10_001) + "1" + strings.Repeat("}", 10_001),
		"[" + strings.Repeat("{},", 99_999) + "{}]",
	} {
		raw := []byte(body)
		got := allocated(func() {
			_, problem := parse(raw, schema.DefaultLimits())
			require.NotNil(t, problem)
		})
		require.Less(t, got, uint64(1<<20))
	}
}

// TestFrameEndlessLine streams a line of 64 MiB, of text and of what could be
// the line's end.
func TestFrameEndlessLine(t *testing.T) {
	const size = 64 << 20
	limits := schema.DefaultLimits()
	limits.MaxMessageBytes = 1 << 20
	for _, fill := range []endless{'y', '\r', ' '} {
		t.Run(fmt.Sprintf("%q", rune(fill)), func(t *testing.T) {
			input := io.MultiReader(strings.NewReader("{"), io.LimitReader(fill, size), strings.NewReader("\n{}"))
			var out string
			got := allocated(func() { out = readAll(t, input, limits) })
			require.Equal(t, "problem the message is larger than 1048576 bytes\nbody 2 \"{}\"\n", out)
			require.Less(t, got, uint64(8<<20)) // a slice that grows to 1 MiB
		})
	}
}

// TestFrameLongestLine: the end of a line is no part of the message.
func TestFrameLongestLine(t *testing.T) {
	limits := schema.DefaultLimits()
	limits.MaxMessageBytes = 9000
	for length, want := range map[int]string{9000: "body 9000 ", 9001: "problem the message is larger"} {
		for _, end := range []string{"", "\n", "\r\n"} {
			line := "{" + strings.Repeat("y", length-2) + "}"
			got := readAll(t, strings.NewReader(line+end), limits)
			require.True(t, strings.HasPrefix(got, want), "%d bytes and %q: %.60s", length, end, got)
		}
	}
}

// TestFrameByteOrderMark: one before the first message is passed over in either
// framing, a second one is not.
func TestFrameByteOrderMark(t *testing.T) {
	const mark = "\ufeff"
	for input, want := range map[string]string{
		mark + "{}\n{}\n":                      "body 2 \"{}\"\nbody 2 \"{}\"\n",
		"\r\n" + mark + "\n[1]\n":              "body 3 \"[1]\"\n",
		mark + "Content-Length: 2\r\n\r\n{}":   "body 2 \"{}\"\n",
		mark + mark + "{}\n":                   "problem message header: a line without a colon\n",
		"\xef\xbb{}\n\nContent-Length: 1\n\n1": "problem message header: a line without a colon\nbody 1 \"1\"\n",
		"\xef":                                 "",
		mark:                                   "",
	} {
		require.Equal(t, want, readAll(t, strings.NewReader(input), schema.DefaultLimits()), "%q", input)
		for size := 1; size < len(input); size++ {
			require.Equal(t, want, readAll(t, &pieces{[]byte(input), size}, schema.DefaultLimits()), "%q in pieces of %d", input, size)
		}
	}
}

// TestFrameCharset: only the charset of a media type counts, however it is
// written.
func TestFrameCharset(t *testing.T) {
	for header, want := range map[string]string{
		"Content-Type: application/vscode-jsonrpc; charset=utf-8":       "body 2 \"{}\"\n",
		"content-type:text/json;boundary=utf-16; Charset=\"UTF8\"; a=b": "body 2 \"{}\"\n",
		"Content-Type: utf-16":                "body 2 \"{}\"\n",
		"Content-Type: a; charset=\"UTF-16\"": "problem charset \"utf-16\": only utf-8 is read\n",
	} {
		input := "Content-Length: 2\r\n" + header + "\r\n\r\n{}"
		require.Equal(t, want, readAll(t, strings.NewReader(input), schema.DefaultLimits()), header)
	}
}

// endless reads as one byte again and again.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for filled := copy(p, []byte{byte(e)}); filled < len(p); {
		filled += copy(p[filled:], p[:filled])
	}
	return len(p), nil
}

// allocated is how many bytes of heap f takes, freed ones included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestFrameReadError passes the reader's error on, wherever it strikes.
func TestFrameReadError(t *testing.T) {
	broken := errors.New("planted")
	for _, before := range []string{
		"", " ", "{", "{}\n{", "{}\n", "Content-Length: 5", "Content-Length: 5\r\n", "Content-Length: 5\r\n\r\n",
		"Content-Length: 5\r\n\r\n{}", "Content-Length: 99999999\r\n\r\n{}", "bad\r\n", "bad\r\nmore",
		"X: " + strings.Repeat("y", 9000), "{" + strings.Repeat("y", 40<<20),
	} {
		f := newFrames(io.MultiReader(strings.NewReader(before), errReader{broken}), schema.DefaultLimits())
		var err error
		for err == nil {
			_, _, err = f.next()
		}
		require.ErrorIs(t, err, broken, "after %.20q", before)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestEveryStatementOfFramingIsCovered lets the tests of bad input run in a child and
// fails where a statement of frame.go, and so an error that it returns, was never
// reached.
//
// Planted break: an error return that no input leads to.
func TestEveryStatementOfFramingIsCovered(t *testing.T) {
	if raceEnabled {
		t.Skip("the run without the race detector says the same")
	}
	profile := filepath.Join(t.TempDir(), "cover")
	child := exec.Command("go", "test", "-short", "-count=1", "-coverprofile="+profile, "-run=^Test(R[4-6])?(Frame|BadInput|LongHeader)", ".")
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(profile)
	require.NoError(t, err)
	blocks := 0
	var never []string
	for line := range strings.Lines(string(text)) {
		if place, ok := strings.CutPrefix(line, "harmonyd/rpc/frame.go:"); ok {
			blocks++
			if strings.HasSuffix(strings.TrimSpace(place), " 0") {
				never = append(never, place)
			}
		}
	}
	require.Empty(t, never, "no test comes to these lines of frame.go")
	t.Logf("%d blocks of statements, all covered", blocks)
	require.Greater(t, blocks, 50)
}
