package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// said is one notification as a client decodes it.
type said struct {
	Method string
	Params struct {
		schema.GenerateDelta
		State schema.GenerateState
	}
}

// wire is a pipe whose other end may be slow to read.
type wire struct {
	*io.PipeReader
	w *writer
}

func lines() framing { return ndjson }

func newWire(t *testing.T) *wire {
	r, out := io.Pipe()
	w := newWriter(out, lines, 0)
	t.Cleanup(func() {
		w.fail(io.ErrClosedPipe)
		_ = out.Close()
		_ = r.Close()
		<-w.done
	})
	return &wire{r, w}
}

// decodeAny decodes one notification, if it is one.
func decodeAny(line []byte) []said {
	var s said
	if json.Unmarshal(line, &s) != nil {
		return nil
	}
	return []said{s}
}

func decode(t *testing.T, data []byte) []said {
	var out []said
	for line := range bytes.Lines(data) {
		require.True(t, utf8.Valid(line))
		var s said
		require.NoError(t, json.Unmarshal(line, &s), "%.200q", line)
		require.Equal(t, int64(len(out)), s.Params.Seq, "seq has no gaps")
		out = append(out, s)
	}
	return out
}

// transcript is a buffer that may be looked at while it is written.
type transcript struct {
	mu  sync.Mutex
	all []byte
}

func (b *transcript) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, p...)
	return len(p), nil
}

func (b *transcript) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.all)
}

// text is what a client has of a channel after all. A call begins with its tool's name.
func text(all []said, channel schema.Channel) string {
	var b strings.Builder
	for _, s := range all {
		for _, p := range s.Params.Parts {
			if p.Channel == channel {
				b.WriteString(p.Name + p.Text)
			}
		}
	}
	return b.String()
}

func tokens(all []said) (n int) {
	for _, s := range all {
		n += s.Params.Tokens
	}
	return n
}

// TestS2LeadingEdge counts notifications of generations of different
// speeds: at up to 30 tokens a second each token goes out as it comes, above
// that there are 30 notifications a second.
func TestS2LeadingEdge(t *testing.T) {
	for _, test := range []struct {
		every time.Duration
		want  int // deltas in three seconds
	}{
		{time.Second, 3}, {100 * time.Millisecond, 30}, {33 * time.Millisecond, 91},
		{10 * time.Millisecond, 91}, {time.Millisecond, 91},
		{100 * time.Microsecond, 469}, // every 64 tokens
	} {
		t.Run(test.every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newWire(t)
				var all bytes.Buffer
				go func() { _, _ = io.Copy(&all, p) }()
				g := newGeneration("g", p.w, schema.StreamPolicy{})
				n := int(3 * time.Second / test.every)
				for range n {
					g.Text(t.Context(), schema.ChannelText, "x", 1)
					synctest.Wait()
					time.Sleep(test.every)
				}
				g.finish()
				<-p.w.flush()
				synctest.Wait()
				got := decode(t, all.Bytes())
				require.Equal(t, n, tokens(got))
				require.Len(t, text(got, schema.ChannelText), n)
				deltas := len(got) - 1
				require.InDelta(t, test.want, deltas, 2)
			})
		})
	}
}

// TestBatchFirstTextWithAStatus: the first text may go out with the status that
// precedes it; what comes next then waits for its time like any other.
func TestBatchFirstTextWithAStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWire(t)
		g := newGeneration("g", p.w, schema.StreamPolicy{})
		g.Status(schema.GenerateStatus{State: schema.StateDecoding})
		g.Text(t.Context(), schema.ChannelText, "a", 1) // nobody has read the status yet
		var all transcript
		go func() { _, _ = io.Copy(&all, p) }()
		synctest.Wait()
		time.Sleep(defaultInterval / 3)
		g.Text(t.Context(), schema.ChannelText, "b", 1)
		synctest.Wait()
		require.Equal(t, "a", text(decode(t, all.Bytes()), schema.ChannelText))
		time.Sleep(defaultInterval)
		synctest.Wait()
		require.Equal(t, "ab", text(decode(t, all.Bytes()), schema.ChannelText))
		g.finish()
		<-p.w.flush()
		synctest.Wait()
	})
}

