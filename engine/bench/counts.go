package bench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"harmonyd/engine/mlx"
)

// Count is what one phase of a generation costs whatever the machine.
type Count struct {
	Tokens       int    `json:"tokens"`
	Ops          uint64 `json:"ops"`           // operations handed to MLX
	Calls        uint64 `json:"calls"`         // crossings from Go to C
	Reads        uint64 `json:"reads"`         // reads that wait for the device
	BytesRead    uint64 `json:"bytes_read"`    // that they copied
	BytesWritten uint64 `json:"bytes_written"` // copied to the device
	Allocs       uint64 `json:"allocs"`        // of the Go heap, by whatever goroutine
}

// Counts are those of the prompt, up to and with its first token, and those of
// the tokens after it.
type Counts struct {
	Prefill Count `json:"prefill"`
	Decode  Count `json:"decode"`
}

// fields lists what a Count holds, by the names that people read.
func (c Count) fields() []countField {
	return []countField{
		{"operations", c.Ops}, {"cgo calls", c.Calls}, {"blocking reads", c.Reads},
		{"bytes read", c.BytesRead}, {"bytes written", c.BytesWritten}, {"Go allocations", c.Allocs},
	}
}

type countField struct {
	name string
	n    uint64
}

// A counting is how counts are taken.
type counting struct {
	// tokens are generated, the first of them from the prompt.
	tokens int
	// runs is how often everything is done. The least counts: now and then
	// something else in the process allocates.
	runs int
}

// countedPrompt is a prompt that is one chunk of a prefill whatever the machine's
// speed.
const countedPrompt = 48

// phases counts a workload's prompt, and the tokens after a short one: the chunks
// of a long prompt depend on the clock.
func (k counting) phases(ctx context.Context, o *ours, w workload) (Counts, error) {
	count := func(prompt []int32, tokens int) (Count, error) {
		w.prompt, w.tokens = prompt, tokens
		return k.least(ctx, o, w)
	}
	prompt := w.prompt
	prefill, err := count(prompt, 1)
	if err != nil {
		return Counts{}, err
	}
	prefill.Tokens = len(prompt)
	short, one := prompt, prefill
	if len(short) > countedPrompt {
		short = short[:countedPrompt]
		if one, err = count(short, 1); err != nil {
			return Counts{}, err
		}
	}
	all, err := count(short, k.tokens)
	if err != nil {
		return Counts{}, err
	}
	return Counts{prefill, Count{
		Tokens: k.tokens - 1, Ops: all.Ops - one.Ops, Calls: all.Calls - one.Calls, Reads: all.Reads - one.Reads,
		BytesRead: all.BytesRead - one.BytesRead, BytesWritten: all.BytesWritten - one.BytesWritten,
		Allocs: all.Allocs - min(one.Allocs, all.Allocs),
	}}, nil
}

// least counts whole generations of a loaded model and returns the least of each
// kind.
func (k counting) least(ctx context.Context, o *ours, w workload) (least Count, err error) {
	// The collector allocates, and what it frees is allocated again.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i := range k.runs {
		c, err := countRun(ctx, o, w)
		if err != nil {
			return Count{}, fmt.Errorf("count %d tokens after %d: %w", w.tokens, len(w.prompt), err)
		}
		if i == 0 {
			least = c
			continue
		}
		least = Count{
			Ops: min(least.Ops, c.Ops), Calls: min(least.Calls, c.Calls), Reads: min(least.Reads, c.Reads),
			BytesRead: min(least.BytesRead, c.BytesRead), BytesWritten: min(least.BytesWritten, c.BytesWritten),
			Allocs: min(least.Allocs, c.Allocs),
		}
	}
	return least, nil
}

func countRun(ctx context.Context, o *ours, w workload) (Count, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	from := mlx.Counts()
	if _, err := o.generate(ctx, w); err != nil {
		return Count{}, err
	}
	// What the engine's thread does after the last token belongs to it, and the
	// thread answers when that is done.
	if _, err := o.engine.Form(o.model.ID); err != nil {
		return Count{}, err
	}
	to := mlx.Counts()
	runtime.ReadMemStats(&after)
	return Count{
		Ops: to.Ops - from.Ops, Calls: to.Calls - from.Calls, Reads: to.Reads - from.Reads,
		BytesRead: to.BytesRead - from.BytesRead, BytesWritten: to.BytesWritten - from.BytesWritten,
		Allocs: after.Mallocs - before.Mallocs,
	}, nil
}

// change is one kind that an older count of as many tokens had more or less of.
type change struct {
	name      string
	then, now uint64
	tokens    int
}

func (c change) String() string {
	verdict := "fell"
	if c.rose() {
		verdict = "rose"
	}
	return fmt.Sprintf("%s %s from %d to %d in %d tokens", c.name, verdict, c.then, c.now, c.tokens)
}

func (c change) rose() bool { return c.now > c.then }

// changes lists what became more or less.
func (c Count) changes(old Count) []change {
	var all []change
	before := old.fields()
	for i, f := range c.fields() {
		if f.n != before[i].n {
			all = append(all, change{f.name, before[i].n, f.n, c.Tokens})
		}
	}
	return all
}
