package mlx

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A layer is one transformer layer with a cache, small enough that the binding and
// not the arithmetic is measured.
type layer struct {
	s                        *Scope
	embed, norm, freqs       Var
	wq, wk, wv, wo           Var
	up, gate, down           Var
	packed, scales, biases   Var
	keys, values, token, key Var
	one                      Var
	offset                   int
}

const (
	stepHidden   = 64
	stepHeads    = 4
	stepGroups   = 2
	stepHead     = stepHidden / stepHeads
	stepCapacity = 256
	stepVocab    = 128
)

func newLayer(t testing.TB) *layer {
	onEngine(t)
	m := &layer{s: NewScope(Stream{})}
	s := m.s
	w := func(v *Var, rows, cols int) {
		v.Set(s.FromFloat32s(pseudo(rows*cols, uint32(rows)), rows, cols))
	}
	w(&m.embed, stepVocab, stepHidden)
	w(&m.wq, stepHidden, stepHidden)
	w(&m.wk, stepHidden, stepGroups*stepHead)
	w(&m.wv, stepHidden, stepGroups*stepHead)
	w(&m.wo, stepHidden, stepHidden)
	w(&m.up, stepHidden, 2*stepHidden)
	w(&m.gate, stepHidden, 2*stepHidden)
	w(&m.down, 2*stepHidden, stepHidden)
	m.norm.Set(s.Ones(Float32, stepHidden))
	packed, scales, biases := s.Quantize(m.embed.Array(), 32, 4, Affine)
	m.packed.Set(packed)
	m.scales.Set(scales)
	m.biases.Set(biases)
	m.keys.Set(s.Zeros(Float32, 1, stepGroups, stepCapacity, stepHead))
	m.values.Set(s.Zeros(Float32, 1, stepGroups, stepCapacity, stepHead))
	m.token.Set(s.FromUint32s([]uint32{1}, 1, 1))
	m.key.Set(s.Key(7))
	m.one.Set(s.Scalar(Float32, 1))
	require.NoError(t, s.Eval(m.keys.Array(), m.values.Array(), m.packed.Array(), m.scales.Array(),
		m.biases.Array(), m.norm.Array(), m.one.Array()))
	s.Reset()
	t.Cleanup(func() {
		s.Close()
		for _, v := range []*Var{&m.embed, &m.norm, &m.wq, &m.wk, &m.wv, &m.wo, &m.up, &m.gate,
			&m.down, &m.packed, &m.scales, &m.biases, &m.keys, &m.values, &m.token, &m.key, &m.one} {
			v.Free()
		}
	})
	return m
}

func (m *layer) heads(x, w Array, n int) Array {
	s := m.s
	y := s.Reshape(s.Matmul(x, w), 1, 1, n, stepHead)
	return s.RoPE(s.Transpose(y, 0, 2, 1, 3), stepHead, false, 10000, 1, m.offset, Array{})
}

func (m *layer) cache(v *Var, x Array) Array {
	all := m.s.SliceUpdateAxis(v.Array(), x, 2, m.offset)
	v.Set(all)
	return m.s.SliceAxis(all, 2, 0, m.offset+1)
}

// dispatch queues one decode step: embed, attend, gate, sample.
func (m *layer) dispatch() error {
	s := m.s
	x := s.Take(m.embed.Array(), m.token.Array(), 0) // [1 1 D]
	h := s.RMSNorm(x, m.norm.Array(), 1e-5)
	q := m.heads(h, m.wq.Array(), stepHeads)
	k := m.cache(&m.keys, m.heads(h, m.wk.Array(), stepGroups))
	v := m.cache(&m.values, m.heads(h, m.wv.Array(), stepGroups))
	o := s.SDPA(q, k, v, 0.25, MaskCausal, Array{}, Array{})
	o = s.Reshape(s.Transpose(o, 0, 2, 1, 3), 1, 1, -1)
	x = s.Add(x, s.Matmul(o, m.wo.Array()))
	h = s.RMSNorm(x, m.norm.Array(), 1e-5)
	g := s.Matmul(h, m.gate.Array())
	g = s.Mul(s.Mul(g, s.Sigmoid(g)), s.Matmul(h, m.up.Array()))
	x = s.Add(x, s.Matmul(g, m.down.Array()))
	logits := s.QuantizedMatmul(x, m.packed.Array(), m.scales.Array(), m.biases.Array(), true,
		32, 4, Affine)
	logits = s.Concatenate(0, s.SliceAxis(logits, 1, 0, 1))
	logits = s.Mul(logits, m.one.Array())
	use, next := s.SplitKey(m.key.Array())
	m.key.Set(next)
	var parts [2]Array
	s.Split(parts[:], logits, -1)
	m.token.Set(s.Reshape(s.Categorical(s.Concatenate(-1, parts[0], parts[1]), -1, use), 1, 1))
	m.offset++
	err := s.AsyncEval(m.token.Array(), m.key.Array(), m.keys.Array(), m.values.Array())
	s.Reset()
	return err
}

