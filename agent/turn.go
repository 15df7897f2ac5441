package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// batch is how many events a turn takes from its generation at once: as many as
// a fast model makes while the sink is busy, and still a small array.
const batch = 64

// turn is one generation, from its request to its result. It lives on the
// goroutine that called Generate.
type turn struct {
	agent  *Agent
	params *schema.GenerateParams
	sink   Sink

	model     string // its id, once it is known
	prompt    int    // tokens
	cached    int    // of those, the ones that needed no work; -1 until it is known
	tokenizer Tokenizer
	stream    TokenStream
	stops     *stopStrings
	step      []byte // what the last token completed

	text     []byte                 // all that the sink got
	tokens   int                    // generated tokens that count
	logprobs []schema.TokenLogprobs // of these, where they are asked for
	unsaid   int                    // of those, the ones whose text the sink does not have yet
	stopped  int                    // the stop string that ended the turn, or -1
	loaded   float64
	start    time.Time
	opening  time.Duration // the wait for the tokenizer
	begun    time.Time     // when the engine got the request
}

// Generate answers a prompt or a conversation. The text of the result is the
// text that s got, to the byte. A ctx that ends gives a result with the stop
// reason cancelled, whatever the generation was waiting for, and never an
// error.
//
// Usage counts the generated tokens up to the one that completed a stop string,
// which is one of them; an end-of-sequence token is none. What the engine had
// made beyond is counted nowhere.
//
// An error after text was generated carries what there is as Data.Partial.
func (a *Agent) Generate(ctx context.Context, p schema.GenerateParams, s Sink) (schema.GenerateResult, error) {
	if err := checkGenerate(&p); err != nil {
		return schema.GenerateResult{}, err
	}
	t := &turn{agent: a, params: &p, sink: s, cached: -1, stopped: -1, start: time.Now(), stops: newStopStrings(p.Stop)}
	t.status(schema.GenerateStatus{State: schema.StateQueued})
	reason, res, err := t.run(ctx)
	usage := t.usage(res)
	// A turn that reached its end has it, even if the caller gave up meanwhile.
	if reason == "" && (ctx.Err() != nil || errors.Is(err, job.ErrCancelled)) {
		reason, err = schema.StopCancelled, nil
	}
	t.status(schema.GenerateStatus{State: schema.StateDone})
	t.log(ctx, reason, usage, err)
	message := schema.Message{Role: schema.RoleAssistant, Content: schema.TextContent(string(t.text))}
	if err != nil {
		return schema.GenerateResult{}, partial(wireError(ctx, err), t.tokens, message, usage)
	}
	r := schema.GenerateResult{
		GenerationID: p.GenerationID,
		Model:        t.model,
		StopReason:   reason,
		Message:      message,
		Logprobs:     t.logprobs,
		Usage:        usage,
	}
	if t.stopped >= 0 {
		r.StopSequence = p.Stop[t.stopped]
	}
	return r, nil
}

// log writes the one record of a turn.
func (t *turn) log(ctx context.Context, reason schema.StopReason, u schema.Usage, err error) {
	attrs := []slog.Attr{
		slog.String("id", t.params.GenerationID),
		slog.String("model", t.model),
		slog.Int("promptTokens", u.PromptTokens),
		slog.Int("cachedTokens", u.CachedTokens),
		slog.Int("completionTokens", u.CompletionTokens),
		slog.Float64("ttftMs", u.TTFTMS),
		slog.Float64("tokensPerSecond", u.TokensPerSecond),
	}
	if err != nil {
		t.agent.log.LogAttrs(ctx, slog.LevelWarn, "generation failed", append(attrs, slog.Any("error", err))...)
		return
	}
	t.agent.log.LogAttrs(ctx, slog.LevelInfo, "generation", append(attrs, slog.String("stopReason", string(reason)))...)
}

// partial adds what was generated to an error, where something was.
func partial(err error, tokens int, m schema.Message, u schema.Usage) error {
	var wire *schema.Error
	if tokens > 0 && errors.As(err, &wire) {
		wire.Data.Partial = &schema.Partial{Message: m, Usage: u}
	}
	return err
}

// run takes the turn from the request to its end. The generation brings the
// weights with it, and so only a prompt that was found good does. Only where
// the tokenizer takes time as well do they load beside it; that load is given up
// when the prompt is bad, and else held until the engine is done with the
// generation, so that no moment comes in which nobody wants it.
func (t *turn) run(ctx context.Context) (schema.StopReason, job.Result, error) {
	known := t.agent.isOpen(t.params.Model)
	if !known {
		loadCtx, giveUp := context.WithCancel(ctx)
		var loading sync.WaitGroup
		defer loading.Wait()
		defer giveUp()
		// The generation waits for the same load and reports how it went.
		loading.Go(func() { _ = t.agent.engine.Load(loadCtx, t.params.Model, nil) })
	}
	m, err := t.agent.open(ctx, t.params.Model)
	if err != nil {
		return "", job.Result{}, err
	}
	if !known { // else it took microseconds
		t.opening = time.Since(t.start)
	}
	t.model, t.tokenizer, t.stream = m.Info.ID, m.Tokenizer, m.Tokenizer.NewStream()
	ids, err := t.encode(m)
	if err != nil {
		return "", job.Result{}, err
	}
	t.prompt = len(ids)
	// One token at least has to fit behind the prompt.
	if n := m.Info.ContextLength; len(ids) >= n {
		return "", job.Result{}, schema.ContextOverflowed(len(ids), n)
	}
	if err := ctx.Err(); err != nil {
		return "", job.Result{}, err
	}
	req, err := jobRequest(t.params, m.Model, ids)
	if err != nil {
		return "", job.Result{}, err
	}
	t.begun = time.Now()
	g, err := t.agent.engine.Start(req)
	if err != nil {
		return "", job.Result{}, err
	}
	// The generation has its place in the engine's queue: what was asked later
	// may follow.
	t.status(schema.GenerateStatus{State: schema.StateQueued, PromptTokens: t.prompt})
	return t.follow(ctx, g)
}

