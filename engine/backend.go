package engine

import (
	"time"

	"harmonyd/engine/job"
)

// Backend is a loaded model as the loop sees it. The MLX backend and the
// scripted one of package enginetest implement it. It is confined to the
// engine thread.
type Backend interface {
	// Limits are constant for the life of the backend.
	Limits() Limits
	// Bytes is the memory of the weights.
	Bytes() int64
	// Cost is the memory that a sequence takes which holds so many tokens and is
	// bounded to them, with the scratch memory of its steps. It rises with tokens.
	Cost(tokens int) int64
	// NewSequence returns an empty sequence. The caller closes it.
	NewSequence() (Sequence, error)
	// EndTurn gives back scratch memory. It is called when a generation ends,
	// not per token.
	EndTurn()
	// Memory returns the bytes in use on the device by the whole engine, and
	// the most there have been.
	Memory() (active, peak int64)
	// Close frees the weights. No sequence may be open.
	Close()
}

// Limits are what the scheduler must know of a model.
type Limits struct {
	ContextLength int
	Vocab         int
	StopIDs       []int32
	// Pieces is how many pieces the evaluation of a chunk of a prompt comes in, see
	// Sequence.Proceed.
	Pieces int
}

// Sequence is one text in the making: its cache of keys and values, and the
// tokens that the device has chosen but nobody has read, which are in flight.
// Len counts the tokens in the cache; a token in flight is not among them
// until a Dispatch feeds it back.
//
// Every method that computes only enqueues; errors of the device may surface
// at a later call. After an error the sequence must be closed.
type Sequence interface {
	Len() int
	// Bound says that the sequence will hold no more than so many tokens, so that
	// it reserves no memory beyond them.
	Bound(tokens int)
	// SetSampling decides how Extend, Dispatch and Verify choose, and for how many
	// tokens Logprobs tells; it comes before anything else. Tokens are those that
	// the cache holds, which penalties look at. The choice for a position depends
	// on the scores there, the sampling, the position and, where there are
	// penalties, the tokens before it.
	SetSampling(s job.Sampling, logprobs int, tokens []int32) error
	// Prefill appends tokens and chooses none. Where there are Limits.Pieces it
	// only prepares them. Else it returns when the chunk before this one is done,
	// so that the device always has work and the caller learns how long a chunk
	// takes.
	Prefill(tokens []int32) error
	// Proceed works on what Prefill or Extend prepared, for about d but at least a
	// piece, and returns how many are left. Until there is none, the sequence may be left alone for
	// as long as there is more urgent work. Whatever else needs the whole does what
	// is left; SetBack and Close leave it undone, and SetBack must then go back to
	// before it.
	Proceed(d time.Duration) (left int, err error)
	// Extend appends 1 to k tokens and puts the choice that follows the last
	// of them in flight, or prepares that, as Prefill. Nothing may be in flight.
	Extend(tokens []int32) error
	// Score appends 1 to k tokens, or where it is given none the newest token in
	// flight, and computes the scores that follow the last of them, for Choose. What
	// is in flight stays there. It may prepare that, as Prefill.
	Score(tokens []int32) error
	// Scored reports whether Choose would not have to wait for what Score computes.
	Scored() bool
	// Choose puts the choice in flight that follows what Score appended, from the
	// tokens whose bit is set in mask: token i has bit i%32 of word i/32, and each
	// score has a bit.
	Choose(mask []uint32) error
	// Verify appends 1 to k tokens in one evaluation and reads the choice that
	// follows each of them: choices[i] is what Extend would have chosen after
	// tokens[:i+1]. Choices is as long as tokens. Nothing is in flight
	// afterwards; SetBack forgets the tokens that the caller does not keep.
	Verify(tokens, choices []int32) error
	// Dispatch appends the newest token in flight and puts the choice that
	// follows it in flight. The token never leaves the device for it.
	Dispatch() error
	// Read blocks until the oldest token in flight is known and returns it. It
	// may still be fed back by a later Dispatch.
	Read() (int32, error)
	// Logprobs says how probable the token was that Read returned last. It may be
	// called where SetSampling asked for logprobs, and costs no other read.
	Logprobs(*job.Logprobs)
	// Reach returns the largest length, at most n, that SetBack and Fork can go
	// back to. N is at most Len.
	Reach(n int) int
	// SetBack forgets what is in flight and the last n tokens of the cache. It
	// reports false, and forgets nothing of the cache, where it cannot.
	SetBack(n int) bool
	// Fork returns a sequence of the first n tokens, nil where it cannot. It
	// needs Bound and SetSampling before anything else.
	Fork(n int) Sequence
	// Bytes is the memory of the cache on the device.
	Bytes() int64
	// Close frees the cache. It may be called with work in flight.
	Close()
}

// maxInFlight is how many tokens Dispatch may put in flight beyond what was
// read: the one being computed and the one after it.
const maxInFlight = 2
