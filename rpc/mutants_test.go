package rpc

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/mutate"
	"harmonyd/schema"
)

// mutantCount is how many inputs TestFrameMutants reads. Of connections, which
// cost more, TestServeMutants has a tenth.
var mutantCount = flag.Int("mutants", 20_000, "how many inputs TestFrameMutants reads; TestServeMutants has a tenth of them")

// Each runs work for the seeds below a share of the count of mutants, on all
// processors, and says how long it took.
func Each(share int, work func(seed uint64, choices *mutate.Choices)) (count int, took time.Duration) {
	start := time.Now()
	count = *mutantCount / share
	var next atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			room := make([]byte, 0, 512)
			for seed := next.Add(1) - 1; seed < uint64(count); seed = next.Add(1) - 1 {
				work(seed, mutate.Seeded(seed, room))
			}
		})
	}
	workers.Wait()
	return count, time.Since(start).Round(time.Second)
}

// Placeholders are what does not make two errors different.
var Placeholders = regexp.MustCompile(`"(\\.|[^"\\])*"|\d+`)

// headerWords is what a part of a header may become.
var headerWords = []string{
	"", "Content-Length", "content-length", "CONTENT-LENGTH", "Content-Type", "X", ":", ": ", ":\t", "\r\n", "\n", "\r", "\r\n\r\n",
	"-1", "0x10", "1e1", "2147483648", "99999999999999999999", "a; charset=utf-8", "a;charset=\"utf8\";b", "a; charset=utf-16",
	strings.Repeat("y", 199), strings.Repeat("y", 300), strings.Repeat("X: y\r\n", 80), "{", "{}", "[]", "\xef\xbb\xbf", "\xff", "\x00",
}

// frameLimits are small, so that a short input passes each.
var frameLimits = schema.Limits{MaxMessageBytes: 1024, MaxHeaderLineBytes: 200, MaxHeaderBytes: 400, MaxDepth: 128, MaxIDBytes: 128}

// frameInput is what a client could send: some sound frames, then frames whose
// headers, sizes and bodies are sound but for a few changes, and with a message a
// line a last one.
type frameInput struct {
	sound   []string
	headers bool
	text    []byte
}

// frameMutants makes frameInputs of the messages that there are.
func frameMutants(t testing.TB) func(c *mutate.Choices, tail []byte) frameInput {
	words, texts := JSONWords(t)
	var messages []mutate.Document
	for _, m := range texts {
		messages = append(messages, mutate.JSON([]byte(m)))
	}
	return func(c *mutate.Choices, tail []byte) frameInput {
		in := frameInput{headers: c.OneIn(2)}
		frame := func(body []byte) mutate.Document {
			if !in.headers {
				return mutate.Document{body, []byte("\n")}
			}
			size := []byte(strconv.Itoa(len(body)))
			return mutate.Document{[]byte("Content-Length"), []byte(": "), size, []byte("\r\n"), []byte("\r\n"), body}
		}
		if c.OneIn(8) {
			in.text = append(in.text, byteOrderMark...)
		}
		for i := range c.Below(3) {
			body := fmt.Sprintf(`{"sound":%d}`, i)
			in.sound = append(in.sound, body)
			in.text = append(in.text, frame([]byte(body)).Bytes()...)
		}
		var d mutate.Document
		for range 1 + c.Below(3) {
			if in.headers && c.OneIn(3) {
				d = append(d, []byte("Content-Type"), []byte(": "), []byte("a; charset=utf-8"), []byte("\r\n"))
			}
			message := messages[c.Below(len(messages))]
			if c.OneIn(3) {
				message = message.Mutate(c, words)
			}
			d = append(d, frame(message.Bytes())...)
		}
		if !c.OneIn(3) {
			d = d.Mutate(c, headerWords)
		}
		in.text = append(append(in.text, d.Bytes()...), tail...)
		if !in.headers {
			in.text = append(in.text, "\n{\"last\":1}"...)
		}
		return in
	}
}

