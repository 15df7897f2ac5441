//go:build !scripted

package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/adrg/xdg"

	"harmonyd/agent"
	"harmonyd/editors/terminal"
	"harmonyd/engine"
	"harmonyd/engine/bench"
	"harmonyd/engine/hub"
	"harmonyd/engine/job"
	"harmonyd/engine/native"
)

// mlxEngine gives the engine the types that the agent declares.
type mlxEngine struct{ *engine.Engine }

func (e mlxEngine) Open(ctx context.Context, model string) (*agent.Model, error) {
	o, err := e.Engine.Open(ctx, model)
	if err != nil {
		return nil, err
	}
	m := &agent.Model{Info: o.Info, Tokenizer: nativeTokenizer{o.Tokenizer}, TemplateSource: o.TemplateSource}
	if o.Template != nil {
		m.Template = o.Template
	}
	return m, nil
}

func (e mlxEngine) Start(r job.Request) (agent.Generation, error) {
	g, err := e.Engine.Start(r)
	if err != nil {
		return nil, err
	}
	return g, nil
}

type nativeTokenizer struct{ *native.Tokenizer }

func (t nativeTokenizer) NewStream() agent.TokenStream { return t.Tokenizer.NewStream() }

func (t nativeTokenizer) EncodePlain(text string, plain [][2]int) ([]int32, error) {
	spans := make([]native.Span, len(plain))
	for i, p := range plain {
		spans[i] = native.Span{From: p[0], To: p[1]}
	}
	return t.EncodeSpans(text, spans)
}

// openEngine opens the engine over MLX. Models load when they are asked for.
func openEngine(o terminal.Options, log *slog.Logger) (wiredEngine, func(), error) {
	e, err := engine.New(engine.Options{Root: modelsRoot(o), DefaultModel: o.Model, Log: log})
	if err != nil {
		return nil, nil, err
	}
	return mlxEngine{e}, func() { _ = e.Close() }, nil
}

func modelsRoot(o terminal.Options) string {
	return hub.Root(o.ModelsRoot, filepath.Join(xdg.DataHome, "harmonyd"))
}

// models gives the models folder the types that the terminal declares.
type models struct{ *hub.Hub }

func openModels(o terminal.Options) (terminal.Models, error) {
	return models{hub.New(modelsRoot(o))}, nil
}

func (m models) List(ctx context.Context) ([]terminal.Model, error) {
	list, err := m.Hub.List(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]terminal.Model, len(list))
	for i, l := range list {
		rows[i] = modelRow(l)
	}
	return rows, nil
}

// modelRow takes the architectures that the engine lacks for a problem, too.
func modelRow(m hub.Model) terminal.Model {
	return terminal.Model{
		ID: m.ID, Family: m.Family, Quantization: m.Quantization,
		ContextLength: m.ContextLength, SizeBytes: m.SizeBytes, Problem: engine.Problem(m),
	}
}

func (m models) Pull(ctx context.Context, p terminal.Pull) (terminal.Pulled, error) {
	remote, err := hub.NewRemote()
	if err != nil {
		return terminal.Pulled{}, err
	}
	got, err := m.Hub.Pull(ctx, remote, hub.Pull{
		Repo: p.Repo, Revision: p.Revision, ID: p.ID, Progress: p.Progress,
		Planned: func(plan hub.Planned) { p.Planned(terminal.PullPlan(plan)) },
		Configured: func(folder string) {
			if problem := engine.Problem(hub.Model{Folder: folder}); problem != "" {
				p.Warn(problem)
			}
		},
	})
	if err != nil {
		return terminal.Pulled{}, err
	}
	return terminal.Pulled{Model: modelRow(got.Model), Commit: got.Commit, Before: got.Before}, nil
}

func (m models) Convert(ctx context.Context, v terminal.Conversion, progress func(done, total int64)) (terminal.Converted, error) {
	got, err := engine.Convert(ctx, m.Hub, v.Model, v.ID, engine.Conversion{
		Quantize: v.Quantize, Bits: v.Bits, GroupSize: v.GroupSize, Mode: v.Mode, Recipe: v.Recipe,
		Dequantize: v.Dequantize, Dtype: v.Dtype,
	}, progress)
	if err != nil {
		return terminal.Converted{}, err
	}
	return terminal.Converted{Model: modelRow(got.Model), Parameters: got.Parameters}, nil
}

// harness gives the measurement harness the types that the terminal declares.
type harness struct{ o terminal.Options }

func openBench(o terminal.Options) (terminal.Bench, error) { return harness{o}, nil }

func (h harness) Measure(ctx context.Context, b terminal.BenchOptions, say func(string)) (terminal.BenchResult, error) {
	s, err := bench.Measure(ctx, bench.Options{
		Root: modelsRoot(h.o), Model: h.o.Model, Runs: b.Runs, PromptTokens: b.PromptTokens, Tokens: b.Tokens,
		Temperature: b.Temperature, Seed: b.Seed, Weights: engine.WeightForm(b.Weights), Threads: b.Threads, Peers: b.Peers, Python: b.Python, GGUF: b.GGUF,
		Version: version(), Label: b.Label, Say: say,
	})
	if err != nil {
		return nil, err
	}
	return summary{s}, nil
}

func (h harness) Read(text []byte) (terminal.BenchResult, error) {
	s, err := bench.ReadSummary(text)
	if err != nil {
		return nil, err
	}
	return summary{s}, nil
}

type summary struct{ *bench.Summary }

func (s summary) WriteComparison(w io.Writer, old terminal.BenchResult) error {
	return s.Summary.WriteComparison(w, old.(summary).Summary)
}

// examine asks the engine what it runs on.
func examine(ctx context.Context, o terminal.Options) []terminal.Finding {
	var rows []terminal.Finding
	for _, f := range engine.Examine(ctx, modelsRoot(o)) {
		rows = append(rows, terminal.Finding{Name: f.Name, State: terminal.State(f.State), Detail: f.Detail, Mend: f.Mend})
	}
	return rows
}
