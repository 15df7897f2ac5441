package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"harmonyd/agent/conversation"
	"harmonyd/agent/profile"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// turn is one generation, from its request to its result: as many answers of the
// model as its calls of tools need. It lives on the goroutine that called Generate.
type turn struct {
	agent   *Agent
	params  *schema.GenerateParams
	sink    Sink
	host    Host
	session *session       // nil where there is none
	inside  bool           // the session waits for this turn
	mark    *mark          // of the load that the turn may bring about
	tools   []schema.Tool  // as they were when the turn began; none where it uses none
	own     profile.Config // what the request says of settings
	tuned   *tuned         // nil where the turn has no settings

	model     *opened // once it is known
	history   []schema.Message
	added     []schema.Message // to the history, by this turn
	usage     schema.Usage
	stats     job.Stats // of all rounds
	decoded   int       // tokens behind the first of their rounds
	logprobs  []schema.TokenLogprobs
	calls     int                   // ids of calls given out
	invalid   map[string]int        // calls in a row that made no sense, by name of tool
	repairs   int                   // all of them
	steps     [][][sha256.Size]byte // calls with their results, of the last rounds
	attempt   int                   // of the present answer, from 0
	retried   int                   // attempts of the turn that failed
	retry     schema.Retry          // what was wrong with the attempt before
	loaded    float64
	start     time.Time
	opening   time.Duration // the wait for the tokenizer
	generated int           // tokens of the rounds before
	answer
}

// Generate answers a prompt or a conversation. The text of the result is the
// text that s got, to the byte. A ctx that ends gives a result with the stop
// reason cancelled, whatever the generation was waiting for, and never an
// error.
//
// With tools, whatever the model calls is called through h, and its results are
// given to it for another answer; where the tool mode is return, the turn ends with
// the calls instead. A nil h answers no calls.
//
// Usage counts the generated tokens up to the one that completed a stop string,
// which is one of them; an end-of-sequence token is none. What the engine had
// made beyond is counted nowhere.
//
// An error after text was generated carries what there is as Data.Partial.
func (a *Agent) Generate(ctx context.Context, p schema.GenerateParams, s Sink, h Host) (schema.GenerateResult, error) {
	if err := checkGenerate(&p); err != nil {
		return schema.GenerateResult{}, err
	}
	t := &turn{agent: a, params: &p, sink: s, host: h, start: time.Now(), invalid: map[string]int{}}
	t.answer = newAnswer(0, p.Stop)
	if err := t.prepare(); err != nil {
		return schema.GenerateResult{}, err
	}
	t.status(schema.GenerateStatus{State: schema.StateQueued})
	defer func() { // also where something panics
		if t.inside {
			t.session.leave()
		}
	}()
	reason, err := t.run(ctx)
	t.account(job.Result{})
	// A turn that reached its end has it, even if the caller gave up meanwhile.
	if reason == "" && (ctx.Err() != nil || errors.Is(err, job.ErrCancelled)) {
		reason, err = schema.StopCancelled, nil
		t.add(reason)
	}
	t.status(schema.GenerateStatus{State: schema.StateDone})
	t.log(ctx, reason, t.usage, err)
	if err != nil {
		err = partial(wireError(ctx, err), t.generated, t.message(), t.usage)
		t.keepDone(ctx)
		return schema.GenerateResult{}, err
	}
	if t.session != nil {
		if err := t.session.add(p.Messages, t.added, t.written(reason)); err != nil {
			return schema.GenerateResult{}, partial(err, t.generated, t.message(), t.usage)
		}
	}
	return t.result(reason), nil
}

// keepDone keeps what a turn has done that fails later: tools have changed the world, and a
// model that does not know it would call them again.
func (t *turn) keepDone(ctx context.Context) {
	if t.session == nil || len(t.added) == 0 {
		return
	}
	t.add(schema.StopCancelled)
	if err := t.session.add(t.params.Messages, t.added, t.written("")); err != nil {
		t.agent.log.LogAttrs(ctx, slog.LevelError, "what a failed turn has done is not kept", slog.Any("error", err))
	}
}

// written is what is written down of the turn.
func (t *turn) written(reason schema.StopReason) conversation.Turn {
	w := t.session.held()
	w.Model, w.StopReason, w.Usage = t.modelID(), reason, &t.usage
	if reason == schema.StopStopSequence {
		w.StopSequence = t.params.Stop[t.stopped]
	}
	if settings := t.hyperparameters(); string(settings) != "{}" {
		w.Hyperparameters = settings
	}
	return w
}

// prepare takes what the turn needs of its session and the toolbox.
func (t *turn) prepare() error {
	p := t.params
	var err error
	if t.own, err = readTurn(p.Settings); err != nil {
		return err
	}
	if p.SessionID != "" {
		s, err := t.agent.session(p.SessionID)
		if err != nil {
			return err
		}
		t.session = s
		p.Model = cmp.Or(p.Model, s.model)
		if p.Tools == nil {
			p.Tools = s.tools
		}
	}
	if p.Messages == nil || p.ToolMode == schema.ToolNone || p.ToolChoice != nil && p.ToolChoice.Mode == schema.ToolChoiceNone {
		return nil
	}
	t.tools, err = t.agent.tools.Resolve(p.SessionID, p.Tools)
	return err
}

