package enginetest

import (
	"context"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"harmonyd/engine/job"
)

// generation is one generation. Engine.mu guards all of it.
type generation struct {
	engine  *Engine
	model   *model
	req     job.Request
	reply   Reply
	tokens  []int32 // of the reply, up to the first stop id
	endless bool

	loading  context.Context // ends when nobody wants the model for g any more
	giveUp   context.CancelFunc
	loadFrom time.Time
	ready    bool // the model is there

	events  []job.Event    // a ring
	taken   []job.Logprobs // of the tokens that Next handed over last
	head, n int
	notify  chan struct{} // tells Next that there is more; capacity 1

	begun    bool
	cached   int // of the prompt
	prefill  int // tokens of the prompt that are done, cached ones included
	made     []int32
	asked    int // tokens that the consumer has asked for; only with RunAhead
	halted   job.StopReason
	haltErr  error
	keep     int // tokens that count after Stop; -1 means all
	done     chan struct{}
	ended    bool // done is closed
	doneSent bool

	start, begin, first, last time.Time
	stats                     job.Stats
	result                    job.Result
}

func newGeneration(e *Engine, m *model, req job.Request) *generation {
	g := &generation{
		engine: e, model: m, req: req, keep: -1, start: time.Now(),
		events: make([]job.Event, e.ring),
		notify: make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	g.loading, g.giveUp = context.WithCancel(context.Background())
	g.choose()
	return g
}

// choose finds the reply to the prompt.
func (g *generation) choose() {
	t := g.model.tokenizer
	// The ids were checked by Model.check, so Decode cannot fail; the script is
	// UTF-8, which is all that Encode asks for.
	prompt, _ := t.Decode(g.req.Prompt, false)
	fits := func(r Reply) bool { return strings.Contains(prompt, r.Contains) }
	if i := slices.IndexFunc(g.model.Replies, fits); i >= 0 {
		g.reply = g.model.Replies[i]
		g.tokens, _ = t.Encode(g.reply.Text, true)
		g.tokens = append(g.tokens, g.reply.Tokens...)
	} else {
		g.tokens = slices.Clone(t.lastUserMessage(g.req.Prompt))
	}
	for i, id := range g.tokens {
		if g.stops(id) {
			g.tokens = g.tokens[:i]
			break
		}
	}
	g.endless = g.reply.Endless || g.req.IgnoreEOS
	if g.endless && len(g.tokens) == 0 {
		g.tokens = []int32{'.'}
	}
}

func (g *generation) stops(id int32) bool {
	for _, s := range g.req.StopIDs {
		if id == s {
			return true
		}
	}
	return !g.req.IgnoreEOS && (id == ImEnd || id == EndOfText)
}

// push appends an event. Room for tokens is seen to by paused; what is no
// token yields to a full ring, because the next report of its kind says more.
func (g *generation) push(ev job.Event) {
	if g.ended || (ev.Kind != job.Token && g.n > len(g.events)-2) {
		return
	}
	g.events[(g.head+g.n)%len(g.events)] = ev
	g.n++
	g.tell()
}

func (g *generation) tell() {
	select {
	case g.notify <- struct{}{}:
	default:
	}
}

// paused reports that the consumer has to catch up before the next token.
func (g *generation) paused() bool {
	full := g.n >= len(g.events)-1 // reports may fill it, too
	if a := g.model.RunAhead; a != nil && g.begun && g.prefill == len(g.req.Prompt) {
		return full || len(g.made) >= g.asked+*a
	}
	return full
}

// take copies what may be handed over into dst.
func (g *generation) take(dst []job.Event) int {
	g.taken = g.taken[:0]
	for n := range dst {
		if g.n == 0 || (n > 0 && g.model.RunAhead != nil) {
			return n
		}
		ev := g.events[g.head]
		if a := g.model.RunAhead; a != nil && ev.Kind == job.Token && !g.ended {
			if len(g.made) < g.asked+*a {
				return n
			}
		}
		dst[n] = ev
		if ev.Kind == job.Token && g.req.Logprobs > 0 {
			g.taken = append(g.taken, g.logprobs(ev.ID))
		}
		g.head = (g.head + 1) % len(g.events)
		g.n--
	}
	return len(dst)
}

// logprobs makes a token half of all probability, the id after it half of the rest,
// and so on.
func (g *generation) logprobs(id int32) job.Logprobs {
	vocab := g.model.tokenizer.size()
	l := job.Logprobs{N: min(g.req.Logprobs, vocab)}
	for i := range l.N {
		l.Top[i] = job.Logprob{ID: (id + int32(i)) % int32(vocab), Value: float32(i+1) * -math.Ln2}
	}
	l.Chosen = l.Top[0]
	return l
}

// Logprobs are those of the tokens that Next returned last.
func (g *generation) Logprobs() []job.Logprobs { return g.taken }

// Next hands over what is there.
func (g *generation) Next(ctx context.Context, dst []job.Event) (int, error) {
	if len(dst) == 0 {
		return 0, io.ErrShortBuffer
	}
	e := g.engine
	asked := false
	for {
		e.mu.Lock()
		if !asked {
			g.asked, asked = g.delivered()+1, true
			e.nudge()
		}
		if n := g.take(dst); n > 0 {
			e.nudge()
			e.mu.Unlock()
			return n, nil
		}
		if g.ended {
			defer e.mu.Unlock()
			if g.doneSent {
				return 0, io.EOF
			}
			g.doneSent = true
			dst[0] = job.Event{Kind: job.Done}
			return 1, nil
		}
		e.mu.Unlock()
		select {
		case <-g.notify:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// delivered counts the tokens that the consumer has.
func (g *generation) delivered() int {
	waiting := 0
	for i := range g.n {
		if g.events[(g.head+i)%len(g.events)].Kind == job.Token {
			waiting++
		}
	}
	return len(g.made) - waiting
}

// Stop makes the first n tokens the whole output. After the end of the
// generation it takes back the tokens after them all the same.
func (g *generation) Stop(n int) {
	e := g.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	n = max(n, 0)
	if g.keep < 0 || n < g.keep {
		g.keep = n
	}
	switch {
	case !g.ended:
		e.halt(g, job.StopConsumer, nil)
	case g.result.Reason != job.StopError && g.keep <= g.result.Usage.GeneratedTokens:
		g.result.Reason = job.StopConsumer
		g.result.Usage.GeneratedTokens = g.keep
		if g.model.cachedBy == g {
			g.model.cached = g.model.cached[:g.prefill+g.keep]
		}
	}
}

// Cancel ends the generation at the next step boundary, or at once where no
// step of it runs.
func (g *generation) Cancel() {
	e := g.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.halt(g, job.StopCancelled, nil)
}

// Wait blocks until no step of the generation will run any more.
func (g *generation) Wait() (job.Result, error) {
	<-g.done
	g.engine.mu.Lock()
	defer g.engine.mu.Unlock()
	return g.result, g.haltErr
}
