package terminal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent"
	"harmonyd/engine/enginetest/leaks"
	"harmonyd/schema"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

// fake answers with fixed pieces and keeps what it was asked.
type fake struct {
	pieces  []string
	reason  schema.StopReason
	loadErr error
	err     error
	// logprobs are those of the result.
	logprobs []schema.TokenLogprobs

	asked   schema.GenerateParams
	session schema.SessionNewParams
	closed  int
}

func (f *fake) NewSession(_ context.Context, p schema.SessionNewParams) (schema.SessionResult, error) {
	f.session = p
	return schema.SessionResult{SessionID: "s1", Model: "of the profile", Warnings: []string{"p.json: odd"}}, f.err
}

func (f *fake) Generate(ctx context.Context, p schema.GenerateParams, s agent.Sink, _ agent.Host) (schema.GenerateResult, error) {
	f.asked = p
	for _, piece := range f.pieces {
		s.Text(ctx, schema.ChannelText, piece, 1)
	}
	s.Text(ctx, schema.ChannelReasoning, "not shown", 1)
	return schema.GenerateResult{StopReason: f.reason, Logprobs: f.logprobs, Usage: schema.Usage{
		PromptTokens: 10, CachedTokens: 4, CompletionTokens: len(f.pieces), PrefillMS: 12.4, TTFTMS: 20, TokensPerSecond: 42,
	}}, f.err
}

func (f *fake) LoadModel(_ context.Context, _ schema.ModelLoadParams, report func(done, total int64)) (schema.ModelLoadResult, error) {
	report(1, 2)
	report(2, 2)
	return schema.ModelLoadResult{}, f.loadErr
}

// hub is a models folder that only remembers.
type hub struct {
	list     []Model
	imported [2]string
	removed  string
	pulled   Pull
	got      Pulled
	asked    Conversion
	during   func(context.Context) error
	err      error
}

func (h *hub) Root() string                          { return "/models" }
func (h *hub) List(context.Context) ([]Model, error) { return h.list, h.err }
func (h *hub) Import(ctx context.Context, file, id string, progress func(done, total int64, what string)) (string, error) {
	h.imported = [2]string{file, id}
	progress(5, 10, "weights")
	if h.during != nil {
		return "", h.during(ctx)
	}
	return "some-model", h.err
}

func (h *hub) Pull(_ context.Context, p Pull) (Pulled, error) {
	h.pulled = p
	p.Planned(PullPlan{ID: "owner/m", Commit: "0123456789abcdef", Files: 3, Bytes: 2_000_000, Have: 1_000_000})
	if h.got.Problem == "odd" {
		p.Warn(h.got.Problem)
	}
	p.Progress("model.safetensors", 1_000_000, 2_000_000)
	p.Progress("", 1_000_000, 2_000_000)
	return h.got, h.err
}

func (h *hub) Convert(_ context.Context, v Conversion, progress func(done, total int64)) (Converted, error) {
	h.asked = v
	progress(1, 2)
	return Converted{Model{ID: "m-4bit", SizeBytes: 2_000_000}, 4_000_000}, h.err
}

func (h *hub) Remove(id string) error {
	h.removed = id
	return h.err
}

// ran is what a command line did.
type ran struct {
	out, err string
	code     int
	failure  error
}

func run(t *testing.T, c Commands, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	c.Version, c.Out, c.Err = "1.2.3", &out, &errs
	root := New(c)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return ran{out.String(), errs.String(), ExitCode(err), err}
}

func withAgent(f *fake) Commands {
	return Commands{
		Agent:   func(context.Context, Options) (Agent, func(), error) { return f, func() { f.closed++ }, nil },
		Folders: noFolders,
	}
}

func noFolders(Options, schema.SessionNewParams) (Folders, error) { return Folders{}, nil }

