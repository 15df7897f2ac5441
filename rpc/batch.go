package rpc

import (
	"context"
	"sync"
	"time"

	"harmonyd/schema"
)

// The batching policy of a request that names none, and its bounds.
const (
	defaultInterval  = 33 * time.Millisecond // two frames of a 60 Hz screen
	defaultMaxTokens = 64
	defaultMaxBytes  = 4 << 10

	// pauseBytes of text may wait for a client that does not read; then the
	// generation waits too.
	pauseBytes = 8 << 20
	// deltaBytes bounds one notification, so that sending what has piled up
	// needs little memory besides.
	deltaBytes = 256 << 10
)

// generation is the Sink of one generate request: it turns what the agent
// says into notifications. Text is held back for a moment so that a client
// redraws 30 times a second and not once a token, but the first text and any
// text that follows a pause are not: the throttle is at its leading edge.
//
// The text waits here and not in the writer's queue. There the generation
// stands as a mark, and when the mark's turn comes the writer takes all that is
// here by then. So a pipe that is blocked costs nothing but the text. What is
// queued behind a mark, such as the response, comes after all that was said
// before it; pin sees to it that it also comes before all that is said later.
type generation struct {
	id     string
	w      *writer
	off    bool // neither deltas nor states are sent
	policy policy
	// entered is called for each state; it may take locks of its own.
	entered func(schema.GenerateStatus)
	// begun is called when the agent shows that it has the generation in its
	// engine's queue or beyond, again and again.
	begun func()

	mu     sync.Mutex
	queue  []event
	bytes  int    // of the text in queue
	coming []byte // logprobs of the next text, as members of an array
	fresh  int    // tokens since the last seal
	freshN int    // bytes since the last seal
	sealed int    // events at the front of queue that take no more text
	taking int    // of those, how many the writer has yet to take this turn
	marks  []int  // in the writer's queue: how many events each takes, 0 for all
	marked bool   // the last of marks takes all
	spoken bool   // the first text has been marked
	sent   time.Time
	timer  *time.Timer
	armed  bool
	closed bool
	last   label // of the text that came last
	state  schema.GenerateStatus
	spare  *delta
	room   chan struct{} // closed when text has been taken; nil if none waits

	seq int64 // of the next notification; the writer's alone
}

// defaultStream is the policy of a request that names none.
func defaultStream() schema.StreamPolicy {
	interval, arguments := int(defaultInterval.Milliseconds()), false
	return schema.StreamPolicy{IntervalMS: &interval, MaxTokens: defaultMaxTokens, MaxBytes: defaultMaxBytes, ToolArguments: &arguments}
}

// policy is a StreamPolicy with its defaults filled in.
type policy struct {
	interval            time.Duration
	maxTokens, maxBytes int
}

// event is one notification to come: a delta, a call or a status.
type event struct {
	delta  *delta
	call   *schema.GenerateToolCall
	status schema.GenerateStatus
}

func newPolicy(s schema.StreamPolicy) policy {
	if s = s.Over(defaultStream()); s.Off {
		return policy{}
	}
	return policy{time.Duration(*s.IntervalMS) * time.Millisecond, s.MaxTokens, s.MaxBytes}
}

func newGeneration(id string, w *writer, s schema.StreamPolicy) *generation {
	return &generation{
		id: id, w: w, off: s.Off, policy: newPolicy(s),
		entered: func(schema.GenerateStatus) {}, begun: func() {},
		state: schema.GenerateStatus{GenerationID: id},
	}
}

// Text adds text of a channel. See Sink.
func (g *generation) Text(ctx context.Context, channel schema.Channel, text string, tokens int) {
	g.put(ctx, label{channel: channel}, text, tokens)
}

// Arguments adds to the arguments of a call. See Sink.
func (g *generation) Arguments(ctx context.Context, callID, name, text string, tokens int) {
	g.put(ctx, label{schema.ChannelToolArguments, callID, name}, text, tokens)
}

func (g *generation) put(ctx context.Context, l label, text string, tokens int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.off || g.closed || text == "" && l.name == "" && tokens == 0 {
		return
	}
	for g.bytes >= pauseBytes && !g.closed {
		if !g.waitForRoom(ctx) {
			break // what is left of a cancelled generation is let in
		}
	}
	switching := g.freshN > 0 && !l.continues(g.last)
	g.add(l, text, tokens)
	switch {
	case g.freshN == 0:
	case g.marked: // it goes out with what is queued already
		g.spoken = true
	case !g.spoken, switching,
		g.fresh >= g.policy.maxTokens, g.freshN >= g.policy.maxBytes,
		time.Since(g.sent) >= g.policy.interval:
		g.spoken = true
		g.mark()
	default:
		g.arm()
	}
}

// Logprobs adds what is known of the tokens of the next text. See Sink.
func (g *generation) Logprobs(tokens []schema.TokenLogprobs) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.off || g.closed {
		return
	}
	for i := range tokens {
		member, err := schema.Encode(&tokens[i])
		if err != nil {
			continue // not a number, which an engine does not report
		}
		if len(g.coming) > 0 {
			g.coming = append(g.coming, ',')
		}
		g.coming = append(g.coming, member...)
	}
}

// waitForRoom gives the lock away until the writer has taken something.
func (g *generation) waitForRoom(ctx context.Context) bool {
	if g.room == nil {
		g.room = make(chan struct{})
	}
	room := g.room
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-room:
		return true
	case <-ctx.Done():
		return false
	}
}

