package engine

import (
	"fmt"

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

	fence mlx.Var     // ready when the last chunk of a prefill is done
	roots []mlx.Array // scratch of Prefill
}

func (q *mlxSequence) Len() int { return q.cache.Len() }

func (q *mlxSequence) Bound(tokens int) { q.cache.Bound(tokens) }

func (q *mlxSequence) Prefill(tokens []int32) error {
	s := q.s
	defer s.Reset()
	in := s.FromInt32s(tokens, 1, len(tokens))
	q.sampler.Feed(s, in, q.cache.Len())
	q.b.model.Forward(s, in, q.cache)
	q.roots = q.cache.AppendRoots(q.roots[:0])
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
	q.dropFlight()
	defer q.s.Reset()
	q.fence.Free()
	return q.forward(q.s.FromInt32s(tokens, 1, len(tokens)))
}

func (q *mlxSequence) Verify(tokens, choices []int32) error {
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

func (q *mlxSequence) Dispatch() error {
	defer q.s.Reset()
	return q.forward(q.tokens[(q.chosen-1)%len(q.tokens)].Array())
}

// forward feeds tokens [1, L] and puts the choice after the last in flight.
func (q *mlxSequence) forward(tokens mlx.Array) error {
	s := q.s
	q.sampler.Feed(s, tokens, q.cache.Len())
	h := q.b.model.Forward(s, tokens, q.cache)
	if l := h.Dim(1); l > 1 {
		h = s.SliceAxis(h, 1, l-1, l)
	}
	next, report := q.sampler.Sample(s, q.b.model.Logits(s, h), q.cache.Len())
	last := next
	if report.Valid() {
		last = report // which needs next
	}
	if err := s.AsyncEval(last); err != nil {
		return err
	}
	q.tokens[q.chosen%len(q.tokens)].Set(next)
	q.reports[q.chosen%len(q.tokens)].Set(report)
	q.chosen++
	return nil
}

func (q *mlxSequence) Read() (int32, error) {
	if q.read == q.chosen {
		return 0, fmt.Errorf("read: nothing is in flight")
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
}

func (q *mlxSequence) Close() {
	q.dropFlight()
	q.fence.Free()
	q.cache.Free()
	if q.sampler != nil {
		q.sampler.Close()
		q.sampler = nil
	}
}