func TestGenerateStreamsAndEndsTheLine(t *testing.T) {
	f := &fake{pieces: []string{"Hel", "lo"}, reason: schema.StopEndTurn}
	r := run(t, withAgent(f), "generate", "Hi")
	require.NoError(t, r.failure)
	require.Equal(t, "Hello\n", r.out)
	require.Empty(t, r.err, "neither a progress bar nor figures without a terminal")
	require.Equal(t, 1, f.closed)
	require.Equal(t, "Hi", f.asked.Messages[0].Content.Text())
	require.Nil(t, f.asked.Prompt)
	require.Equal(t, schema.Sampling{}, f.asked.Sampling, "no flag, no member")

	f.pieces = []string{"a line\n"}
	require.Equal(t, "a line\n", run(t, withAgent(f), "generate", "Hi").out)
	f.pieces = nil
	require.Empty(t, run(t, withAgent(f), "generate", "Hi").out)
}

func TestGenerateFlagsReachTheRequest(t *testing.T) {
	f := &fake{reason: schema.StopMaxTokens}
	c := withAgent(f)
	c.In = strings.NewReader("from standard input")
	r := run(t, c, "generate", "-m", "some/model", "--raw", "-n", "7", "-t", "0", "--top-p", "0.9", "--min-p", "0.1",
		"--top-k", "40", "--seed", "0", "--stop", "a", "--stop", "b,c", "--stats", "-")
	require.NoError(t, r.failure)
	p := f.asked
	require.Equal(t, "some/model", p.Model)
	require.Equal(t, "from standard input", *p.Prompt)
	require.Empty(t, p.Messages)
	require.Equal(t, 7, p.MaxTokens)
	require.Zero(t, *p.Sampling.Temperature, "given, if zero")
	require.Zero(t, *p.Sampling.Seed)
	require.InDelta(t, 0.9, *p.Sampling.TopP, 0)
	require.InDelta(t, 0.1, *p.Sampling.MinP, 0)
	require.Equal(t, 40, *p.Sampling.TopK)
	require.Equal(t, []string{"a", "b,c"}, p.Stop)
	require.Contains(t, r.err, "max_tokens after 0 tokens; 4 of 10 prompt tokens cached, prefill 12ms, first token 20ms, 42.0 tokens/s")
}

func TestEverySamplingFlagReachesTheRequest(t *testing.T) {
	f := &fake{reason: schema.StopMaxTokens}
	require.NoError(t, run(t, withAgent(f), "generate", "--temp", "0.5", "--min-tokens-to-keep", "3", "--xtc-probability", "0.25",
		"--xtc-threshold", "0.125", "--repeat-penalty", "1.5", "--repeat-last-n", "64", "--presence-penalty", "0.75",
		"--presence-context-size", "0", "--frequency-penalty", "-0.5", "--frequency-context-size", "7",
		"--logit-bias", "42=-100", "--logit-bias", "a=b=2", "--logprobs", "3", "Hi").failure)
	require.Equal(t, 3, f.asked.Logprobs)
	require.Equal(t, schema.Sampling{
		Temperature: ptr(0.5), MinTokensToKeep: ptr(3), XTCProbability: ptr(0.25), XTCThreshold: ptr(0.125),
		RepetitionPenalty: ptr(1.5), RepetitionContextSize: ptr(64), PresencePenalty: ptr(0.75), PresenceContextSize: ptr(0),
		FrequencyPenalty: ptr(-0.5), FrequencyContextSize: ptr(7),
		LogitBias: []schema.LogitBias{{Token: ptr(42), Bias: -100}, {Text: "a=b", Bias: 2}},
	}, f.asked.Sampling)
}

// TestEveryMemberOfSamplingHasAFlag keeps a parameter from being for the wire only.
func TestEveryMemberOfSamplingHasAFlag(t *testing.T) {
	help := run(t, Commands{}, "generate", "--help").out
	for i := range reflect.TypeFor[schema.Sampling]().NumField() {
		member, _, _ := strings.Cut(reflect.TypeFor[schema.Sampling]().Field(i).Tag.Get("json"), ",")
		require.Contains(t, help, "--"+flagOf("/sampling/"+member)+" ")
	}
	require.NotContains(t, help, "repeat-last-n", "an alias is not shown")
}

