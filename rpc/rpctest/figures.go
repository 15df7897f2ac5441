package rpctest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Figures measures what the wire costs in time and shows each figure beside its
// goal, as make bench-wire has it. Nothing of it is asserted: a machine that does
// other things as well misses goals.
type Figures struct {
	// Scripted and Real are the paths of the two servers. The real one runs its
	// default model, which must be installed.
	Scripted, Real string
	// Samples is how many times each answer is waited for.
	Samples int
	// Mark is what stands behind a goal that is missed.
	Mark string
}

// figure is a row of the table. A goal of 0 is none.
type figure struct {
	name, what, unit string
	samples          []float64
	goal             float64
	// worst says that the goal is for the 99th percentile, not for the median.
	worst bool
}

// Show measures and prints.
func (f Figures) Show(ctx context.Context, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(w, "figure\twhat\tmedian\tp99\tspread\tn\tgoal\t"); err != nil {
		return err
	}
	var failed error
	for _, measure := range []func(context.Context) ([]figure, error){f.scripted, f.streaming, f.real, f.goBenchmarks} {
		rows, err := measure(ctx)
		failed = errors.Join(failed, err)
		for _, r := range rows {
			if len(r.samples) == 0 {
				failed = errors.Join(failed, fmt.Errorf("%s, %s: not measured", r.name, r.what))
				continue
			}
			if _, err := fmt.Fprintln(w, r.line(f.Mark)); err != nil {
				return err
			}
		}
	}
	return errors.Join(w.Flush(), failed)
}

func (r figure) line(mark string) string {
	slices.Sort(r.samples)
	at := func(share float64) float64 { return r.samples[int(share*float64(len(r.samples)-1)+0.5)] }
	goal := "–\t"
	if r.goal > 0 || r.unit == "allocations" {
		judged, of := at(0.5), "median"
		if r.worst {
			judged, of = at(0.99), "p99"
		}
		goal = fmt.Sprintf("%s ≤ %s %s\t", of, number(r.goal), r.unit)
		if judged > r.goal {
			goal += mark
		}
	}
	return fmt.Sprintf("%s\t%s\t%s %s\t%s\t%s–%s\t%d\t%s", r.name, r.what, number(at(0.5)), r.unit, number(at(0.99)),
		number(at(0)), number(at(1)), len(r.samples), goal)
}

// number is x with three digits that count.
func number(x float64) string {
	if x >= 100 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// goBenchmarks are the figures of single functions, by the benchmarks beside them.
func (f Figures) goBenchmarks(ctx context.Context) ([]figure, error) {
	const repetitions = "10"
	samples := map[string][]float64{} // by benchmark and unit
	var failed error
	for pkg, pattern := range map[string]string{"./rpc": "Text|Delivery", "./engine": "Ring"} {
		out, err := exec.CommandContext(ctx, "go", "test", pkg, "-run", "^$", "-bench", pattern, "-benchmem",
			"-count", repetitions, "-benchtime", "200ms").CombinedOutput()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("the benchmarks of %s: %w\n%s", pkg, err, out))
		}
		for line := range strings.Lines(string(out)) {
			readBenchmark(line, samples)
		}
	}
	var rows []figure
	for _, r := range []struct {
		what, key string
		goal      float64
	}{
		{"engine's thread, a token, while a client reads or none is there", "Ring/emptied ns/op", 2},
		{"engine's thread, a step, while a client has stopped reading for good", "Ring/full ns/op", 2},
		{"turn, a token, while a client reads", "Text/reads ns/op", 2},
		{"turn, a token, while a client does not read", "Text/blocks ns/op", 2},
		{"turn, a token, of no stream", "Text/absent ns/op", 2},
		{"delivery, processor time of a token, 1 token a delta", "Delivery/1_tokens_a_delta cpu-ns/token", 25},
		{"delivery, 4 tokens a delta: the default at 120 tokens/s", "Delivery/4_tokens_a_delta cpu-ns/token", 2},
		{"delivery, 16 tokens a delta: the default at 480 tokens/s", "Delivery/16_tokens_a_delta cpu-ns/token", 2},
	} {
		name, _, _ := strings.Cut(r.key, " ")
		nanoseconds := samples[r.key]
		for i := range nanoseconds {
			nanoseconds[i] /= 1000
		}
		rows = append(rows, figure{"S1", r.what, "µs", nanoseconds, r.goal, false})
		if !strings.HasPrefix(name, "Delivery") {
			rows = append(rows, figure{"S1", "  allocations of it", "allocations", samples[name+" allocs/op"], 0, false})
		}
	}
	return rows, failed
}

// readBenchmark adds the values of a line of go test -bench. Its names end in the
// number of processors.
func readBenchmark(line string, samples map[string][]float64) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
		return
	}
	name := strings.TrimPrefix(fields[0], "Benchmark")
	if i := strings.LastIndex(name, "-"); i > 0 {
		name = name[:i]
	}
	for i := 2; i+1 < len(fields); i += 2 {
		if x, err := strconv.ParseFloat(fields[i], 64); err == nil {
			key := name + " " + fields[i+1]
			samples[key] = append(samples[key], x)
		}
	}
}

// samples is how often an answer is waited for.
func (f Figures) samples() int { return cmp.Or(f.Samples, 100) }
