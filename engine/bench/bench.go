// Package bench measures the engine in process, beside other people's programs
// and beside what the machine can do at most, all in one run: the same prompt,
// tokens, temperature and seed for everybody, repetition by repetition in turn,
// so that what disturbs the machine disturbs all alike. Only one program computes
// at a time. It must never make a figure up: what was not measured is left out,
// and the report says why.
//
// Start with Measure. The peers are small Python programs in the folder peers;
// protocol.py there says how they are asked. Count in counts.go is what needs no
// quiet machine and is held against a baseline by the tests.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"harmonyd/engine"
	"harmonyd/engine/hub"
)

// settle is how long the programs rest between two measurements: the threads of
// OpenBLAS go on looking for work for 2^26 cycles after the last of it.
const settle = 50 * time.Millisecond

// Options say what to measure.
type Options struct {
	// Root is the folder of models and Model one of them; empty is the default.
	Root, Model string
	// Runs is the number of repetitions, at least 1, after one that does not count.
	Runs int
	// PromptTokens and Tokens, both at least 2, are the lengths of the prompt and
	// of what is generated.
	PromptTokens, Tokens int
	Temperature          float32
	Seed                 uint64
	// Weights is the form of this engine's weights in memory; empty is its default.
	Weights engine.WeightForm
	// Threads is how many every program computes with: by default as many as Go
	// runs.
	Threads int
	// Peers are names of PeerNames. One that cannot be started is reported, and
	// the run goes on.
	Peers []string
	// Python has the peers' packages installed; empty means the one of
	// engine/deps.sh, if it is there.
	Python string
	// GGUF is the file that llama.cpp runs: the one that the model was imported
	// from. Empty means the one that engine/deps.sh fetched.
	GGUF string
	// Version is harmonyd's, and Label what a person calls this build of it.
	Version, Label string
	// Say is told what is being done; nil tells nobody.
	Say func(what string)
}

func (o *Options) check() error {
	for _, f := range []struct {
		name       string
		got, least int
	}{{"runs", o.Runs, 1}, {"prompt tokens", o.PromptTokens, 2}, {"tokens", o.Tokens, 2}} {
		if f.got < f.least {
			return fmt.Errorf("%s: got %d, want %d or more", f.name, f.got, f.least)
		}
	}
	if o.Threads < 0 {
		return fmt.Errorf("threads: got %d, want 0 or more", o.Threads)
	}
	if forms := []engine.WeightForm{"", engine.AsStored, engine.Float32}; !slices.Contains(forms, o.Weights) {
		return fmt.Errorf("weights: got %q, want %s or %s", o.Weights, engine.AsStored, engine.Float32)
	}
	for i, name := range o.Peers {
		if _, ok := findPeer(name); !ok {
			return fmt.Errorf("peer %q is not known; these are: %s", name, strings.Join(PeerNames(), ", "))
		}
		if slices.Contains(o.Peers[:i], name) {
			return fmt.Errorf("peer %q is named twice", name)
		}
	}
	return nil
}

// contender is one program under measurement with its model.
type contender interface {
	// load brings the model into memory anew and says how long that took.
	load(ctx context.Context) (time.Duration, error)
	// generate runs the workload once. Nothing of an earlier run is reused.
	generate(ctx context.Context, w workload) (result, error)
	// peakBytes is the most memory that the program's process ever held.
	peakBytes(ctx context.Context) (int64, error)
	// pid is the process that computes.
	pid() int
	close() error
}

// result is one run of a workload. Its times are those of whoever waits for the
// tokens.
type result struct {
	ids    []int32
	first  time.Duration // from the request to the first token
	decode time.Duration // from the first token to the last
	passes int           // through the weights after the first token, 0 where it is not known
}

// session is one measurement under way.
type session struct {
	Options
	sum    *Summary
	work   workload
	own    *ours
	runs   []*contest // ours first
	folder string     // of the model
	// products are the matrices in it.
	products []product
	// scratch is a folder that is removed at the end.
	scratch string
}

// contest is one contender with what was measured of it. Without a contender its
// Program says why.
type contest struct {
	contender
	*Program
	loads, firsts, prefills, decodes []float64
}