// TestS2Latency: no text waits longer than the interval, whatever the
// rhythm, and the first does not wait at all.
func TestS2Latency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWire(t)
		var mu sync.Mutex
		var said, came []time.Time // of each byte
		go func() {
			for scanner := bufio.NewScanner(p); scanner.Scan(); {
				n := len(text(decodeAny(scanner.Bytes()), schema.ChannelText))
				mu.Lock()
				came = append(came, slices.Repeat([]time.Time{time.Now()}, n)...)
				mu.Unlock()
			}
		}()
		g := newGeneration("g", p.w, schema.StreamPolicy{})
		random := rand.New(rand.NewPCG(3, 4))
		for range 20_000 {
			said = append(said, time.Now())
			g.Text(t.Context(), schema.ChannelText, "x", 1)
			synctest.Wait()
			time.Sleep(time.Duration(random.ExpFloat64() * float64(8*time.Millisecond)))
		}
		g.finish()
		<-p.w.flush()
		synctest.Wait()
		require.Len(t, came, len(said))
		require.Equal(t, said[0], came[0])
		for i := range said {
			require.LessOrEqual(t, came[i].Sub(said[i]), defaultInterval, "byte %d", i)
		}
	})
}

// TestS3SlowClient runs eight generations for two minutes against a client
// that does not read: they say as much as they would otherwise, what waits is
// what was said, and the client that comes back has lost nothing.
func TestS3SlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWire(t)
		var gs []*generation
		for i := range 8 {
			gs = append(gs, newGeneration(fmt.Sprint(i), p.w, schema.StreamPolicy{}))
		}
		before := heap()
		n := 0
		for start := time.Now(); time.Since(start) < 2*time.Minute; n++ {
			for _, g := range gs {
				g.Text(t.Context(), schema.ChannelText, fmt.Sprintf("%d,", n), 1)
			}
			time.Sleep(10 * time.Millisecond)
		}
		p.w.mu.Lock()
		require.LessOrEqual(t, len(p.w.queue), len(gs), "a mark for each generation")
		p.w.mu.Unlock()
		require.Equal(t, 12_000, n, "nobody has waited")
		require.Less(t, heap()-before, int64(10<<20))
		for _, g := range gs {
			g.finish()
		}
		var all bytes.Buffer
		go func() { _, _ = io.Copy(&all, p) }()
		<-p.w.flush()
		synctest.Wait()
		var want strings.Builder
		for i := range n {
			fmt.Fprintf(&want, "%d,", i)
		}
		byID := map[string][]byte{}
		for line := range bytes.Lines(all.Bytes()) {
			var s said
			require.NoError(t, json.Unmarshal(line, &s))
			byID[s.Params.GenerationID] = append(byID[s.Params.GenerationID], line...)
		}
		require.Len(t, byID, len(gs))
		for _, data := range byID {
			got := decode(t, data)
			require.Equal(t, want.String(), text(got, schema.ChannelText))
			require.Equal(t, n, tokens(got))
			require.Less(t, len(got), 10, "what waited comes in few messages")
		}
	})
}

// heap is what is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBatchPause: a generation with 8 MiB that nobody reads waits; when they
// are read it goes on, and when it is cancelled it is let go.
func TestBatchPause(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelled=%v", cancelled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newWire(t)
				g := newGeneration("g", p.w, schema.StreamPolicy{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				piece := strings.Repeat("x", 1024)
				n := 0
				done := make(chan struct{})
				go func() {
					defer close(done)
					for ; n < 10_000 && ctx.Err() == nil; n++ {
						g.Text(ctx, schema.ChannelText, piece, 1)
					}
				}()
				synctest.Wait()
				select {
				case <-done:
					t.Fatal("nothing paused")
				default:
				}
				waiting := n * len(piece)
				require.Greater(t, waiting, pauseBytes)
				require.Less(t, waiting, pauseBytes+2*deltaBytes)
				if cancelled {
					cancel()
				} else {
					go func() {
						<-done
						g.finish()
					}()
				}
				if cancelled {
					<-done
					g.finish()
				}
				var all bytes.Buffer
				go func() { _, _ = io.Copy(&all, p) }()
				<-done
				synctest.Wait()
				<-p.w.flush()
				synctest.Wait()
				got := decode(t, all.Bytes())
				require.Equal(t, n, tokens(got))
				require.Equal(t, n*len(piece), len(text(got, schema.ChannelText)))
				if !cancelled {
					require.Equal(t, 10_000, n)
				}
			})
		})
	}
}

