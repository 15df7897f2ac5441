package engine

import (
	"fmt"
	"math"
	"slices"
	"time"

	"harmonyd/engine/kv"
	"harmonyd/engine/mlx"
	"harmonyd/engine/sample"
)

// mlxBackend is a model with its weights on the device.
type mlxBackend struct {
	*plan
	limits Limits
	// scratch makes the nodes of every step; there is one, since one thread
	// builds one step at a time.
	scratch *mlx.Scope
}

// newMLXBackend takes over a plan whose slots' arrays are set.
func newMLXBackend(p *plan, limits Limits) *mlxBackend {
	return &mlxBackend{p, limits, mlx.NewScope(mlx.Stream{})}
}

func (b *mlxBackend) Limits() Limits { return b.limits }

func (b *mlxBackend) Bytes() int64 { return b.bytes }

func (b *mlxBackend) Cost(tokens int) int64 { return b.cost(tokens) }

func (b *mlxBackend) EndTurn() { mlx.ClearCache() }

func (b *mlxBackend) Memory() (active, peak int64) {
	return mlx.ActiveMemory(), mlx.PeakMemory()
}

func (b *mlxBackend) Close() {
	for i := range b.slots {
		b.slots[i].Free()
	}
	b.scratch.Close()
	mlx.ClearCache()
}

func (b *mlxBackend) NewSequence() (Sequence, error) {
	return &mlxSequence{b: b, s: b.scratch, cache: b.model.NewCache()}, nil
}

// mlxSequence is one text on the device.
type mlxSequence struct {
	b       *mlxBackend
	s       *mlx.Scope
	cache   kv.Cache
	sampler *sample.Sampler

	// tokens are the choices not yet out of date, uint32 [1, 1] each: chosen
	// counts those made and read those read, since the last Extend.
	tokens       [maxInFlight + 1]mlx.Var
	chosen, read int
	// reports are what the sampler has to say of each, where it was asked, and
	// report is the one that was read last.
	reports [maxInFlight + 1]mlx.Var
	report  []uint32

	scores mlx.Var // float, [1, 1, V]: what Score computes
	fence  mlx.Var // ready when the last chunk of a prefill is done
	// roots are what the evaluation under way consists of, layer after layer. A piece
	// of it ends at each of ends; done counts the pieces that there are already.
	roots []mlx.Array
	ends  []int
	done  int
}

func (q *mlxSequence) Len() int { return q.cache.Len() }

func (q *mlxSequence) Bound(tokens int) { q.cache.Bound(tokens) }

func (q *mlxSequence) Prefill(tokens []int32) error {
	if err := q.complete(); err != nil {
		return err
	}
	s := q.s
	defer s.Reset()
	in := s.FromInt32s(tokens, 1, len(tokens))
	q.sampler.Feed(s, in, q.cache.Len())
	q.b.model.Forward(s, in, q.cache)
	q.prepare()
	if q.b.limits.Pieces > 1 {
		return s.Err()
	}
	q.done = len(q.ends) // at once
	// One element of the last layer's keys, which is there when all are. It is
	// converted so that it is a copy: a view would keep MLX from writing the next
	// chunk in place.
	last := q.roots[len(q.roots)-2]
	mark := s.Slice(last, []int{0, 0, 0, 0}, []int{1, 1, 1, 1})
	mark = s.AsType(mark, mlx.Int32)
	q.roots = append(q.roots, mark)
	if err := s.AsyncEval(q.roots...); err != nil {
		return err
	}
	before := q.fence.Array()
	if before.Valid() {
		s.ItemInt32(before)
	}
	q.fence.Set(mark)
	return s.Err()
}

func (q *mlxSequence) Extend(tokens []int32) error {
	if err := q.complete(); err != nil {
		return err
	}
	q.dropFlight()
	defer q.s.Reset()
	q.fence.Free()
	last, err := q.forward(q.s.FromInt32s(tokens, 1, len(tokens)))
	if err != nil {
		return err
	}
	if q.b.limits.Pieces > 1 && len(tokens) > 1 {
		q.prepare(last)
		return nil
	}
	return q.s.AsyncEval(last)
}

// prepare makes an evaluation of what every layer's cache needs and, after them, more.
func (q *mlxSequence) prepare(more ...mlx.Array) {
	n := q.cache.Layers()
	q.roots = slices.Grow(q.roots[:0], 2*n+len(more))
	q.ends = slices.Grow(q.ends[:0], n+len(more))
	q.done = 0
	for i := range n {
		q.roots = q.cache.AppendRoots(q.roots, i)
		q.ends = append(q.ends, len(q.roots))
	}
	if len(more) > 0 {
		q.roots = append(q.roots, more...)
		q.ends = append(q.ends, len(q.roots))
	}
}

func (q *mlxSequence) Proceed(d time.Duration) (left int, err error) {
	for begin := time.Now(); q.done < len(q.ends); {
		piece := q.roots[q.begin():q.ends[q.done]]
		q.done++
		if err := q.s.Eval(piece...); err != nil {
			q.s.Reset()
			return 0, err
		}
		if time.Since(begin) >= d {
			break
		}
	}
	return len(q.ends) - q.done, nil
}

// begin is where the next piece begins in roots.
func (q *mlxSequence) begin() int {
	if q.done == 0 {
		return 0
	}
	return q.ends[q.done-1]
}

// complete does what is left of an evaluation.
func (q *mlxSequence) complete() error {
	_, err := q.Proceed(math.MaxInt64)
	return err
}

