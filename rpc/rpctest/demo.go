package rpctest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"harmonyd/schema"
)

// Demo starts a harmonyd binary as an editor would, has a conversation with
// its default model, cancels another, and shows what happens on out. Progress
// of what takes long comes from the server on standard error.
func Demo(ctx context.Context, path string, out io.Writer) error {
	begin := time.Now()
	c, err := Spawn(ctx, os.Stderr, path)
	if err != nil {
		return err
	}
	c.Headers = true
	d := &demo{client: c, out: out}
	for _, step := range []func() error{d.open, d.answer, d.cancel, d.close} {
		if err := step(); err != nil {
			return errors.Join(err, d.err)
		}
	}
	d.printf("\nDone in %.1f s.\n", time.Since(begin).Seconds())
	return d.err
}

// demo prints until printing fails.
type demo struct {
	client *Client
	out    io.Writer
	err    error
}

func (d *demo) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(d.out, format, args...); d.err == nil {
		d.err = err
	}
}

func (d *demo) open() error {
	r, err := d.client.Initialize()
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	d.printf("→ initialize\n← %s %s, protocol %d\n", r.ServerInfo.Name, r.ServerInfo.Version, r.ProtocolVersion)
	var models schema.ModelsListResult
	if err := d.client.Call("models/list", nil, &models, nil); err != nil {
		return fmt.Errorf("models/list: %w", err)
	}
	d.printf("→ models/list\n")
	for _, m := range models.Models {
		d.printf("← %s (%s, %d tokens of context, %.0f MB)\n", m.ID, m.Family, m.ContextLength, float64(m.SizeBytes)/1e6)
	}
	return nil
}

func (d *demo) answer() error {
	const question = "What is a language server? Answer in two sentences."
	d.printf("\n→ generate %q\n← ", question)
	greedy := 0.0
	r, err := d.generate(schema.GenerateParams{
		Messages:  []schema.Message{{Role: schema.RoleUser, Content: schema.TextContent(question)}},
		Sampling:  schema.Sampling{Temperature: &greedy},
		MaxTokens: 96,
	}, func(int) {})
	if err != nil {
		return err
	}
	u := r.Usage
	d.printf("\n  %s: %d prompt tokens, %d generated, first after %.0f ms, %.1f tokens/s\n",
		r.StopReason, u.PromptTokens, u.CompletionTokens, u.TTFTMS, u.TokensPerSecond)
	return nil
}

// cancelAfter is how many tokens the second answer gets.
const cancelAfter = 12

func (d *demo) cancel() error {
	const question = "Write a long story about a lighthouse keeper and the sea."
	d.printf("\n→ generate %q\n← ", question)
	var cancelled time.Time
	r, err := d.generate(schema.GenerateParams{
		GenerationID: "second",
		Messages:     []schema.Message{{Role: schema.RoleUser, Content: schema.TextContent(question)}},
		MaxTokens:    1000,
	}, func(tokens int) {
		if tokens < cancelAfter || !cancelled.IsZero() {
			return
		}
		cancelled = time.Now()
		if err := d.client.Notify("cancel", schema.CancelParams{GenerationID: "second"}); err != nil {
			d.err = err
		}
	})
	if err != nil {
		return err
	}
	if r.StopReason != schema.StopCancelled {
		d.printf("\n  %s before it could be cancelled\n", r.StopReason)
		return nil
	}
	d.printf("…\n→ cancel\n  %s after %d tokens, answered within %.0f ms\n",
		r.StopReason, r.Usage.CompletionTokens, float64(time.Since(cancelled).Microseconds())/1e3)
	return nil
}

// generate prints text as it comes and tells the tokens so far.
func (d *demo) generate(p schema.GenerateParams, heard func(tokens int)) (schema.GenerateResult, error) {
	var r schema.GenerateResult
	tokens := 0
	err := d.client.Call("generate", p, &r, func(m Message) {
		var delta schema.GenerateDelta
		if m.Method != "generate/delta" || json.Unmarshal(m.Params, &delta) != nil {
			return
		}
		for _, part := range delta.Parts {
			d.printf("%s", part.Text)
		}
		tokens += delta.Tokens
		heard(tokens)
	})
	if err != nil {
		err = fmt.Errorf("generate: %w", err)
	}
	return r, err
}

func (d *demo) close() error {
	code, err := d.client.Shutdown()
	if err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("exit code %d, want 0", code)
	}
	d.printf("\n→ shutdown, exit\n")
	return nil
}
