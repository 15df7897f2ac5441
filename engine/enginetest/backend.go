package enginetest

import (
	"errors"
	"fmt"
	"time"

	"harmonyd/engine/job"
)

// Backend is a model without a device: what comes next is a fixed function of
// all tokens so far, so that a cache that is wrong by one token gives another
// text. It has the methods of the engine's backend; like that, it is confined to
// one goroutine at a time.
type Backend struct {
	Vocab, Context int
	EOS            []int32
	Weights        int64 // bytes
	// Checkpoints, where not 0, makes a sequence go back to multiples of it only.
	Checkpoints int
	// Before, where set, is called with the name of each step before it runs.
	// What it returns is the step's error; it may block or panic.
	Before func(step string) error

	// Sequences and Closed count what was opened and closed, Turns the calls of
	// EndTurn.
	Sequences, Closed, Turns int
	// Pieces is how many pieces a chunk of a prompt comes in, 1 where it is 0.
	Pieces   int
	Released bool

	tokens int // in all open sequences
}

// TokenBytes is the memory of one token of a sequence.
const TokenBytes = 8

// NewSequence returns an empty sequence.
func (b *Backend) NewSequence() (*Sequence, error) {
	if err := b.before("NewSequence"); err != nil {
		return nil, err
	}
	b.Sequences++
	return &Sequence{b: b, sums: make([]uint64, 1, b.Context+1), bound: b.Context}, nil
}

// EndTurn counts.
func (b *Backend) EndTurn() { b.Turns++ }

// Memory is that of the weights and of the tokens in open sequences.
func (b *Backend) Memory() (active, peak int64) {
	active = b.Weights + TokenBytes*int64(b.tokens)
	return active, active
}

// Bytes is the memory of the weights.
func (b *Backend) Bytes() int64 { return b.Weights }

// Cost is the memory of a sequence.
func (b *Backend) Cost(tokens int) int64 { return TokenBytes * int64(tokens) }

// Close marks the backend released.
func (b *Backend) Close() { b.Released = true }

func (b *Backend) before(step string) error {
	if b.Before == nil {
		return nil
	}
	return b.Before(step)
}

// Sequence is one text. Its cache is a running sum after each token.
type Sequence struct {
	b        *Backend
	sums     []uint64 // sums[n] is of the first n tokens
	bound    int
	sampling job.Sampling
	logprobs int
	flight   [8]int32 // ring of choices
	chosen   int
	read     int
	closed   bool
	left     int // pieces of the last Prefill or Extend
	begun    int // where that one began
}

// Len is the number of tokens in the cache.
func (q *Sequence) Len() int { return len(q.sums) - 1 }

// Bound makes more tokens an error.
func (q *Sequence) Bound(tokens int) { q.bound = tokens }

// SetSampling stores what choices depend on. It demands to be told what the cache
// holds.
func (q *Sequence) SetSampling(s job.Sampling, logprobs int, tokens []int32) error {
	q.sampling, q.logprobs = s, logprobs
	sum := uint64(0)
	for _, id := range tokens {
		sum = after(sum, id)
	}
	if len(tokens) != q.Len() || sum != q.sums[q.Len()] {
		return errors.New("set sampling: the tokens are not those of the cache")
	}
	return q.b.before("SetSampling")
}

// Logprobs makes up numbers that tell the token and the moment.
func (q *Sequence) Logprobs(dst *job.Logprobs) {
	id := q.flight[(q.read-1)%len(q.flight)]
	*dst = job.Logprobs{Chosen: job.Logprob{ID: id, Value: -float32(id+1) / 1024}, N: q.logprobs}
	for i := range dst.N {
		dst.Top[i] = job.Logprob{ID: (id + int32(i)) % int32(q.b.Vocab), Value: dst.Chosen.Value - float32(i)}
	}
}

// Prefill appends tokens.
func (q *Sequence) Prefill(tokens []int32) error {
	if err := q.b.before("Prefill"); err != nil {
		return err
	}
	q.prepare()
	return q.feed(tokens...)
}

func (q *Sequence) prepare() { q.left, q.begun = q.b.Pieces, q.Len() }

// Proceed does one piece.
func (q *Sequence) Proceed(time.Duration) (left int, err error) {
	if q.left == 0 {
		return 0, nil
	}
	if err := q.b.before("Proceed"); err != nil {
		return 0, err
	}
	q.left--
	return q.left, nil
}

// Extend appends tokens and chooses one.
func (q *Sequence) Extend(tokens []int32) error {
	if q.chosen != q.read {
		return errors.New("extend: tokens are in flight")
	}
	if err := q.b.before("Extend"); err != nil {
		return err
	}
	q.chosen, q.read = 0, 0
	q.prepare()
	if err := q.feed(tokens...); err != nil {
		return err
	}
	q.choose()
	return nil
}