// encode returns the ids of the prompt.
func (t *turn) encode(m *opened) ([]int32, error) {
	if t.params.Messages != nil {
		return m.renderer.Render(t.params.Messages)
	}
	ids, err := m.Tokenizer.Encode(*t.params.Prompt, true)
	if err == nil && len(ids) == 0 {
		err = schema.InvalidParam("/prompt", "is empty")
	}
	return ids, err
}

// follow consumes a generation to its end. When ctx ends, the engine is told
// at once, even while the sink blocks, and no token that comes later counts.
func (t *turn) follow(ctx context.Context, g Generation) (schema.StopReason, job.Result, error) {
	defer context.AfterFunc(ctx, g.Cancel)()
	done := false
	events := make([]job.Event, batch)
	for !done && t.stopped < 0 && ctx.Err() == nil {
		n, err := g.Next(ctx, events)
		if err != nil && ctx.Err() == nil {
			g.Cancel()
			_, _ = g.Wait()
			return "", job.Result{}, err
		}
		logprobs := g.Logprobs()
		for _, ev := range events[:n] {
			if t.stopped >= 0 || ctx.Err() != nil {
				break
			}
			if ev.Kind == job.Token && len(logprobs) > 0 {
				t.logprobs = append(t.logprobs, tokenLogprobs(&logprobs[0], t.tokenizer))
				logprobs = logprobs[1:]
			}
			done = ev.Kind == job.Done
			t.event(ctx, ev, g)
		}
	}
	res, err := g.Wait()
	reason, err := endOf(res.Reason, err)
	if done && reason != "" {
		t.emit(ctx, t.stream.AppendFlush(t.step[:0]))
	}
	if t.stopped >= 0 {
		return schema.StopStopSequence, res, nil
	}
	t.say(ctx, t.stops.flush())
	if !done {
		reason = "" // ctx ended first
	}
	return reason, res, err
}

// endOf names the end that a generation came to by itself. All other ends are
// errors.
func endOf(r job.StopReason, err error) (schema.StopReason, error) {
	switch {
	case err != nil:
		return "", err
	case r == job.StopEOS:
		return schema.StopEndTurn, nil
	case r == job.StopLength:
		return schema.StopMaxTokens, nil
	case r == job.StopContext:
		return schema.StopContextFull, nil
	case r == job.StopCancelled:
		return "", job.ErrCancelled
	}
	return "", &job.EngineError{Cause: "ended for no known reason: " + string(r)}
}

// event handles one event.
func (t *turn) event(ctx context.Context, ev job.Event, g Generation) {
	switch ev.Kind {
	case job.Loading:
		// A report for each twentieth: a client draws a bar with them.
		share := float64(ev.Done) / float64(max(ev.Total, 1))
		if t.loaded == 0 || share >= t.loaded+0.05 || share == 1 {
			t.loaded = max(share, 1e-9)
			t.status(schema.GenerateStatus{State: schema.StateLoading, LoadedShare: share})
		}
	case job.Prefill:
		if t.cached < 0 {
			t.cached = int(ev.Done)
		}
		t.prefilled(schema.StatePrefill, int(ev.Done))
	case job.Token:
		if t.tokens == 0 {
			t.prefilled(schema.StateDecoding, t.prompt)
		}
		t.tokens++
		t.unsaid++
		t.step = t.stream.AppendStep(t.step[:0], ev.ID)
		if t.emit(ctx, t.step); t.stopped >= 0 {
			g.Stop(t.tokens)
		}
	}
}

// prefilled reports how much of the prompt is done.
func (t *turn) prefilled(state schema.GenerateState, done int) {
	t.status(schema.GenerateStatus{
		State:           state,
		PromptTokens:    t.prompt,
		CachedTokens:    max(t.cached, 0),
		ProcessedTokens: done,
	})
}

// emit looks for stop strings in new text and passes on what is certain.
func (t *turn) emit(ctx context.Context, text []byte) {
	var out []byte
	out, t.stopped = t.stops.next(text)
	t.say(ctx, out)
}

// say gives text to the sink, and with it the number of tokens since the last.
func (t *turn) say(ctx context.Context, text []byte) {
	if len(text) == 0 {
		return
	}
	t.text = append(t.text, text...)
	if n := min(t.unsaid, len(t.logprobs)); n > 0 {
		t.sink.Logprobs(t.logprobs[len(t.logprobs)-n:])
	}
	t.sink.Text(ctx, schema.ChannelText, string(text), t.unsaid)
	t.unsaid = 0
}

func (t *turn) status(s schema.GenerateStatus) {
	s.GenerationID = t.params.GenerationID
	t.sink.Status(s)
}

// usage counts the turn.
func (t *turn) usage(res job.Result) schema.Usage {
	u := schema.Usage{
		PromptTokens:     t.prompt,
		CachedTokens:     res.Usage.CachedTokens,
		CompletionTokens: t.tokens,
		QueueMS:          ms(res.Stats.Queue),
		LoadMS:           ms(t.opening + res.Stats.Load),
		PrefillMS:        ms(res.Stats.Prefill),
	}
	if !t.begun.IsZero() {
		u.Rounds = 1
	}
	if t.tokens > 0 {
		u.TTFTMS = ms(t.begun.Sub(t.start) + res.Stats.FirstToken)
	}
	if t.tokens > 1 {
		u.DecodeMS = ms(res.Stats.Decode)
		u.TokensPerSecond = res.TokensPerSecond()
	}
	return u
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