func TestGeneratePrintsLogprobs(t *testing.T) {
	f := &fake{pieces: []string{"Hi"}, reason: schema.StopEndTurn, logprobs: []schema.TokenLogprobs{
		{Token: 5, Text: "H", Logprob: -0.5, Top: []schema.TokenLogprob{{Text: "H", Logprob: -0.5}, {Text: "\n", Logprob: -2}}},
		{Token: 6, Text: "i", Logprob: 0},
	}}
	r := run(t, withAgent(f), "generate", "--logprobs", "2", "Hi")
	require.Equal(t, "Hi\n", r.out)
	require.Equal(t, "\"H\"               -0.5000  60.65%  \"H\" 60.65%  \"\\n\" 13.53%\n\"i\"                0.0000 100.00%\n", r.err)
}

func ptr[T any](v T) *T { return &v }

func TestGenerateTakesASystemMessage(t *testing.T) {
	f := &fake{}
	require.NoError(t, run(t, withAgent(f), "generate", "--system", "Be brief.", "Hi").failure)
	require.Len(t, f.asked.Messages, 2)
	require.Equal(t, schema.RoleSystem, f.asked.Messages[0].Role)
}

func TestGenerateFails(t *testing.T) {
	broken := errors.New("no such model")
	for name, f := range map[string]*fake{
		"while loading":    {loadErr: broken},
		"while generating": {err: broken},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, withAgent(f), "generate", "Hi")
			require.ErrorIs(t, r.failure, broken)
			require.Equal(t, ExitFailed, r.code)
			require.Equal(t, 1, f.closed)
		})
	}
	r := run(t, withAgent(&fake{pieces: []string{"Hel"}, reason: schema.StopCancelled}), "generate", "Hi")
	require.Equal(t, 130, r.code, "as a shell reports an interrupt")
	require.Equal(t, "Hel\n", r.out)
}

func TestModels(t *testing.T) {
	h := &hub{}
	c := Commands{Models: func(Options) (Models, error) { return h, nil }}
	require.Contains(t, run(t, c, "models").out, "No model is installed in /models.\nImport one: harmonyd import")

	h.list = []Model{
		{ID: "a", Family: "llama", Quantization: "affine 4-bit", ContextLength: 8192, SizeBytes: 98_300_000},
		{ID: "b/c", Family: "llama", ContextLength: 1, SizeBytes: 1},
		{ID: "d", Problem: "config.json: no such file"},
	}
	r := run(t, c, "models")
	require.Regexp(t, `a +llama +affine 4-bit +8192 +98.3 MB`, r.out)
	require.Regexp(t, `b/c +llama +plain +1 +1 B`, r.out)
	require.Regexp(t, `d +unusable: config.json: no such file`, r.out)

	h.err = errors.New("permission denied")
	require.ErrorIs(t, run(t, c, "models").failure, h.err)
}

func TestImport(t *testing.T) {
	h := &hub{}
	c := Commands{Models: func(Options) (Models, error) { return h, nil }}
	r := run(t, c, "import", "--id", "my/model", "file.gguf")
	require.NoError(t, r.failure)
	require.Equal(t, [2]string{"file.gguf", "my/model"}, h.imported)
	require.Contains(t, r.out, "Imported some-model.")
	require.Equal(t, ExitUsage, run(t, c, "import").code)
	h.err = errors.New("bad magic")
	r = run(t, c, "import", "file.gguf")
	require.ErrorIs(t, r.failure, h.err)
	require.Empty(t, r.out)
}