var deltas = flag.Int("deltas", 0, "pieces of text that TestS4AnySplit says; 60,000 at least")

// TestS4AnySplit is a property: whatever is said, in whatever rhythm, to a
// client that reads in whatever rhythm, arrives whole, in order, by channel,
// in UTF-8, with states where they were said.
func TestS4AnySplit(t *testing.T) {
	for seed := range uint64(max(*deltas/200, 300)) {
		synctest.Test(t, func(t *testing.T) {
			random, source := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			p := newWire(t)
			defer time.Sleep(time.Second) // for the reader below
			var all bytes.Buffer
			go func() {
				buf := make([]byte, 1<<16)
				for {
					n, err := p.Read(buf)
					if err != nil {
						return
					}
					all.Write(buf[:n])
					time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
				}
			}()
			interval := source.IntN(50)
			g := newGeneration("g\"", p.w, schema.StreamPolicy{IntervalMS: &interval, MaxTokens: 1 + source.IntN(9), MaxBytes: 1 + source.IntN(99)})
			want := map[schema.Channel]*strings.Builder{schema.ChannelText: {}, schema.ChannelReasoning: {}, schema.ChannelToolArguments: {}}
			count := 0
			var order []string
			for range 200 {
				switch source.IntN(12) {
				case 0:
					time.Sleep(time.Duration(source.IntN(60)) * time.Millisecond)
				case 1:
					state := schema.StatePrefill
					if source.IntN(2) == 0 {
						state = schema.StateDecoding
					}
					count++
					g.Status(schema.GenerateStatus{State: state, ProcessedTokens: count})
					order = append(order, fmt.Sprintf("%d:%d", want[schema.ChannelText].Len(), want[schema.ChannelReasoning].Len()))
				case 2:
					g.pin()
				case 3:
					name := []string{"", "<f>"}[source.IntN(2)]
					g.Arguments(t.Context(), "g.0", name, "é{", 1)
					want[schema.ChannelToolArguments].WriteString(name + "é{")
				default:
					channel := []schema.Channel{schema.ChannelText, schema.ChannelReasoning}[source.IntN(2)]
					piece := string([]rune("a<é\"漢\n😀\\\u2028\x00")[source.IntN(10)])
					g.Text(t.Context(), channel, piece, 1)
					want[channel].WriteString(piece)
				}
			}
			g.finish()
			<-p.w.flush()
			time.Sleep(time.Second)
			synctest.Wait()
			got := decode(t, all.Bytes())
			for channel, b := range want {
				require.Equal(t, b.String(), text(got, channel))
			}
			require.Equal(t, schema.StateDone, got[len(got)-1].Params.State)
			// Each state that arrived stands where one was said.
			lengths := map[schema.Channel]int{}
			for _, s := range got[:len(got)-1] {
				for _, part := range s.Params.Parts {
					lengths[part.Channel] += len(part.Text)
				}
				if s.Params.State != "" {
					require.Contains(t, order, fmt.Sprintf("%d:%d", lengths[schema.ChannelText], lengths[schema.ChannelReasoning]))
				}
			}
		})
	}
}

// TestBatchPin: what is queued after pin comes before what is said after it.
func TestBatchPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWire(t)
		g := newGeneration("g", p.w, schema.StreamPolicy{})
		// The writer is stuck with this, so that all else waits.
		p.w.add(item{body: []byte(`{"stuck":1}`)})
		synctest.Wait()
		g.Text(t.Context(), schema.ChannelText, "a", 1)
		g.pin()
		p.w.add(item{body: []byte(`{"ack":1}`)})
		g.Text(t.Context(), schema.ChannelText, "b", 1)
		g.Status(schema.GenerateStatus{State: schema.StateDecoding})
		g.pin()
		p.w.add(item{body: []byte(`{"ack":2}`)})
		g.finish()
		var all bytes.Buffer
		go func() { _, _ = io.Copy(&all, p) }()
		<-p.w.flush()
		synctest.Wait()
		var order []string
		for line := range strings.Lines(all.String()) {
			for _, word := range []string{"stuck", `"a"`, `"b"`, "ack\":1", "ack\":2", "decoding", "done"} {
				if strings.Contains(line, word) {
					order = append(order, word)
				}
			}
		}
		require.Equal(t, []string{"stuck", `"a"`, `ack":1`, `"b"`, "decoding", `ack":2`, "done"}, order)
	})
}