func (m *layer) step() (int32, error) {
	if err := m.dispatch(); err != nil {
		return 0, err
	}
	id := m.s.ItemInt32(m.token.Array())
	return id, m.s.Err()
}

func TestStepReadsFourBytesOnce(t *testing.T) {
	m := newLayer(t)
	live := Live()
	before := Counts()
	const steps = 10
	for range steps {
		_, err := m.step()
		require.NoError(t, err)
	}
	after := Counts()
	require.Equal(t, uint64(steps), after.Reads-before.Reads)
	require.Equal(t, uint64(4*steps), after.BytesRead-before.BytesRead)
	require.Equal(t, live, Live())
	// Vars and the reset are the only crossings that are no operation.
	ops, calls := (after.Ops-before.Ops)/steps, (after.Calls-before.Calls)/steps
	require.Equal(t, uint64(5), calls-ops, "%d operations, %d crossings", ops, calls)
	t.Logf("a step: %d operations, %d crossings", ops, calls)
}

// A scope that is reset right after the dispatch lets MLX write the cache in place;
// otherwise each step would allocate a copy of it.
func TestCacheIsUpdatedInPlace(t *testing.T) {
	s := open(t)
	const size = 1 << 20
	var cache Var
	defer cache.Free()
	cache.Set(s.Zeros(Float32, 1, size))
	require.NoError(t, s.Eval(cache.Array()))
	s.Reset()
	update := func(held bool) int64 {
		ClearCache()
		base := ActiveMemory()
		ResetPeak()
		a := s.SliceUpdateAxis(cache.Array(), s.Ones(Float32, 1, 1), 1, 3)
		old := cache
		if held {
			cache = Var{}
			defer old.Free()
		}
		cache.Set(a)
		s.Reset()
		require.NoError(t, s.Eval(cache.Array()))
		return PeakMemory() - base
	}
	require.Less(t, update(false), int64(size))
	require.GreaterOrEqual(t, update(true), int64(4*size), "a held operand is copied")
}

func BenchmarkOperation(b *testing.B) {
	m := newLayer(b)
	x := m.one.Array()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.s.Neg(x)
		if i%1024 == 1023 {
			m.s.Reset()
		}
	}
}

// The cost of a crossing alone: the entry sees the failed scope and returns.
func BenchmarkCrossing(b *testing.B) {
	s := open(b)
	s.Neg(Array{})
	b.ReportAllocs()
	for b.Loop() {
		s.Neg(Array{})
	}
}

func BenchmarkMatmulNode(b *testing.B) {
	m := newLayer(b)
	for i := 0; b.Loop(); i++ {
		m.s.Matmul(m.wq.Array(), m.wo.Array())
		if i%1024 == 1023 {
			m.s.Reset()
		}
	}
}

func BenchmarkReset800(b *testing.B) {
	m := newLayer(b)
	for b.Loop() {
		b.StopTimer()
		x := m.one.Array()
		for range 800 {
			x = m.s.Neg(x)
		}
		b.StartTimer()
		m.s.Reset()
	}
}

// As after a decode step: the graph is evaluated and its handles are the last
// references.
func BenchmarkReset800Evaluated(b *testing.B) {
	m := newLayer(b)
	for b.Loop() {
		b.StopTimer()
		x := m.one.Array()
		for range 800 {
			x = m.s.Neg(x)
		}
		if err := m.s.Eval(x); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		m.s.Reset()
	}
}

func BenchmarkStep(b *testing.B) {
	m := newLayer(b)
	b.ReportAllocs()
	for b.Loop() {
		m.offset %= stepCapacity
		if _, err := m.step(); err != nil {
			b.Fatal(err)
		}
	}
}
