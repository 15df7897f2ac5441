package agent

import (
	"context"
	"errors"
	"time"

	"harmonyd/agent/loop"
	"harmonyd/agent/parse"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// batch is how many events a turn takes from its generation at once: as many as
// a fast model makes while the sink is busy, and still a small array.
const batch = 64

// answer is what a model writes in one round.
type answer struct {
	round  int
	prompt int // tokens
	cached int // of those, the ones that needed no work; -1 until it is known
	stream TokenStream
	format parse.Format
	parser parse.Parser // nil for a prompt, whose answer is text
	stops  *stopStrings
	step   []byte // what the last token completed

	text     []byte // all that the sink got, but for the reasoning
	thoughts []byte // the reasoning
	called   []schema.ToolCall
	writing  string        // the id of the call that has begun
	problems []string      // of what looked like calls
	tokens   int           // generated tokens that count
	unsaid   int           // of those, the ones whose text the sink does not have yet
	stopped  int           // the stop string that ended the answer, or -1
	enough   bool          // one call was asked for, and is there
	looping  bool          // it says the same again and again
	callForm *parse.Format // of the calls, where a grammar writes them
	kept     bool          // it is added to the conversation
	begun    time.Time     // when the engine got the request
	detector *loop.Detector

	// Of the budget of reasoning, see watch.
	budget      int     // tokens; 0 where there is none
	ids         []int32 // of the part of the answer that the engine writes now
	before      int     // tokens before that part
	reasoned    int     // tokens of reasoning
	overthought bool
}

// over reports whether the consumer of the answer has ended it.
func (a *answer) over() bool { return a.stopped >= 0 || a.enough || a.looping || a.overthought }

func newAnswer(round int, stop []string) answer {
	return answer{round: round, cached: -1, stopped: -1, stops: newStopStrings(stop)}
}

// ask has the model write one answer. The reason is empty where ctx ended or with
// an error.
func (t *turn) ask(ctx context.Context) (schema.StopReason, error) {
	if t.round > 0 { // tools may take long enough for others to need the memory
		var err error
		if _, t.mark, err = t.agent.guard(ctx, t.params.Model, false); err != nil {
			return "", err
		}
	}
	t.stream = t.model.Tokenizer.NewStream()
	ids, err := t.encode()
	if wire := (*schema.Error)(nil); t.round > 0 && errors.As(err, &wire) && wire.Data.Kind == schema.KindContextOverflow {
		return schema.StopContextFull, nil // what was done before stays
	}
	if err != nil {
		return "", err
	}
	t.prompt = len(ids)
	left := t.params.MaxTokens - t.generated
	switch n := t.contextLength(); {
	case t.params.MaxTokens > 0 && left <= 0:
		return schema.StopMaxTokens, nil
	// One token at least has to fit behind the prompt.
	case len(ids) >= n && t.round > 0:
		return schema.StopContextFull, nil
	case len(ids) >= n:
		return "", schema.ContextOverflowed(len(ids), n)
	case ctx.Err() != nil:
		return "", ctx.Err()
	}
	constraint, err := t.constraint(ctx, ids)
	if err != nil {
		return "", err
	}
	if t.params.Messages != nil {
		if t.parser, err = t.newParser(ids); err != nil {
			return "", err
		}
	}
	t.begun, t.detector = time.Now(), t.newDetector()
	reason, res, err := t.generate(ctx, ids, constraint)
	t.account(res)
	return reason, err
}

// follow consumes a generation to its end. When ctx ends, the engine is told
// at once, even while the sink blocks, and no token that comes later counts.
func (t *turn) follow(ctx context.Context, g Generation) (schema.StopReason, job.Result, error) {
	defer context.AfterFunc(ctx, g.Cancel)()
	done := false
	events := make([]job.Event, batch)
	for !done && !t.over() && ctx.Err() == nil {
		n, err := g.Next(ctx, events)
		if err != nil && ctx.Err() == nil {
			g.Cancel()
			_, _ = g.Wait()
			return "", job.Result{}, err
		}
		logprobs := g.Logprobs()
		for _, ev := range events[:n] {
			if t.over() || ctx.Err() != nil {
				break
			}
			if ev.Kind == job.Token && len(logprobs) > 0 {
				t.logprobs = append(t.logprobs, tokenLogprobs(&logprobs[0], t.model.Tokenizer))
				logprobs = logprobs[1:]
			}
			done = ev.Kind == job.Done
			t.event(ctx, ev, g)
		}
	}
	res, err := g.Wait()
	if err == nil && res.Reason == job.StopConsumer {
		switch {
		case t.enough:
			t.say(ctx, t.stops.flush())
			return schema.StopEndTurn, res, nil
		case t.looping:
			return t.cut(ctx, schema.StopLoop), res, nil
		case t.overthought:
			return "", res, nil
		}
	}
	reason, err := endOf(res.Reason, err)
	if done && reason != "" {
		t.emit(ctx, t.stream.AppendFlush(t.step[:0]))
	}
	if t.stopped >= 0 {
		return schema.StopStopSequence, res, nil
	}
	t.flush(ctx, done && reason == schema.StopEndTurn)
	if t.stopped >= 0 {
		return schema.StopStopSequence, res, nil
	}
	if !done {
		reason = "" // ctx ended first
	}
	return reason, res, err
}

// cut says what is held back of an answer that ends here. The reason is the one given,
// unless there is a stop string in that.
func (t *turn) cut(ctx context.Context, reason schema.StopReason) schema.StopReason {
	t.emit(ctx, t.stream.AppendFlush(t.step[:0]))
	if t.stopped < 0 {
		t.flush(ctx, false)
	}
	if t.stopped >= 0 {
		return schema.StopStopSequence
	}
	return reason
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
		t.mark.end() // the model is there
		if t.tokens > 0 {
			return // the answer goes on, see endReasoning
		}
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
		if t.parser == nil {
			t.pass(ctx, t.step)
		} else {
			thinking := t.parser.Reasons()
			t.take(ctx, t.parser.Token(ev.ID, t.step))
			t.watch(ev.ID, thinking)
		}
		// Of what ended at a token first, the text counts.
		t.looping = t.detector.Add(ev.ID) && !t.over()
		if t.over() {
			g.Stop(t.tokens - t.before)
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

// newParser returns a parser of the answer to a prompt.
func (t *turn) newParser(prompt []int32) (parse.Parser, error) {
	t.format = t.model.format
	if t.callForm != nil {
		t.format = *t.callForm
	}
	if t.tuned != nil && t.format.EndOfReasoning(false) != "" {
		t.budget = t.tuned.settings.Reasoning.Budget
	}
	return t.format.New(t.model.Tokenizer, parse.Options{Tools: t.specs(), Prompt: prompt})
}

// emit takes text of which no token is known.
func (t *turn) emit(ctx context.Context, text []byte) {
	if t.parser == nil {
		t.pass(ctx, text)
		return
	}
	t.take(ctx, t.parser.Next(text))
}

// take takes what a parser has found.
func (t *turn) take(ctx context.Context, parts []parse.Part) {
	for _, p := range parts {
		switch {
		case t.stopped >= 0 || t.enough:
			return
		case p.Kind == parse.Text:
			t.pass(ctx, []byte(p.Text))
		case p.Kind == parse.Reasoning:
			t.thoughts = append(t.thoughts, p.Text...)
			t.tell(ctx, schema.ChannelReasoning, p.Text)
		case p.Kind == parse.CallBegun:
			t.writing = t.callID()
			t.argue(ctx, p.Call.Name, "")
		case p.Kind == parse.CallArguments:
			t.argue(ctx, "", p.Text)
		case p.Kind == parse.CallFinished && p.Call.Problem != "":
			t.problems = append(t.problems, p.Call.Problem)
			t.pass(ctx, []byte(p.Call.Raw))
		case p.Kind == parse.CallFinished: // a good one has begun
			t.called = append(t.called, schema.ToolCall{CallID: t.writing, Name: p.Call.Name, Arguments: p.Call.Arguments})
			t.enough = t.params.ParallelToolCalls != nil && !*t.params.ParallelToolCalls
		}
	}
}

// pass looks for stop strings.
func (t *turn) pass(ctx context.Context, text []byte) {
	var out []byte
	out, t.stopped = t.stops.next(text)
	t.say(ctx, out)
}

// flush says what is held back when no more will come. A call that was cut off is
// a mistake of the model's only where it ended the answer itself.
func (t *turn) flush(ctx context.Context, ended bool) {
	if t.parser != nil {
		parts := t.parser.Flush()
		for i, p := range parts {
			if !ended && p.Kind == parse.CallFinished {
				parts[i] = parse.Part{Kind: parse.Text, Text: p.Call.Raw}
			}
		}
		t.take(ctx, parts)
	}
	if t.stopped < 0 {
		t.say(ctx, t.stops.flush())
	}
}

// say gives text to the sink, and with it the number of tokens since the last.
func (t *turn) say(ctx context.Context, text []byte) {
	if len(text) == 0 {
		return
	}
	t.text = append(t.text, text...)
	t.tell(ctx, schema.ChannelText, string(text))
}

// tell gives the sink text of a channel.
func (t *turn) tell(ctx context.Context, channel schema.Channel, text string) {
	t.sink.Text(ctx, channel, text, t.counted())
}

// argue gives the sink the name of the call that is being written, or more of its
// arguments, where the client wants to see them come.
func (t *turn) argue(ctx context.Context, name, text string) {
	if value(t.params.Stream.ToolArguments, false) {
		t.sink.Arguments(ctx, t.writing, name, text, t.counted())
	}
}

// counted is the number of tokens since the sink was last given something. Their
// logprobs go before.
func (t *turn) counted() int {
	n := t.unsaid
	if known := min(n, len(t.logprobs)); known > 0 {
		t.sink.Logprobs(t.logprobs[len(t.logprobs)-known:])
	}
	t.unsaid = 0
	return n
}

func (t *turn) status(s schema.GenerateStatus) {
	s.GenerationID, s.Round = t.params.GenerationID, t.round
	t.sink.Status(s)
}