// TestBatchPinWhileTaken: the writer is in the middle of what waits when more
// is said and pinned, at every point of it.
func TestBatchPinWhileTaken(t *testing.T) {
	for read := range 6 {
		synctest.Test(t, func(t *testing.T) {
			p := newWire(t)
			g := newGeneration("g", p.w, schema.StreamPolicy{})
			for range 6 {
				g.Text(t.Context(), schema.ChannelText, strings.Repeat("x", deltaBytes), 1)
			}
			var all bytes.Buffer
			_, err := io.CopyN(&all, p, int64(read*deltaBytes))
			require.NoError(t, err)
			synctest.Wait()
			g.Text(t.Context(), schema.ChannelReasoning, "y", 1)
			g.pin()
			g.Text(t.Context(), schema.ChannelText, "z", 1)
			g.pin()
			g.finish()
			go func() { _, _ = io.Copy(&all, p) }()
			<-p.w.flush()
			synctest.Wait()
			got := decode(t, all.Bytes())
			require.Equal(t, strings.Repeat("x", 6*deltaBytes)+"z", text(got, schema.ChannelText))
			require.Equal(t, "y", text(got, schema.ChannelReasoning))
			require.Equal(t, schema.StateDone, got[len(got)-1].Params.State)
		})
	}
}

// TestBatchAllocations: text that waits for its interval takes no memory
// beyond itself, and a notification next to none.
func TestBatchAllocations(t *testing.T) {
	w := newWriter(io.Discard, lines, 0)
	defer func() {
		w.fail(io.ErrClosedPipe)
		<-w.done
	}()
	hour := 1000
	g := newGeneration("g", w, schema.StreamPolicy{IntervalMS: &hour, MaxTokens: 64})
	ctx := context.Background()
	for range 1000 {
		g.Text(ctx, schema.ChannelText, "token ", 1)
	}
	perToken := testing.AllocsPerRun(10_000, func() { g.Text(ctx, schema.ChannelText, "token ", 1) })
	require.Less(t, perToken, 0.2, "a batch of 64 may allocate a few times")
	g.finish()
	<-w.flush()
}

// TestDeltaEncoding: what is written by hand is what encoding/json reads.
func TestDeltaEncoding(t *testing.T) {
	g := &generation{id: "a\"<b>\x7f", seq: 7}
	d := &delta{tokens: 3, parts: []part{
		{label{channel: schema.ChannelReasoning}, []byte("\x00\x1f\"\\<>&\u2028é😀")}, {label{channel: schema.ChannelText}, []byte("bad \xff utf-8")},
		{label{schema.ChannelToolArguments, "g.0", "read\u2028"}, nil}, {label{schema.ChannelToolArguments, "g.\"1", ""}, []byte(`{"a`)},
	}}
	var got said
	require.NoError(t, json.Unmarshal(g.appendDelta(nil, d), &got))
	require.Equal(t, "generate/delta", got.Method)
	require.Equal(t, schema.GenerateDelta{
		GenerationID: g.id, Seq: 7, Tokens: 3,
		Parts: []schema.DeltaPart{{Channel: schema.ChannelReasoning, Text: "\x00\x1f\"\\<>&\u2028é😀"}, {Channel: schema.ChannelText, Text: "bad � utf-8"},
			{Channel: schema.ChannelToolArguments, CallID: "g.0", Name: "read\u2028"}, {Channel: schema.ChannelToolArguments, CallID: "g.\"1", Text: `{"a`}},
	}, got.Params.GenerateDelta)
}
