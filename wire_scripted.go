//go:build scripted

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"harmonyd/agent"
	"harmonyd/editors/terminal"
	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
)

// scriptVariable names the script of the scripted engine.
const scriptVariable = "HARMONYD_SCRIPT"

// scriptedEngine gives the scripted engine the types that the agent declares.
type scriptedEngine struct{ *enginetest.Engine }

func (e scriptedEngine) Open(ctx context.Context, model string) (*agent.Model, error) {
	o, err := e.Engine.Open(ctx, model)
	if err != nil {
		return nil, err
	}
	m := &agent.Model{Info: o.Info, Tokenizer: scriptedTokenizer{o.Tokenizer}}
	if o.Template != nil {
		m.Template = o.Template
	}
	return m, nil
}

func (e scriptedEngine) Start(r job.Request) (agent.Generation, error) {
	g, err := e.Engine.Start(r)
	if err != nil {
		return nil, err
	}
	return g, nil
}

type scriptedTokenizer struct{ *enginetest.Tokenizer }

func (t scriptedTokenizer) NewStream() agent.TokenStream { return t.Tokenizer.NewStream() }

// openEngine opens the engine that the script describes; without a script it
// is the one that echoes.
func openEngine(terminal.Options, *slog.Logger) (wiredEngine, func(), error) {
	var script enginetest.Script
	if file := os.Getenv(scriptVariable); file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", scriptVariable, err)
		}
		defer f.Close()
		if script, err = enginetest.ReadScript(f); err != nil {
			return nil, nil, fmt.Errorf("%s: %s: %w", scriptVariable, file, err)
		}
	}
	e, err := enginetest.New(script)
	if err != nil {
		return nil, nil, err
	}
	return scriptedEngine{e}, func() { _ = e.Close() }, nil
}

func openModels(terminal.Options) (terminal.Models, error) {
	return nil, fmt.Errorf("the scripted server has no models folder")
}

func openBench(terminal.Options) (terminal.Bench, error) {
	return nil, errors.New("the scripted server has no engine to measure")
}

func examine(context.Context, terminal.Options) []terminal.Finding {
	return []terminal.Finding{{Name: "engine", State: terminal.OK, Detail: "scripted"}}
}