// result is the answer to the request.
func (t *turn) result(reason schema.StopReason) schema.GenerateResult {
	r := schema.GenerateResult{
		GenerationID: t.params.GenerationID,
		StopReason:   reason,
		Logprobs:     t.logprobs,
		Usage:        t.usage,
		Message:      schema.Message{Role: schema.RoleAssistant, Content: schema.TextContent("")},
	}
	if t.model != nil {
		r.Model = t.model.Info.ID
	}
	for _, m := range slices.Backward(t.added) {
		if m.Role == schema.RoleAssistant {
			r.Message = m
			break
		}
	}
	if len(t.added) > 1 {
		r.Messages = t.added
	}
	if reason == schema.StopToolCalls {
		r.ToolCalls = r.Message.ToolCalls
	}
	if reason == schema.StopStopSequence {
		r.StopSequence = t.params.Stop[t.stopped]
	}
	return r
}

// log writes the one record of a turn.
func (t *turn) log(ctx context.Context, reason schema.StopReason, u schema.Usage, err error) {
	attrs := []slog.Attr{
		slog.String("id", t.params.GenerationID),
		slog.String("model", t.modelID()),
		slog.Int("promptTokens", u.PromptTokens),
		slog.Int("cachedTokens", u.CachedTokens),
		slog.Int("completionTokens", u.CompletionTokens),
		slog.Int("rounds", u.Rounds),
		slog.Int("toolCalls", t.calls),
		slog.Float64("ttftMs", u.TTFTMS),
		slog.Float64("tokensPerSecond", u.TokensPerSecond),
	}
	attrs = append(attrs, t.measures()...)
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
func (t *turn) run(ctx context.Context) (schema.StopReason, error) {
	if t.session != nil {
		if err := t.session.enter(ctx); err != nil {
			return "", err
		}
		t.inside = true
	}
	defer func() { t.mark.end() }()
	var err error
	if _, t.mark, err = t.agent.guard(ctx, t.params.Model, false); err != nil {
		return "", err
	}
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
		return "", err
	}
	if !known { // else it took microseconds
		t.opening = time.Since(t.start)
	}
	t.model = m
	if err := t.tune(); err != nil {
		return "", err
	}
	t.history = t.session.conversation(t.params.Messages)
	for ; ; t.answer = newAnswer(t.round+1, t.params.Stop) {
		reason, err := t.ask(ctx)
		switch {
		case reason == "" || err != nil:
			return reason, err
		case t.again(reason):
			continue
		case len(t.called)+len(t.problems) == 0:
			t.add(reason)
			return reason, nil
		}
		if reason := t.act(ctx); reason != "" {
			return reason, nil
		}
	}
}

// message is the answer as a message.
func (t *turn) message() schema.Message {
	m := schema.Message{Role: schema.RoleAssistant, Content: schema.TextContent(string(t.text)), ToolCalls: t.called}
	if len(t.thoughts) > 0 {
		m.Content = append(schema.Content{{Type: schema.PartReasoning, Text: string(t.thoughts)}}, m.Content...)
	}
	return m
}

// add adds the answer to the conversation, unless it is there or was never begun. One
// that was cancelled has made no calls.
func (t *turn) add(reason schema.StopReason) {
	if t.kept || t.round > 0 && t.begun.IsZero() {
		return
	}
	m := t.message()
	if reason == schema.StopCancelled {
		m.Interrupted, m.ToolCalls = true, nil
	}
	t.added, t.kept = append(t.added, m), true
}

// account adds a round to the books; the zero result closes them. It may be called
// again for a round that is in them.
func (t *turn) account(res job.Result) {
	u := &t.usage
	u.PromptTokens, u.LoadMS = t.prompt, ms(t.opening+t.stats.Load)
	if t.begun.IsZero() || u.Rounds > t.round {
		return
	}
	u.Rounds = t.round + 1
	u.CachedTokens = res.Usage.CachedTokens
	u.CompletionTokens += t.tokens
	u.QueueMS += ms(res.Stats.Queue)
	u.LoadMS += ms(res.Stats.Load)
	u.PrefillMS += ms(res.Stats.Prefill)
	if t.tokens > 0 && t.generated == 0 {
		u.TTFTMS = ms(t.begun.Sub(t.start) + res.Stats.FirstToken)
	}
	t.generated += t.tokens
	t.stats.Load += res.Stats.Load
	t.stats.ActiveBytes, t.stats.PeakBytes = res.Stats.ActiveBytes, max(t.stats.PeakBytes, res.Stats.PeakBytes)
	if t.tokens > 1 {
		t.stats.Decode += res.Stats.Decode
		t.decoded += res.Usage.GeneratedTokens - 1
		u.DecodeMS = ms(t.stats.Decode)
	}
	if t.decoded > 0 && t.stats.Decode > 0 {
		u.TokensPerSecond = float64(t.decoded) / t.stats.Decode.Seconds()
	}
}

func (t *turn) modelID() string {
	if t.model == nil {
		return ""
	}
	return t.model.Info.ID
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
