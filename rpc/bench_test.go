package rpc

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// blocked is a pipe that nobody reads until it is closed.
type blocked struct{ closed chan struct{} }

func (b blocked) Write([]byte) (int, error) {
	<-b.closed
	return 0, io.ErrClosedPipe
}

// BenchmarkText is what a generation's turn spends on a token, while a client
// reads, while it does not (up to the 8 MiB at which the turn waits), and where
// it has asked for no stream.
func BenchmarkText(b *testing.B) {
	for _, client := range []string{"reads", "blocks", "absent"} {
		b.Run(client, func(b *testing.B) {
			pipe := blocked{make(chan struct{})}
			out := io.Writer(pipe)
			if client != "blocks" {
				out = io.Discard
			}
			w := newWriter(out, lines, 0)
			defer w.fail(io.ErrClosedPipe)
			defer close(pipe.closed)
			start := func() *generation {
				return newGeneration("generation", w, schema.StreamPolicy{Off: client == "absent"})
			}
			g := start()
			b.ReportAllocs()
			for n := 1; b.Loop(); n++ {
				if n%(pauseBytes/len("token ")) == 0 {
					g = start()
				}
				g.Text(context.Background(), schema.ChannelText, "token ", 1)
			}
		})
	}
}

// BenchmarkDelivery is what a token costs on its way through a pipe to another
// process, all goroutines and system calls together: cpu-ns/token.
func BenchmarkDelivery(b *testing.B) {
	for _, perDelta := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("%d tokens a delta", perDelta), func(b *testing.B) {
			reader := exec.Command("cat")
			pipe, err := reader.StdinPipe()
			require.NoError(b, err)
			require.NoError(b, reader.Start())
			w := newWriter(pipe, lines, 0)
			hour := 1000
			g := newGeneration("generation", w, schema.StreamPolicy{IntervalMS: &hour, MaxTokens: perDelta})
			b.ReportAllocs()
			before, n := processTime(b), 0
			for ; b.Loop(); n++ {
				g.Text(context.Background(), schema.ChannelText, "token ", 1)
				if n%perDelta == 0 {
					<-w.flush()
				}
			}
			b.ReportMetric(float64(processTime(b)-before)/float64(n), "cpu-ns/token")
			w.fail(io.ErrClosedPipe)
			<-w.done
			require.NoError(b, pipe.Close())
			require.NoError(b, reader.Wait())
		})
	}
}

// processTime is the processor time of this process so far.
func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRequest reads, checks and decodes one generate request of 100 KB.
func BenchmarkRequest(b *testing.B) {
	tool := `{"name":"tool_%d","description":"` + strings.Repeat("What it does. ", 40) + `","inputSchema":{"type":"object","properties":{"path":{"type":"string"},"n":{"type":"integer"}},"required":["path"]}}`
	var tools []string
	for i := range 100 {
		tools = append(tools, fmt.Sprintf(tool, i))
	}
	body := `{"jsonrpc":"2.0","id":1,"method":"generate","params":{"messages":[{"role":"user","content":"` +
		strings.Repeat("text with \\\"escapes\\\" ", 1000) + `"}],"tools":[` + strings.Join(tools, ",") + `]}}`
	limits := schema.DefaultLimits()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		m, problem := parse([]byte(body), limits)
		if problem != nil {
			b.Fatal(problem)
		}
		var p schema.GenerateParams
		if err := schema.Decode(m.params, &p); err != nil {
			b.Fatal(err)
		}
	}
}