// add puts text where it will be sent: into the last delta, if the writer has
// not begun to take it and it is not full.
func (g *generation) add(l label, text string, tokens int) {
	g.last = l
	n := len(l.name) + len(text)
	g.freshN += n
	n += len(g.coming)
	g.bytes += n
	g.fresh += tokens
	var d *delta
	if last := len(g.queue); last > g.sealed {
		d = g.queue[last-1].delta
	}
	if d == nil || d.bytes+n > deltaBytes && d.bytes > 0 {
		if d, g.spare = g.spare, nil; d == nil {
			d = new(delta)
		}
		d.round = g.state.Round
		g.queue = append(g.queue, event{delta: d})
	}
	d.add(l, text, tokens)
	d.addLogprobs(g.coming)
	g.coming = g.coming[:0]
}

// mark gives the generation a place in the writer's queue.
func (g *generation) mark() {
	if !g.marked {
		g.marked = true
		g.marks = append(g.marks, 0)
		g.w.add(item{source: g})
	}
}

// pin keeps what will be said from going out with what has been said: the
// caller is about to queue a message that belongs in between.
func (g *generation) pin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.marked {
		return
	}
	g.marked = false
	taken := g.taking // and by the marks before
	for _, n := range g.marks[:len(g.marks)-1] {
		taken += n
	}
	g.marks[len(g.marks)-1] = len(g.queue) - taken
	g.sealed = len(g.queue)
}

// arm makes sure that what is held back goes out when its time has come.
func (g *generation) arm() {
	if g.armed {
		return
	}
	g.armed = true
	wait := time.Until(g.sent.Add(g.policy.interval))
	if g.timer == nil {
		g.timer = time.AfterFunc(wait, g.due)
	} else {
		g.timer.Reset(wait)
	}
}

func (g *generation) due() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = false
	switch {
	case g.freshN == 0 || g.marked:
	case time.Since(g.sent) < g.policy.interval: // sent early in between
		g.arm()
	default:
		g.mark()
	}
}

// Status reports a state. See Sink. A report that repeats the one before says
// nothing new, and one that follows another of its state unsent replaces it.
func (g *generation) Status(s schema.GenerateStatus) {
	s.GenerationID, s.Seq = g.id, 0
	g.mu.Lock()
	same := g.closed || s == g.state
	if !same {
		g.setState(s)
	}
	g.mu.Unlock()
	if s.State != schema.StateQueued || s.PromptTokens > 0 {
		g.begun()
	}
	if !same {
		g.entered(s)
	}
}

func (g *generation) setState(s schema.GenerateStatus) {
	g.state = s
	if g.off {
		return
	}
	if n := len(g.queue); n > g.sealed && g.queue[n-1].isStatus() && g.queue[n-1].status.State == s.State {
		g.queue[n-1].status = s
	} else {
		g.queue = append(g.queue, event{status: s})
	}
	g.mark()
}

func (e *event) isStatus() bool { return e.delta == nil && e.call == nil }

// ToolCall reports a call. See Sink. What follows another report of its call and
// status unsent replaces it, so that a tool that tells of its progress all the time
// needs no memory for it.
func (g *generation) ToolCall(u schema.GenerateToolCall) {
	u.GenerationID, u.Seq = g.id, 0
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.off || g.closed {
		return
	}
	u.Round = g.state.Round
	for i := len(g.queue) - 1; i >= g.sealed; i-- {
		if c := g.queue[i].call; c != nil && c.CallID == u.CallID {
			if c.Status == u.Status {
				*c = u
				return
			}
			break
		}
	}
	g.queue = append(g.queue, event{call: &u})
	g.mark()
}

// current is the state that the generation is in.
func (g *generation) current() schema.GenerateState {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.State
}

// finish says that the generation is done, and sends what is held back. What
// is added to the writer after it comes after the last notification.
func (g *generation) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.State != schema.StateDone {
		s := g.state
		s.State = schema.StateDone
		g.setState(s)
	}
	if len(g.queue) > g.sealed {
		g.mark()
	}
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
}

// seal returns how many notifications are ready. The writer calls it when the
// mark's turn has come, and then next as often. What is added meanwhile keeps
// to the policy: a fast generation must not chase its own writer.
func (g *generation) seal() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.marks[0]
	if g.marks = g.marks[:copy(g.marks, g.marks[1:])]; len(g.marks) == 0 {
		g.marked = false
	}
	g.sent = time.Now()
	if n == 0 {
		n = len(g.queue)
		g.fresh, g.freshN = 0, 0
		g.sealed = n
	}
	g.taking = n
	return n
}

// next takes the first notification and appends it to dst.
func (g *generation) next(dst []byte) []byte {
	g.mu.Lock()
	e := g.queue[0]
	g.queue[0] = event{}
	if g.queue = g.queue[1:]; len(g.queue) == 0 {
		g.queue = nil
	}
	g.sealed--
	g.taking--
	if e.delta != nil {
		g.bytes -= e.delta.bytes
	}
	if g.room != nil {
		close(g.room)
		g.room = nil
	}
	g.mu.Unlock()

	switch {
	case e.isStatus():
		e.status.Seq = g.seq
		dst = appendNotification(dst, "generate/status", encoded(e.status))
	case e.call != nil:
		e.call.Seq = g.seq
		dst = appendNotification(dst, "generate/toolCall", encoded(e.call))
	default:
		dst = g.appendDelta(dst, e.delta)
		g.recycle(e.delta)
	}
	g.seq++
	return dst
}

// recycle keeps a delta's memory for the next one, unless a pause has made it
// large.
func (g *generation) recycle(d *delta) {
	if d.bytes > 4*defaultMaxBytes || len(d.parts) > 2 {
		return
	}
	d.parts, d.logprobs, d.tokens, d.bytes = d.parts[:0], d.logprobs[:0], 0, 0
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spare = d
}