// Score appends tokens, or the newest choice.
func (q *Sequence) Score(tokens []int32) error {
	if err := q.b.before("Score"); err != nil {
		return err
	}
	if len(tokens) == 0 {
		if q.chosen == 0 {
			return errors.New("score: nothing was chosen")
		}
		return q.feed(q.flight[(q.chosen-1)%len(q.flight)])
	}
	q.prepare()
	return q.feed(tokens...)
}

// Scored says no.
func (q *Sequence) Scored() bool { return false }

// Choose makes a choice from what the mask allows: the next token that it has.
func (q *Sequence) Choose(mask []uint32) error {
	if err := q.b.before("Choose"); err != nil {
		return err
	}
	q.choose()
	last := &q.flight[(q.chosen-1)%len(q.flight)]
	for range q.b.Vocab {
		if mask[*last/32]>>(*last%32)&1 == 1 {
			return nil
		}
		*last = (*last + 1) % int32(q.b.Vocab)
	}
	return errors.New("choose: the mask is empty")
}

// Verify appends tokens and gives the choice after each.
func (q *Sequence) Verify(tokens, choices []int32) error {
	if err := q.b.before("Verify"); err != nil {
		return err
	}
	for i := range tokens {
		q.chosen, q.read = 0, 0
		if err := q.feed(tokens[i]); err != nil {
			return err
		}
		q.choose()
		choices[i] = q.flight[0]
	}
	q.chosen, q.read = 0, 0
	return nil
}

// Dispatch appends the newest choice and makes another one.
func (q *Sequence) Dispatch() error {
	if q.chosen == 0 {
		return errors.New("dispatch: nothing was chosen")
	}
	if err := q.b.before("Dispatch"); err != nil {
		return err
	}
	if err := q.feed(q.flight[(q.chosen-1)%len(q.flight)]); err != nil {
		return err
	}
	q.choose()
	return nil
}

// Read returns the oldest choice that was not read.
func (q *Sequence) Read() (int32, error) {
	if q.read == q.chosen {
		return 0, errors.New("read: nothing is in flight")
	}
	if err := q.b.before("Read"); err != nil {
		return 0, err
	}
	q.read++
	q.left = 0
	return q.flight[(q.read-1)%len(q.flight)], nil
}

// Reach returns the largest length up to n that can be gone back to.
func (q *Sequence) Reach(n int) int {
	if n == q.Len() {
		return n
	}
	return n / max(q.b.Checkpoints, 1) * max(q.b.Checkpoints, 1)
}

// SetBack forgets what is in flight and the last n tokens.
func (q *Sequence) SetBack(n int) bool {
	keep := q.Len() - n
	if n < 0 || keep < 0 || q.Reach(keep) != keep {
		return false
	}
	if q.left > 0 && keep > q.begun {
		panic("set back into what was not computed")
	}
	q.chosen, q.read, q.left = 0, 0, 0
	q.sums = q.sums[:len(q.sums)-n]
	q.b.tokens -= n
	return true
}

// Fork returns a sequence of the first n tokens, nil where that is out of reach.
func (q *Sequence) Fork(n int) *Sequence {
	if n > q.Len() || q.Reach(n) != n {
		return nil
	}
	q.b.Sequences++
	q.b.tokens += n
	return &Sequence{b: q.b, sums: append(make([]uint64, 0, q.b.Context+1), q.sums[:n+1]...), bound: q.b.Context}
}

// Bytes is TokenBytes for each token.
func (q *Sequence) Bytes() int64 { return TokenBytes * int64(q.Len()) }

// Close panics when it is called twice.
func (q *Sequence) Close() {
	if q.closed {
		panic("the sequence is closed twice")
	}
	q.closed = true
	q.b.Closed++
	q.b.tokens -= q.Len()
}

func (q *Sequence) feed(tokens ...int32) error {
	if q.closed {
		return errors.New("the sequence is closed")
	}
	for _, id := range tokens {
		if q.Len() == q.bound {
			return fmt.Errorf("more than %d tokens", q.bound)
		}
		q.b.tokens++
		q.sums = append(q.sums, after(q.sums[q.Len()], id))
	}
	return nil
}

func (q *Sequence) choose() {
	sum := q.sums[q.Len()]
	if q.sampling.Temperature > 0 {
		sum = splitmix(sum ^ q.sampling.Seed)
	}
	q.flight[q.chosen%len(q.flight)] = int32(sum % uint64(q.b.Vocab))
	q.chosen++
}

// after is the running sum after one more token.
func after(sum uint64, id int32) uint64 { return splitmix(sum ^ uint64(id+1)) }