// Measure runs everything and returns the summary. An error means that nothing
// can be said of the engine itself, or that its repetitions gave different
// tokens.
func Measure(ctx context.Context, o Options) (_ *Summary, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	s := &session{Options: o}
	if s.scratch, err = os.MkdirTemp("", "harmonyd-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		for _, c := range s.runs {
			if c.contender != nil {
				_ = c.close() // it has said what it had to say
			}
		}
		err = errors.Join(err, os.RemoveAll(s.scratch))
	}()
	for _, stage := range []func(context.Context) error{s.open, s.startPeers, s.measureLoads, s.measureRuns, s.count} {
		if err := stage(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
	}
	s.conclude()
	return s.sum, nil
}

// open opens the engine and finds out what is measured.
func (s *session) open(ctx context.Context) (err error) {
	if s.own, err = openOurs(ctx, s.Options); err != nil {
		return err
	}
	model := s.own.model
	s.runs = []*contest{{contender: s.own, Program: &Program{Name: Ours, Version: s.Version}}}
	if s.work, err = newWorkload(s.own.tokenizer, s.Options); err != nil {
		return err
	}
	if n := s.PromptTokens + s.Tokens; n > model.ContextLength {
		return fmt.Errorf("%d prompt tokens and %d tokens are more than the %d of the model's context",
			s.PromptTokens, s.Tokens, model.ContextLength)
	}
	if s.folder, err = hub.New(s.Root).Resolve(model.ID); err != nil {
		return err
	}
	if s.products, err = products(s.folder); err != nil {
		return err
	}
	s.sum = &Summary{
		Schema: schemaVersion, Time: time.Now().UTC().Truncate(time.Second),
		Versions: versions(s.Version, s.Label), Machine: describeMachine(s.Threads),
		Model:    ModelFacts{ID: model.ID, Family: model.Family, Quantization: model.Quantization},
		Workload: s.work.facts(s.Runs),
	}
	own := s.runs[0]
	// Before the work for the peers adds to the memory of this process.
	if err := s.warmUp(ctx, own); err != nil {
		return err
	}
	own.Weights, err = s.own.engine.Form(model.ID)
	own.BytesPerToken = bytesPerToken(s.products, own.Weights)
	return err
}

// startPeers starts what can be started.
func (s *session) startPeers(ctx context.Context) error {
	for _, name := range s.Peers {
		s.Say("start " + name)
		c := &contest{Program: &Program{Name: name}}
		s.runs = append(s.runs, c)
		peer, err := s.startPeer(ctx, name)
		if err != nil {
			c.Problem = err.Error()
			continue
		}
		c.contender, c.Version, c.Details = peer, peer.hello.Version, peer.hello.Details
		c.Weights, c.BytesPerToken = peer.model.form, peer.model.bytes
		if err := s.warmUp(ctx, c); err != nil {
			c.drop(err)
		}
	}
	debug.FreeOSMemory() // what unpacking the weights took
	return ctx.Err()
}

// warmUp brings files into the page cache and code and data to where they stay,
// and looks at how much memory that took.
func (s *session) warmUp(ctx context.Context, c *contest) error {
	s.Say("warm up " + c.Name)
	if _, err := c.load(ctx); err != nil {
		return err
	}
	r, err := c.generate(ctx, s.work)
	if err != nil {
		return err
	}
	c.IDs = r.ids
	c.PeakBytes, err = c.peakBytes(ctx)
	return err
}

// each lets every contender do something in turn, beginning with the one after
// first. What goes wrong with a peer ends that peer alone.
func (s *session) each(ctx context.Context, first int, do func(*contest) error) error {
	for i := range s.runs {
		c := s.runs[(first+i)%len(s.runs)]
		if c.contender == nil {
			continue
		}
		time.Sleep(settle)
		err := do(c)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && c.contender == s.own:
			return err
		case err != nil:
			c.drop(err)
		}
	}
	return nil
}

// drop ends a contender that failed. What was measured of it goes too.
func (c *contest) drop(err error) {
	_ = c.close()
	*c.Program = Program{Name: c.Name, Version: c.Version, Details: c.Details, Problem: err.Error()}
	*c = contest{Program: c.Program}
}