// check reads an input and returns the problems that were met. There is an end; the
// sound messages come through, and the last one where lines tell it apart; what is
// read does not depend on the pieces in which it comes; and no more memory is
// held than a message may have and a buffer.
func (in frameInput) check() (problems []string, err error) {
	bodies, problems, err := readEach(bytes.NewReader(in.text), len(in.text))
	if err != nil {
		return nil, err
	}
	if len(bodies) < len(in.sound) || !slices.Equal(in.sound, bodies[:len(in.sound)]) {
		return nil, fmt.Errorf("read %q, want %q first", bodies, in.sound)
	}
	if len(in.sound) > 0 && !in.headers && bodies[len(bodies)-1] != `{"last":1}` {
		return nil, fmt.Errorf("read %q, want the last message", bodies)
	}
	size := 1 + (31*len(in.text)+len(bodies))%61
	again, problemsAgain, err := readEach(&pieces{in.text, size}, len(in.text))
	if err == nil && (!slices.Equal(bodies, again) || !slices.Equal(problems, problemsAgain)) {
		err = fmt.Errorf("in pieces of %d read %q and %q, whole %q and %q", size, again, problemsAgain, bodies, problems)
	}
	return problems, err
}

// TestFrameMutants reads many inputs. A long run is recorded in testdata/fuzz.txt.
func TestFrameMutants(t *testing.T) {
	generate := frameMutants(t)
	var mu sync.Mutex
	met, clean := map[string]bool{}, 0
	count, took := Each(1, func(seed uint64, c *mutate.Choices) {
		in := generate(c, nil)
		problems, err := in.check()
		if err != nil {
			t.Errorf("seed %d: %q: %v", seed, in.text, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(problems) == 0 {
			clean++
		}
		for _, p := range problems {
			if len(met) < 1000 {
				met[Placeholders.ReplaceAllString(p, "_")] = true
			}
		}
	})
	require.Greater(t, clean, count/20)
	require.Less(t, clean, count*9/10)
	require.Greater(t, len(met), 20)
	if !t.Failed() {
		t.Logf("framing: %d executions, %d without a problem, %d different errors, no finding, %s", count, clean, len(met), took)
	}
}

// FuzzFrame has the fuzzer choose the messages and the changes, and bytes to follow.
func FuzzFrame(f *testing.F) {
	generate := frameMutants(f)
	for seed := range uint64(64) {
		f.Add(mutate.Seeded(seed, nil).Bytes(), []byte(nil))
	}
	for _, tail := range []string{
		"content-length:2\n\n{}\nContent-Length: 3\r\n\r\n[1]", "Content-Length: 99\r\n\r\n{}", "x\r\n\r\n{}Content-Length: 2\r\n\r\n{}",
		"Content-Length: 5000\r\n\r\n", "\xef\xbb\xbf{}\n{}\n", strings.Repeat("y", 5000) + "\n",
	} {
		f.Add([]byte{0}, []byte(tail))
		f.Add([]byte{1}, []byte(tail))
	}
	f.Fuzz(func(t *testing.T, decisions, tail []byte) {
		in := generate(mutate.From(decisions), tail[:min(len(tail), 4096)])
		_, err := in.check()
		require.NoError(t, err, "%q", in.text)
	})
}

// pieces hands out its data in pieces of one size.
type pieces struct {
	data []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:min(p.size, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}

// readEach reads and parses an input of a size to its end. Problems are given by
// their text.
func readEach(r io.Reader, size int) (bodies, problems []string, err error) {
	frames := newFrames(r, frameLimits)
	for calls := 0; ; calls++ {
		body, problem, end := frames.next()
		switch {
		case end != nil:
			return bodies, problems, nil
		case calls > size:
			return nil, nil, fmt.Errorf("no end")
		case (problem == nil) == (body == nil):
			return nil, nil, fmt.Errorf("body %q, problem %v", body, problem)
		case int64(len(body)) > frameLimits.MaxMessageBytes || int64(cap(body)) > frameLimits.MaxMessageBytes+64<<10:
			return nil, nil, fmt.Errorf("%d bytes in %d", len(body), cap(body))
		case problem != nil:
			problems = append(problems, problem.Message)
			continue
		}
		bodies = append(bodies, string(body))
		m, problem := parse(body, frameLimits)
		if problem == nil && !m.response && firstByte(body) != '{' || problem != nil && m.params != nil {
			return nil, nil, fmt.Errorf("%q is %+v, %v", body, m, problem)
		}
		if problem != nil {
			problems = append(problems, problem.Message)
		}
	}
}