func TestPull(t *testing.T) {
	h := &hub{got: Pulled{Model: Model{ID: "owner/m"}, Commit: "0123456789abcdef"}}
	c := Commands{Models: func(Options) (Models, error) { return h, nil }}
	r := run(t, c, "pull", "--id", "m", "owner/m@v1")
	require.NoError(t, r.failure)
	require.Equal(t, "owner/m", h.pulled.Repo)
	require.Equal(t, "v1", h.pulled.Revision)
	require.Equal(t, "m", h.pulled.ID)
	require.Equal(t, "Pulling owner/m at commit 0123456789ab: 3 files, 2.0 MB, of which 1.0 MB are here\n", r.err)
	require.Equal(t, "Pulled owner/m at commit 0123456789ab. Try it: harmonyd generate -m owner/m \"Hello\"\n", r.out)

	h.got.Before = true
	r = run(t, c, "pull", "owner/m")
	require.Empty(t, h.pulled.Revision)
	require.Equal(t, "Up to date: owner/m at commit 0123456789ab.\n", r.out)

	h.got = Pulled{Model: Model{ID: "owner/m", Problem: "model_type: odd"}}
	r = run(t, c, "pull", "owner/m")
	require.NoError(t, r.failure, "the files are what the hub has")
	require.Contains(t, r.err, "warning: owner/m cannot be used as it is: model_type: odd\n")
	require.NotContains(t, r.out, "Try it")
	h.got.Problem = "odd"
	r = run(t, c, "pull", "owner/m")
	require.Contains(t, r.err, "warning: this model cannot be used as it is: odd\n")
	require.Equal(t, 1, strings.Count(r.err, "warning"), "once is enough")

	require.Equal(t, ExitUsage, run(t, c, "pull").code)
	h.err = errors.New("cannot reach the hub")
	r = run(t, c, "pull", "owner/m")
	require.ErrorIs(t, r.failure, h.err)
	require.Empty(t, r.out)
}

func TestConvert(t *testing.T) {
	h := &hub{}
	c := Commands{Models: func(Options) (Models, error) { return h, nil }}
	for want, args := range map[Conversion][]string{
		{Quantize: true}: nil,
		{Quantize: true, Bits: 8, GroupSize: 32, ID: "x"}: {"-b", "8", "-g", "32", "-o", "x"},
		{Quantize: true, Mode: "mxfp4", Dtype: "float16"}: {"--mode", "mxfp4", "--dtype", "float16"},
		{Quantize: true, Recipe: "mixed_2_6"}:             {"--recipe", "mixed_2_6"},
		{Dtype: "bfloat16"}:                               {"--dtype", "bfloat16"},
		{Dequantize: true}:                                {"-d"},
		{Dequantize: true, Dtype: "float32"}:              {"--dequantize", "--dtype", "float32"},
	} {
		r := run(t, c, append([]string{"convert", "m"}, args...)...)
		require.NoError(t, r.failure)
		want.Model = "m"
		require.Equal(t, want, h.asked)
		require.Equal(t, "Converted m to m-4bit: 2.0 MB, 4.00 bits per weight. Try it: harmonyd generate -m m-4bit \"Hello\"\n", r.out)
	}
	require.Equal(t, ExitUsage, run(t, c, "convert").code)
	r := run(t, c, "convert", "m", "-d", "--bits", "4")
	require.Equal(t, ExitUsage, r.code)
	require.ErrorContains(t, r.failure, "--dequantize goes without --bits")
	h.err = errors.New("no room")
	r = run(t, c, "convert", "m")
	require.ErrorIs(t, r.failure, h.err)
	require.Empty(t, r.out)
}

func TestRemove(t *testing.T) {
	h := &hub{}
	c := Commands{Models: func(Options) (Models, error) { return h, nil }}
	r := run(t, c, "remove", "my/model")
	require.NoError(t, r.failure)
	require.Equal(t, "my/model", h.removed)
	require.Equal(t, "Removed my/model.\n", r.out)
	require.Equal(t, ExitUsage, run(t, c, "remove").code)
	h.err = errors.New("model not found")
	r = run(t, c, "remove", "x")
	require.ErrorIs(t, r.failure, h.err)
	require.Empty(t, r.out)
}

func TestInterruptEndsAnImport(t *testing.T) {
	h := &hub{during: func(ctx context.Context) error {
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
		<-ctx.Done()
		return ctx.Err()
	}}
	r := run(t, Commands{Models: func(Options) (Models, error) { return h, nil }}, "import", "file.gguf")
	require.Equal(t, 130, r.code, "as a shell reports an interrupt")
	require.Empty(t, r.out)
}

