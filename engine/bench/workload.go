package bench

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"harmonyd/engine"
	"harmonyd/engine/job"
	"harmonyd/engine/native"
)

// promptText is what a person might ask about: prose and code.
//
//go:embed prompt.txt
var promptText string

// workload is what every program does.
type workload struct {
	prompt   []int32
	tokens   int
	sampling job.Sampling // of which peers know the temperature and the seed
}

// newWorkload takes the first tokens of the text, over again where that is short.
func newWorkload(tok *native.Tokenizer, o Options) (workload, error) {
	ids, err := tok.Encode(promptText, false)
	if err != nil {
		return workload{}, fmt.Errorf("encode the prompt: %w", err)
	}
	if len(ids) == 0 {
		return workload{}, fmt.Errorf("encode the prompt: the tokenizer makes no token of it")
	}
	prompt := make([]int32, o.PromptTokens)
	for i := range prompt {
		prompt[i] = ids[i%len(ids)]
	}
	return workload{prompt, o.Tokens, job.Sampling{Temperature: o.Temperature, Seed: o.Seed, HasSeed: true}}, nil
}

// facts describe w in a summary.
func (w workload) facts(runs int) WorkloadFacts {
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, w.prompt) // a hash takes everything
	return WorkloadFacts{
		PromptTokens: len(w.prompt), PromptSHA256: hex.EncodeToString(h.Sum(nil)), Tokens: w.tokens,
		Temperature: w.sampling.Temperature, Seed: w.sampling.Seed, Runs: runs,
	}
}

// ours is this program's engine.
type ours struct {
	engine    *engine.Engine
	model     job.Model
	tokenizer *native.Tokenizer
}

// openOurs opens the engine and the model, whose weights are loaded later.
func openOurs(ctx context.Context, o Options) (*ours, error) {
	// What is kept of an earlier prompt would make the next run of it look fast.
	e, err := engine.New(engine.Options{Root: o.Root, PrefixCaches: -1, Weights: o.Weights, Threads: o.Threads})
	if err != nil {
		return nil, err
	}
	m, err := e.Open(ctx, o.Model)
	if err != nil {
		_ = e.Close()
		return nil, err
	}
	return &ours{e, m.Info, m.Tokenizer}, nil
}

func (o *ours) close() error { return o.engine.Close() }

func (o *ours) pid() int { return os.Getpid() }

func (o *ours) peakBytes(context.Context) (int64, error) { return peakMemory() }

func (o *ours) load(ctx context.Context) (time.Duration, error) {
	if err := o.engine.Unload(ctx, o.model.ID); err != nil {
		return 0, err
	}
	start := time.Now()
	err := o.engine.Load(ctx, o.model.ID, nil)
	return time.Since(start), err
}

func (o *ours) generate(ctx context.Context, w workload) (result, error) {
	r := result{ids: make([]int32, 0, w.tokens)}
	buf := make([]job.Event, 64)
	start := time.Now()
	g, err := o.engine.Start(job.Request{
		ID: "bench", Model: o.model.ID, Prompt: w.prompt, MaxTokens: w.tokens, IgnoreEOS: true,
		Sampling: w.sampling, Priority: job.Interactive,
	})
	if err != nil {
		return result{}, err
	}
	var first, last time.Time
	for {
		n, err := g.Next(ctx, buf)
		if err != nil {
			break
		}
		for _, e := range buf[:n] {
			if e.Kind != job.Token {
				continue
			}
			if r.ids = append(r.ids, e.ID); len(r.ids) == 1 {
				first = time.Now()
			}
			last = time.Now()
		}
	}
	if ctx.Err() != nil {
		g.Cancel()
	}
	res, err := g.Wait()
	switch {
	case err != nil:
		return result{}, err
	case ctx.Err() != nil:
		return result{}, ctx.Err()
	case res.Usage.CachedTokens > 0:
		return result{}, fmt.Errorf("%d tokens of the prompt were cached", res.Usage.CachedTokens)
	case len(r.ids) != w.tokens:
		return result{}, fmt.Errorf("%d tokens were generated, want %d (%s)", len(r.ids), w.tokens, res.Reason)
	}
	r.first, r.decode = first.Sub(start), last.Sub(first)
	// The first token is the prompt's.
	r.passes = res.Stats.Steps - 1
	return r, nil
}