// measureLoads loads every model again and again, from the page cache.
func (s *session) measureLoads(ctx context.Context) error {
	for i := range s.Runs {
		err := s.each(ctx, i, func(c *contest) error {
			s.Say(fmt.Sprintf("load %d of %d: %s", i+1, s.Runs, c.Name))
			d, err := c.load(ctx)
			c.loads = append(c.loads, milliseconds(d))
			return err
		})
		if err != nil {
			return err
		}
	}
	// With everybody's weights in memory there is less of it free.
	own := s.runs[0]
	if form, err := s.own.engine.Form(s.own.model.ID); err != nil || form != own.Weights {
		return errors.Join(err, fmt.Errorf("the weights were loaded as %s, and beside the peers' as %s: memory is short, leave out a peer",
			own.Weights, form))
	}
	// The pages of the last load are new.
	short := s.work
	short.tokens = 2
	return s.each(ctx, 0, func(c *contest) error {
		_, err := c.generate(ctx, short)
		return err
	})
}

// measureRuns repeats the workload, everybody in turn and the roofline with them.
func (s *session) measureRuns(ctx context.Context) error {
	s.Say("roofline")
	roof := s.openRoofline()
	if roof != nil {
		defer roof.close()
	}
	var steps, reads []float64
	quiet := startWatch(s.pids())
	for i := range s.Runs {
		err := s.each(ctx, i, func(c *contest) error {
			s.Say(fmt.Sprintf("repetition %d of %d: %s", i+1, s.Runs, c.Name))
			r, err := c.generate(ctx, s.work)
			if err != nil {
				return err
			}
			return c.add(r, s.work)
		})
		if err != nil {
			return err
		}
		if roof == nil {
			continue
		}
		s.Say(fmt.Sprintf("repetition %d of %d: roofline", i+1, s.Runs))
		time.Sleep(settle)
		step, read, err := roof.measure(ctx)
		if err != nil {
			return err
		}
		steps, reads = append(steps, 1/step.Seconds()), append(reads, float64(roof.bytes)/read.Seconds()/1e9)
	}
	s.sum.Machine.OthersBusy, s.sum.Machine.Stolen = quiet.stop()
	s.sum.Roofline.Decode, s.sum.Roofline.Read = newFigure(steps), newFigure(reads)
	return nil
}

// openRoofline makes what is measured between the programs, nil where there is no
// roofline, which the summary then gives the reason for.
func (s *session) openRoofline() *roofline {
	sum := &s.sum.Roofline
	if s.sum.Machine.Device != "cpu" {
		sum.Problem = "it is one of CPUs, and the model runs on " + s.sum.Machine.GPU
		return nil
	}
	r, err := openRoofline(s.products, s.sum.Machine.Threads)
	if err != nil {
		sum.Problem = err.Error()
		return nil
	}
	sum.Matrices, sum.Bytes, sum.Threads = len(r.products), r.bytes, r.threads
	return r
}

// pids are the processes that compute.
func (s *session) pids() []int {
	var all []int
	for _, c := range s.runs {
		if c.contender != nil {
			all = append(all, c.pid())
		}
	}
	return all
}

// add notes one repetition. Every one must give the tokens of the first.
func (c *contest) add(r result, w workload) error {
	if !slices.Equal(r.ids, c.IDs) {
		at := agreement(r.ids, c.IDs)
		return fmt.Errorf("%s: repetition %d gives other tokens than the first: they part at token %d of %d",
			c.Name, len(c.decodes)+1, at+1, w.tokens)
	}
	c.firsts = append(c.firsts, milliseconds(r.first))
	c.prefills = append(c.prefills, float64(len(w.prompt))/r.first.Seconds())
	c.decodes = append(c.decodes, float64(w.tokens-1)/r.decode.Seconds())
	if r.passes > 0 {
		c.TokensPerPass = float64(w.tokens-1) / float64(r.passes)
	}
	return nil
}

// agreement is the number of tokens in which both begin alike.
func agreement(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// count counts what needs no clock.
func (s *session) count(ctx context.Context) (err error) {
	s.Say("count")
	s.sum.Counts, err = counting{tokens: s.Tokens, runs: 3}.phases(ctx, s.own, s.work)
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