func TestDoctor(t *testing.T) {
	found := []Finding{{"MLX", OK, "0.32.2", ""}, {"BLAS", Warning, "slow", "make deps"}}
	c := Commands{Doctor: func(context.Context, Options) []Finding { return found }}
	r := run(t, c, "doctor")
	require.Zero(t, r.code, "a warning is no failure")
	require.Regexp(t, `ok +MLX +0.32.2`, r.out)
	require.Regexp(t, `warn +BLAS +slow\n +mend: make deps`, r.out)
	found = append(found, Finding{"models", Missing, "none", "harmonyd import FILE"})
	require.Equal(t, ExitFailed, run(t, c, "doctor").code)
}

func TestOptionsReachTheServer(t *testing.T) {
	var o Options
	var s ServeOptions
	c := Commands{Serve: func(_ context.Context, got Options, gotServe ServeOptions) error {
		o, s = got, gotServe
		return &ExitError{Code: 3}
	}}
	r := run(t, c, "--stdio", "--clientProcessId=12", "--models", "/m", "-m", "x", "--log-level", "debug", "--write-stall", "9",
		"--limit", "maxInFlight=64", "--limit", "maxMessageBytes=4096")
	require.Equal(t, 3, r.code)
	require.Equal(t, ServeOptions{ClientProcessID: 12, WriteStallSeconds: 9}, s)
	require.Equal(t, "/m", o.ModelsRoot)
	require.Equal(t, "x", o.Model)
	limits := schema.DefaultLimits()
	limits.MaxInFlight, limits.MaxMessageBytes = 64, 4096
	require.Equal(t, limits, o.Limits)

	var log bytes.Buffer
	NewLog(&log, o).Debug("seen")
	require.Contains(t, log.String(), "seen")
	run(t, c)
	log.Reset()
	NewLog(&log, o).Info("not seen")
	require.Empty(t, log.String(), "warnings only, unless asked")
}

func TestNumbersThatMeanNothing(t *testing.T) {
	for _, flag := range []string{"--write-stall=-1", "--write-stall=99999999999", "--clientProcessId=-1"} {
		r := run(t, Commands{}, flag) // without a Serve: it must not be reached
		require.Equal(t, ExitUsage, r.code, flag)
		require.ErrorContains(t, r.failure, "want 0 to 2147483647", flag)
	}
}

// TestGenerateChecksItsFlagsFirst: neither a model nor standard input may be
// touched for a request that cannot be.
func TestGenerateChecksItsFlagsFirst(t *testing.T) {
	for want, args := range map[string][]string{
		"--max-tokens: got -1, want 1 to 2147483647": {"-n", "-1"},
		"--top-p: got 5, want 0 to 1":                {"--top-p", "5"},
		"--min-p: got -1, want 0 to 1":               {"--min-p=-1"},
		"--top-k: got -1, want 0 to 2147483647":      {"--top-k=-1"},
		"--temperature: got 101, want 0 to 100":      {"-t", "101"},
		"--seed: got -1, want 0 to 9007199254740991": {"--seed=-1"},
		"--stop: got 0 characters, want at least 1":  {"--stop", "a", "--stop", ""},
		"want a finite number":                       {"-t", "NaN"},
		"--temperature: got -1, want 0 to 100":       {"--temp=-1"},
		"--min-tokens-to-keep: got 0, want 1":        {"--min-tokens-to-keep", "0"},
		"--xtc-probability: got 2, want 0 to 1":      {"--xtc-probability", "2"},
		"--xtc-threshold: got 0.6, want 0 to 0.5":    {"--xtc-threshold", "0.6"},
		"--repetition-penalty: got 0, want 0.01":     {"--repeat-penalty", "0"},
		"--repetition-context-size: got -1, want 0":  {"--repeat-last-n=-1"},
		"--presence-penalty: got 101, want -100":     {"--presence-penalty", "101"},
		"--presence-context-size: got -1, want 0":    {"--presence-context-size=-1"},
		"--frequency-penalty: got -101, want -100":   {"--frequency-penalty=-101"},
		"--frequency-context-size: got -1, want 0":   {"--frequency-context-size=-1"},
		"--logit-bias: got 1001, want -1000 to 1000": {"--logit-bias", "a=1001"},
		"want TOKEN=BIAS":                            {"--logit-bias", "=5"},
		"want a finite number behind the =":          {"--logit-bias", "a=b"},
		"--logprobs: got 21, want 0 to 20":           {"--logprobs", "21"},
		"want an integer":                            {"--top-k", "0.5"},
		"\"x\" for \"--seed\" flag: want an integer": {"--seed", "x"},
	} {
		r := run(t, Commands{}, append([]string{"generate", "-"}, args...)...)
		require.Equal(t, ExitUsage, r.code, want)
		require.ErrorContains(t, r.failure, want)
	}
}

