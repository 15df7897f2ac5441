package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// Bench measures the engine beside its peers.
type Bench interface {
	// Measure runs everything. Say is told what is being done.
	Measure(ctx context.Context, b BenchOptions, say func(what string)) (BenchResult, error)
	// Read reads what a result's JSON wrote.
	Read(text []byte) (BenchResult, error)
}

// BenchResult is what a measurement found out.
type BenchResult interface {
	WriteTable(w io.Writer) error
	// WriteComparison writes what changed from old, a result of the same Bench.
	WriteComparison(w io.Writer, old BenchResult) error
	JSON() ([]byte, error)
}

// BenchOptions are the flags of the bench command.
type BenchOptions struct {
	Runs, PromptTokens, Tokens int
	Temperature                float32
	Seed                       uint64
	// Weights is the form of the engine's weights in memory: stored or float32.
	Weights string
	// Threads is how many every program computes with; 0 leaves it to the engine.
	Threads int
	// Label is what the person calls what is measured.
	Label string
	// Peers are the other programs to measure.
	Peers []string
	// Python runs those that are Python programs, and GGUF is the file for those
	// that want one. Empty means what make deps left.
	Python, GGUF string
}

// check refuses numbers that mean nothing.
func (b BenchOptions) check() error {
	for _, f := range []struct {
		flag         string
		value, least int
	}{{"runs", b.Runs, 1}, {"prompt-tokens", b.PromptTokens, 2}, {"tokens", b.Tokens, 2}, {"threads", b.Threads, 0}} {
		if f.value < f.least || f.value > math.MaxInt32 {
			return fmt.Errorf("--%s: got %d, want %d to %d", f.flag, f.value, f.least, math.MaxInt32)
		}
	}
	if !(b.Temperature >= 0 && b.Temperature <= 100) {
		return fmt.Errorf("--temperature: got %v, want 0 to 100", b.Temperature)
	}
	if b.Weights != "stored" && b.Weights != "float32" {
		return fmt.Errorf("--weights: got %q, want stored or float32", b.Weights)
	}
	return nil
}

// benchFiles are where results come from and go to.
type benchFiles struct {
	asJSON       bool
	out, compare string
}

func benchCommand(c Commands, o *Options) *cobra.Command {
	var b BenchOptions
	var f benchFiles
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the engine beside its peers",
		Long: `bench runs the same prompt through this engine and through other programs that
run the same model, in turn, repetition by repetition, and measures in the same
run what the machine can do at most. It reports medians and ranges of load time,
time to first token, prefill and decode speed, and what a token costs whatever
the machine: operations, crossings into C, blocking reads, bytes, allocations.

Figures mean something on a machine that does nothing else; the report says what
others used of it. The peers are mlx-lm (with the weights as float32),
mlx-lm-packed (with the weights as they are stored) and llama.cpp. They need a
Python with their packages: engine/deps.sh venv makes one in about 15 minutes. A
peer that is missing is reported, and the run goes on.`,
		Example: `  harmonyd bench
  harmonyd bench -o before.json                # change something, build, then
  harmonyd bench --compare before.json
  harmonyd bench --peers "" --runs 10 --tokens 256`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.check(); err != nil {
				return usage(err)
			}
			if f.asJSON && f.compare != "" {
				return usage(errors.New("--json and --compare: a comparison is for people; write the JSON with -o"))
			}
			return runBench(cmd.Context(), c, *o, b, f)
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&b.Runs, "runs", 5, "repetitions, besides one that does not count")
	fl.IntVar(&b.PromptTokens, "prompt-tokens", 512, "length of the prompt")
	fl.IntVar(&b.Tokens, "tokens", 128, "tokens to generate")
	fl.Float32VarP(&b.Temperature, "temperature", "t", 0, "0 is the most likely answer, and makes the tokens of all programs comparable")
	fl.Uint64Var(&b.Seed, "seed", 0, "for a temperature above 0")
	fl.StringVar(&b.Weights, "weights", "stored", "the engine's weights in memory: `stored` as the model has them, or float32 as the peer mlx-lm")
	fl.IntVar(&b.Threads, "threads", 0, "threads of every program; 0 is as many as there are cores")
	fl.StringSliceVar(&b.Peers, "peers", []string{"mlx-lm", "llama.cpp"}, "`names` of the programs to measure beside this one")
	fl.StringVar(&b.Python, "python", os.Getenv("HARMONYD_PYTHON"), "`file` of a Python with the peers' packages (environment HARMONYD_PYTHON)")
	fl.StringVar(&b.GGUF, "gguf", "", "`file` that llama.cpp runs; the one that make deps fetched for the default model")
	fl.StringVar(&b.Label, "label", "", "`text` that names this build in the result")
	fl.StringVar(&f.compare, "compare", "", "print what changed from the result in this `file`")
	fl.BoolVar(&f.asJSON, "json", false, "print the result as JSON instead of tables")
	fl.StringVarP(&f.out, "output", "o", "", "write the result as JSON to this `file`")
	return cmd
}

func runBench(ctx context.Context, c Commands, o Options, b BenchOptions, f benchFiles) error {
	bench, err := c.Bench(o)
	if err != nil {
		return err
	}
	var old BenchResult
	if f.compare != "" { // before minutes are spent on what it is to be compared with
		text, err := os.ReadFile(f.compare)
		if err != nil {
			return err
		}
		if old, err = bench.Read(text); err != nil {
			return fmt.Errorf("%s: %w", f.compare, err)
		}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	r, err := bench.Measure(ctx, b, func(what string) { c.status(what) })
	c.status("")
	if err != nil {
		return interrupted(ctx, err)
	}
	if f.out != "" {
		if err := writeResult(f.out, r); err != nil {
			return err
		}
	}
	if f.asJSON {
		text, err := r.JSON()
		if err != nil {
			return err
		}
		_, err = c.Out.Write(text)
		return err
	}
	if err := r.WriteTable(c.Out); err != nil {
		return err
	}
	if old != nil {
		return r.WriteComparison(c.Out, old)
	}
	return nil
}

// writeResult writes the JSON to a file and makes its folder.
func writeResult(file string, r BenchResult) error {
	text, err := r.JSON()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
