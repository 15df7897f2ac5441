package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// bench is a harness that only remembers.
type bench struct {
	asked  BenchOptions
	during func(ctx context.Context) error
	read   string
}

func (b *bench) Measure(ctx context.Context, o BenchOptions, say func(string)) (BenchResult, error) {
	b.asked = o
	say("warm up")
	if b.during != nil {
		if err := b.during(ctx); err != nil {
			return nil, err
		}
	}
	return benchResult("new"), nil
}

func (b *bench) Read(text []byte) (BenchResult, error) {
	if b.read = string(text); b.read == "broken" {
		return nil, errors.New("a broken summary")
	}
	return benchResult(text), nil
}

type benchResult string

func (r benchResult) WriteTable(w io.Writer) error {
	_, err := fmt.Fprintln(w, "table of", string(r))
	return err
}

func (r benchResult) WriteComparison(w io.Writer, old BenchResult) error {
	_, err := fmt.Fprintln(w, r, "after", old)
	return err
}

func (r benchResult) JSON() ([]byte, error) { return []byte("{" + r + "}\n"), nil }

func withBench(b *bench) Commands {
	return Commands{Bench: func(Options) (Bench, error) { return b, nil }}
}

func TestBenchMeasures(t *testing.T) {
	t.Setenv("HARMONYD_PYTHON", "/a/python")
	b := &bench{}
	r := run(t, withBench(b), "bench")
	require.NoError(t, r.failure)
	require.Equal(t, "table of new\n", r.out)
	require.Empty(t, r.err, "no status without a terminal")
	require.Equal(t, BenchOptions{
		Runs: 5, PromptTokens: 512, Tokens: 128, Weights: "stored", Peers: []string{"mlx-lm", "llama.cpp"}, Python: "/a/python",
	}, b.asked)

	r = run(t, withBench(b), "bench", "--runs", "7", "--prompt-tokens", "9", "--tokens", "8", "-t", "0.5", "--seed", "18446744073709551615",
		"--label", "l", "--weights", "float32", "--threads", "3", "--peers", "", "--python", "p", "--gguf", "g")
	require.NoError(t, r.failure)
	require.Equal(t, BenchOptions{
		Runs: 7, PromptTokens: 9, Tokens: 8, Temperature: 0.5, Seed: 1<<64 - 1, Weights: "float32", Threads: 3, Label: "l", Peers: []string{}, Python: "p", GGUF: "g",
	}, b.asked)
}

func TestBenchShowsItsStatusOnATerminal(t *testing.T) {
	c := withBench(&bench{})
	c.ErrIsTerminal = true
	r := run(t, c, "bench")
	require.NoError(t, r.failure)
	require.Equal(t, "\r\x1b[Kwarm up\r\x1b[K", r.err)
}

func TestBenchWritesAndCompares(t *testing.T) {
	b, folder := &bench{}, t.TempDir()
	out, old := filepath.Join(folder, "new", "summary.json"), filepath.Join(folder, "old.json")
	require.NoError(t, os.WriteFile(old, []byte("old"), 0o600))
	r := run(t, withBench(b), "bench", "-o", out, "--compare", old)
	require.NoError(t, r.failure)
	require.Equal(t, "table of new\nnew after old\n", r.out)
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "{new}\n", string(text))

	// The same file for both: what it was is read before it is written.
	require.NoError(t, run(t, withBench(b), "bench", "-o", old, "--compare", old).failure)
	require.Equal(t, "old", b.read)

	require.Equal(t, "{new}\n", run(t, withBench(b), "bench", "--json").out)
}

func TestBenchRefuses(t *testing.T) {
	folder := t.TempDir()
	broken := filepath.Join(folder, "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte("broken"), 0o600))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--runs", "0"}, ExitUsage, "--runs: got 0, want 1 to 2147483647"},
		{[]string{"--prompt-tokens", "1"}, ExitUsage, "--prompt-tokens: got 1, want 2 to 2147483647"},
		{[]string{"--tokens", "-1"}, ExitUsage, "--tokens: got -1, want 2 to 2147483647"},
		{[]string{"--threads", "-1"}, ExitUsage, "--threads: got -1, want 0 to 2147483647"},
		{[]string{"--weights", "int1"}, ExitUsage, `--weights: got "int1", want stored or float32`},
		{[]string{"-t", "NaN"}, ExitUsage, "--temperature: got NaN, want 0 to 100"},
		{[]string{"--seed", "-1"}, ExitUsage, "invalid argument"},
		{[]string{"--json", "--compare", "x"}, ExitUsage, "--json and --compare: "},
		{[]string{"word"}, ExitUsage, `bench: takes no arguments, got "word"`},
		{[]string{"--compare", filepath.Join(folder, "none")}, ExitFailed, "no such file"},
		{[]string{"--compare", broken}, ExitFailed, "broken.json: a broken summary"},
		{[]string{"-o", filepath.Join(broken, "x")}, ExitFailed, "broken.json"},
	} {
		b := &bench{}
		r := run(t, withBench(b), append([]string{"bench"}, c.args...)...)
		require.ErrorContains(t, r.failure, c.want)
		require.Equal(t, c.code, r.code, "%v", c.args)
		require.Equal(t, c.args[0] == "-o", b.asked.Runs > 0, "%v: measured in vain", c.args)
		require.Empty(t, r.out)
	}
	none := Commands{Bench: func(Options) (Bench, error) { return nil, errors.New("no engine") }}
	require.EqualError(t, run(t, none, "bench").failure, "no engine")
}

func TestBenchEndsWithCtrlC(t *testing.T) {
	b := &bench{during: func(ctx context.Context) error {
		self, err := os.FindProcess(os.Getpid())
		require.NoError(t, err)
		require.NoError(t, self.Signal(os.Interrupt))
		<-ctx.Done()
		return ctx.Err()
	}}
	r := run(t, withBench(b), "bench")
	require.Equal(t, exitInterrupted, r.code)
	b.during = func(context.Context) error { return errors.New("two runs gave different tokens") }
	r = run(t, withBench(b), "bench")
	require.Equal(t, ExitFailed, r.code)
	require.EqualError(t, r.failure, "two runs gave different tokens")
}
