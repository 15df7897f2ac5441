package rpc

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"harmonyd/schema"
)

// BenchmarkText is what a generation's turn spends on a token.
func BenchmarkText(b *testing.B) {
	w := newWriter(io.Discard, lines, 0)
	defer w.fail(io.ErrClosedPipe)
	g := newGeneration("generation", w, schema.StreamPolicy{})
	b.ReportAllocs()
	for b.Loop() {
		g.Text(context.Background(), schema.ChannelText, "token ", 1)
	}
}

// BenchmarkDelivery is what a token costs on its way to the pipe, all
// goroutines together.
func BenchmarkDelivery(b *testing.B) {
	for _, perDelta := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("%d tokens a delta", perDelta), func(b *testing.B) {
			w := newWriter(io.Discard, lines, 0)
			defer w.fail(io.ErrClosedPipe)
			hour := 1000
			g := newGeneration("generation", w, schema.StreamPolicy{IntervalMS: &hour, MaxTokens: perDelta})
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				g.Text(context.Background(), schema.ChannelText, "token ", 1)
				if n%perDelta == 0 {
					<-w.flush()
				}
			}
		})
	}
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