func TestWhatMakesNoSense(t *testing.T) {
	for want, args := range map[string][]string{
		`models: takes no arguments, got "x"`:                                                    {"models", "x"},
		`schema: got "generate", want one of ["prompt-config" "profiles"]`:                       {"schema", "generate"},
		`unknown command "modles"; did you mean "models"? (harmonyd --help lists them)`:          {"modles"},
		"--stdio=false: there is no other way to serve":                                          {"--stdio=false"},
		`invalid argument "maxInFlight" for "--limit" flag: got "maxInFlight", want NAME=NUMBER`: {"--limit", "maxInFlight"},
		`invalid argument "most=1" for "--limit" flag: no limit "most": want one of maxMessageBytes, maxHeaderLineBytes, maxHeaderBytes, ` +
			`maxDepth, maxIdBytes, maxInFlight, maxQueuedGenerations, maxTools, maxToolBytes, maxSessions`: {"--limit", "most=1"},
		`invalid argument "maxInFlight=0" for "--limit" flag: maxInFlight: got 0, want 1 to 65536`: {"--limit", "maxInFlight=0"},
	} {
		r := run(t, Commands{}, args...)
		require.Equal(t, ExitUsage, r.code, want)
		require.EqualError(t, r.failure, want)
	}
}

func TestModelFromTheEnvironment(t *testing.T) {
	t.Setenv("HARMONYD_MODEL", "from/env")
	f := &fake{}
	require.NoError(t, run(t, withAgent(f), "generate", "Hi").failure)
	require.Equal(t, "from/env", f.asked.Model)
	require.NoError(t, run(t, withAgent(f), "generate", "-m", "flag", "Hi").failure)
	require.Equal(t, "flag", f.asked.Model)
}

func TestHelpTeaches(t *testing.T) {
	r := run(t, Commands{}, "--help")
	for _, want := range []string{"language model", "Examples:", "harmonyd generate", "doctor", "--clientProcessId"} {
		require.Contains(t, r.out, want)
	}
	for _, command := range []string{"generate", "import", "pull", "convert", "remove", "schema"} {
		require.Contains(t, run(t, Commands{}, command, "--help").out, "Examples:")
	}
	require.Equal(t, "harmonyd 1.2.3\n", run(t, Commands{}, "version").out)
	require.Equal(t, "harmonyd 1.2.3\n", run(t, Commands{}, "--version").out)
}

func TestProgressBar(t *testing.T) {
	var screen bytes.Buffer
	p := newProgress(&screen, true, "load")
	p.report(1, 4)
	p.report(4, 4)
	p.done()
	require.NotContains(t, screen.String(), "\n\n")
	p = newProgress(&screen, true, "pull")
	p.reportFile("large.safetensors", 1, 4<<20)
	p.reportFile("config.json", 1, 2)
	p.reportFile("", 2, 4<<20)
	p.reportFile("large.safetensors", 4<<20, 4<<20)
	p.done()
	require.NotContains(t, screen.String(), "config.json", "too small to be seen")
	newProgress(&screen, true, "load").done() // nothing was reported
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 92_871_040: "92.9 MB", 13_400_000_000: "13.4 GB"} {
		require.Equal(t, want, bytesText(n))
	}
}