// abandon leaves an evaluation as it is. What it would have added to the cache is
// undefined, and the cache must be set back to where it began.
func (q *mlxSequence) abandon() {
	if q.done < len(q.ends) {
		// Fails only where the arrays are not to be used any more.
		_ = q.s.Skip(q.roots[q.begin():]...)
		q.s.Reset()
		q.done = len(q.ends)
	}
}

func (q *mlxSequence) Verify(tokens, choices []int32) error {
	if err := q.complete(); err != nil {
		return err
	}
	q.dropFlight()
	s := q.s
	defer s.Reset()
	q.fence.Free()
	begin := q.cache.Len()
	in := s.FromInt32s(tokens, 1, len(tokens))
	q.sampler.Feed(s, in, begin)
	logits := q.b.model.Logits(s, q.b.model.Forward(s, in, q.cache))
	rows := make([]mlx.Array, len(tokens))
	for i := range rows {
		// Each draw has its own position, and with it the key and the tokens before
		// it that it would have had in a step of its own.
		rows[i], _ = q.sampler.Sample(s, s.SliceAxis(logits, 1, i, i+1), begin+i+1)
	}
	s.Int32s(s.Concatenate(1, rows...), choices)
	return s.Err()
}

func (q *mlxSequence) Score(tokens []int32) error {
	if err := q.complete(); err != nil {
		return err
	}
	s := q.s
	defer s.Reset()
	q.fence.Free()
	in := q.tokens[(q.chosen+len(q.tokens)-1)%len(q.tokens)].Array()
	if len(tokens) > 0 {
		in = s.FromInt32s(tokens, 1, len(tokens))
	}
	q.scores.Free() // which may be of a place that nothing was chosen for
	q.scores.Set(q.logits(in))
	if err := s.Err(); err != nil {
		return err
	}
	if q.b.limits.Pieces > 1 && len(tokens) > 1 {
		q.prepare(q.scores.Array())
		return nil
	}
	return s.AsyncEval(q.scores.Array())
}

func (q *mlxSequence) Scored() bool { return q.s.Ready(q.scores.Array()) }

func (q *mlxSequence) Choose(mask []uint32) error {
	if err := q.complete(); err != nil {
		return err
	}
	s := q.s
	defer s.Reset()
	last, err := q.choose(q.sampler.Restrict(s, q.scores.Array(), mask))
	if err != nil {
		return err
	}
	return s.AsyncEval(last)
}

func (q *mlxSequence) Dispatch() error {
	if err := q.complete(); err != nil {
		return err
	}
	defer q.s.Reset()
	last, err := q.forward(q.tokens[(q.chosen-1)%len(q.tokens)].Array())
	if err != nil {
		return err
	}
	return q.s.AsyncEval(last)
}

// forward feeds tokens [1, L] and makes the choice after the last one of those in
// flight. Evaluating last computes it.
func (q *mlxSequence) forward(tokens mlx.Array) (last mlx.Array, err error) {
	return q.choose(q.logits(tokens))
}

// logits feeds tokens [1, L] and returns the scores [1, 1, V] after the last one.
func (q *mlxSequence) logits(tokens mlx.Array) mlx.Array {
	s := q.s
	q.sampler.Feed(s, tokens, q.cache.Len())
	h := q.b.model.Forward(s, tokens, q.cache)
	if l := h.Dim(1); l > 1 {
		h = s.SliceAxis(h, 1, l-1, l)
	}
	return q.b.model.Logits(s, h)
}

// choose makes a choice from scores [1, 1, V] one of those in flight. Evaluating last
// computes it.
func (q *mlxSequence) choose(scores mlx.Array) (last mlx.Array, err error) {
	s := q.s
	next, report := q.sampler.Sample(s, scores, q.cache.Len())
	if err := s.Err(); err != nil {
		return last, err
	}
	q.tokens[q.chosen%len(q.tokens)].Set(next)
	q.reports[q.chosen%len(q.tokens)].Set(report)
	last = q.tokens[q.chosen%len(q.tokens)].Array()
	if report.Valid() {
		last = q.reports[q.chosen%len(q.tokens)].Array() // which needs next
	}
	q.chosen++
	return last, nil
}

func (q *mlxSequence) Read() (int32, error) {
	if q.read == q.chosen {
		return 0, fmt.Errorf("read: nothing is in flight")
	}
	if err := q.complete(); err != nil {
		return 0, err
	}
	s, i := q.s, q.read%len(q.tokens)
	var id int32
	if report := q.reports[i].Array(); report.Valid() {
		id = q.readReport(report)
	} else {
		id = s.ItemInt32(q.tokens[i].Array())
	}
	q.read++
	if err := s.Err(); err != nil {
		s.Reset()
		return 0, err
	}
	return id, nil
}

func (q *mlxSequence) Reach(n int) int { return q.cache.Reach(n) }

func (q *mlxSequence) SetBack(n int) bool {
	q.abandon()
	q.dropFlight()
	return q.cache.SetBack(n)
}

func (q *mlxSequence) Fork(n int) Sequence {
	cache, ok := q.cache.Fork(n)
	if !ok {
		return nil
	}
	return &mlxSequence{b: q.b, s: q.s, cache: cache}
}

func (q *mlxSequence) Bytes() int64 { return q.cache.Bytes() }

// dropFlight forgets what was chosen. The device may still be computing it.
func (q *mlxSequence) dropFlight() {
	for i := range q.tokens {
		q.tokens[i].Free()
		q.reports[i].Free()
	}
	q.chosen, q.read = 0, 0
	q.scores.Free()
}

func (q *mlxSequence) Close() {
	q.done = len(q.ends)
	q.dropFlight()
	q.fence.Free()
	q.cache.Free()
	if q.sampler != nil {
		q.sampler.Close()
		q.sampler = nil
	}
}
