package mlx

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestVersionIsTheOnePinned(t *testing.T) {
	require.Equal(t, "0.32.2", Version())
}

func TestScopeOwnsItsArrays(t *testing.T) {
	onEngine(t)
	before := Live()
	s := NewScope(Stream{})
	a := s.Ones(Float32, 2)
	s.Add(a, a)
	require.Equal(t, before+2, Live())
	require.Equal(t, 2, s.Len())
	s.Reset()
	require.Equal(t, before, Live())
	s.Ones(Float32, 2)
	s.Close()
	s.Close()
	require.Equal(t, before, Live())
}

func TestVarOutlivesItsScope(t *testing.T) {
	s := open(t)
	var v Var
	require.False(t, v.Array().Valid())
	v.Set(s.FromFloat32s([]float32{1, 2}, 2))
	s.Reset()
	equal(t, s, "after reset", v.Array(), []int{2}, 1, 2)
	v.Set(s.Add(v.Array(), v.Array()))
	v.Set(Array{})
	s.Reset()
	equal(t, s, "a failed result changes nothing", v.Array(), []int{2}, 2, 4)
	v.Free()
	v.Free()
	require.False(t, v.Array().Valid())
}

func TestFirstErrorStays(t *testing.T) {
	s := open(t)
	a := s.Matmul(s.Ones(Float32, 4, 8), s.Ones(Float32, 16, 8))
	require.False(t, a.Valid())
	first := s.Err()
	require.ErrorContains(t, first, "mlx: matmul [4 8] x [16 8]: [matmul] ")
	n := s.Len()
	require.False(t, s.Exp(s.Neg(a)).Valid())
	require.False(t, s.Ones(Float32, 2).Valid(), "nothing runs after an error")
	require.Equal(t, n, s.Len())
	require.Same(t, first, s.Eval(a))
	s.Fail(errors.New("later"))
	require.Same(t, first, s.Err())
	s.Reset()
	require.NoError(t, s.Err())
	mine := errors.New("offset 9 is past the cache")
	s.Fail(mine)
	require.Same(t, mine, s.Eval(s.Ones(Float32, 1)))
}

// Formats in text from outside must come back as they are: mlx-c would read them.
func TestHostileNames(t *testing.T) {
	s := open(t)
	for _, text := range []string{"%s%n%x", "affine%n", "%999999999d", "\x00", "mxfp4\x00",
		"Affine", "", strings.Repeat("%s", 4096)} {
		_, err := ParseMode(text)
		require.EqualError(t, err, fmt.Sprintf("mlx: quantization mode %q is not known", text))
		_, err = ParseDtype(text)
		require.EqualError(t, err, fmt.Sprintf("mlx: dtype %q is not known", text))
		s.Fail(errors.New(text))
		s.Add(Array{}, Array{})
		require.EqualError(t, s.Eval(), text)
		s.Reset()
		mine := errors.New(text)
		c, err := Compile(func(s *Scope, in []Array) []Array {
			s.Fail(mine)
			return in
		}, false)
		require.NoError(t, err)
		require.Empty(t, c.Call(s, nil, s.Ones(Float32, 1)))
		require.Same(t, mine, s.Err())
		c.Free()
		s.Reset()
	}
	for m := range Mode(len(modeNames)) {
		got, err := ParseMode(m.String())
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	for d, c := range dtypes {
		got, err := ParseDtype(c.name)
		require.NoError(t, err)
		require.Equal(t, Dtype(d), got)
		require.Equal(t, s.Zeros(got, 3).Size()*got.Size(), len(s.Bytes(s.Zeros(got, 3), nil)))
	}
}

func TestBufferIsHandedOver(t *testing.T) {
	s := open(t)
	held := BufferMemory()
	b, err := NewBuffer(12)
	require.NoError(t, err)
	data := b.Bytes()
	require.Len(t, data, 12)
	copied := make(chan int)
	go func() { copied <- copy(data, s2b([]float32{1, 2, 3})) }() // as loader goroutines do
	require.Equal(t, 12, <-copied)
	require.Equal(t, held+12, BufferMemory())
	require.False(t, b.Array(s, Float32, 4).Valid())
	s.Reset()
	require.NotNil(t, b.Bytes(), "a refused buffer is still the caller's")
	a := b.Array(s, Float32, 3)
	require.Nil(t, b.Bytes())
	require.Equal(t, held, BufferMemory(), "it is an array now")
	in := s.Bytes(a, nil)
	data[0]++ // not for real use: it shows that nothing was copied
	require.Equal(t, in[0]+1, s.Bytes(a, nil)[0])
	data[0]--
	sum := s.Add(a, a)
	equal(t, s, "from buffer", sum, []int{3}, 2, 4, 6)
	b.Free()
	equal(t, s, "after Free, which no longer owns it", a, []int{3}, 1, 2, 3)
	s.Reset()

	active := ActiveMemory()
	large, err := NewBuffer(1 << 20)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ActiveMemory(), active+1<<20)
	require.True(t, large.Array(s, Uint8, 1<<20).Valid())
	s.Reset()
	require.Equal(t, active, ActiveMemory(), "MLX freed it with the last array")

	unused, err := NewBuffer(0)
	require.NoError(t, err)
	unused.Free()
	unused.Free()
	_, err = NewBuffer(-1)
	require.EqualError(t, err, "mlx: buffer of -1 bytes")
	_, err = NewBuffer(1 << 62)
	require.EqualError(t, err, "mlx: no memory for a buffer of 4611686018427387904 bytes")
}

func s2b(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))
}

func TestReadsCopy(t *testing.T) {
	s := open(t)
	a := s.FromBytes([]byte{1, 2, 3, 4}, Uint8, 2, 2)
	buf := make([]byte, 0, 16)
	got := s.Bytes(s.Transpose(a), buf)
	require.Equal(t, []byte{1, 3, 2, 4}, got, "in row order whatever the strides")
	require.Same(t, &buf[:1][0], &got[0], "a destination that is large enough is used")
	require.Equal(t, []float32{1, 2, 3, 4}, s.Float32s(a, nil))
	require.Empty(t, s.Float32s(s.Zeros(Float32, 0, 3), nil))
	require.Equal(t, int32(-3), s.ItemInt32(s.Scalar(Int32, -3)))
	require.Equal(t, int32(3), s.ItemInt32(s.Argmax(s.FromInt32s([]int32{1, 2, 3, 9}, 4), 0, false)))
	require.Equal(t, float32(0.5), s.ItemFloat32(s.Full(Float32, 0.5, 1, 1)))
	require.NoError(t, s.Err())
}

func TestMemoryFigures(t *testing.T) {
	s := open(t)
	require.NoError(t, s.Eval(s.Ones(Float32, 1)))
	s.Reset()
	const n = 1 << 20
	before := ActiveMemory()
	ResetPeak()
	a := s.Add(s.Ones(Float32, n), s.Ones(Float32, n))
	require.NoError(t, s.Eval(a))
	require.GreaterOrEqual(t, ActiveMemory()-before, int64(4*n))
	require.GreaterOrEqual(t, PeakMemory(), int64(4*n))
	var v Var
	v.Set(a)
	s.Reset()
	require.NoError(t, DefaultStream().Synchronize())
	require.GreaterOrEqual(t, ActiveMemory()-before, int64(4*n), "the Var holds it")
	v.Free()
	require.LessOrEqual(t, ActiveMemory(), before)
	for name, set := range map[string]func(int64) (int64, error){
		"memory": SetMemoryLimit, "cache": SetCacheLimit,
	} {
		old, err := set(1 << 30)
		require.NoError(t, err, name)
		now, err := set(old)
		require.NoError(t, err, name)
		require.Equal(t, int64(1<<30), now, name)
		_, err = set(-1)
		require.EqualError(t, err, "mlx: set "+name+" limit: -1 bytes")
	}
	_, err := SetWiredLimit(0)
	require.NoError(t, err)
	ClearCache()
	require.Zero(t, CacheMemory())
}

func TestDevices(t *testing.T) {
	onEngine(t)
	require.False(t, CPU().Device().GPU)
	st, ok := GPU()
	require.Equal(t, ok, st.Device().GPU)
	require.Equal(t, ok, DefaultStream().Device().GPU)
	require.NotEmpty(t, DefaultStream().Device().Name)
	for _, st := range []Stream{CPU(), DefaultStream(), {}} {
		s := NewScope(st)
		require.Equal(t, int32(5), s.ItemInt32(s.Add(s.Scalar(Int32, 2), s.Scalar(Int32, 3))))
		require.NoError(t, s.Err())
		s.Close()
	}
}

// Each thread has streams of its own.
func TestAnotherThreadHasItsOwnStream(t *testing.T) {
	sum := make(chan int32)
	for range 2 {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			BindThread()
			s := NewScope(Stream{})
			v := s.ItemInt32(s.Add(s.Scalar(Int32, 2), s.Scalar(Int32, 3)))
			s.Close()
			sum <- v
		}()
		require.Equal(t, int32(5), <-sum)
	}
}

func TestCompiledFunctionIsTracedOnce(t *testing.T) {
	s := open(t)
	// Without fusion: MLX's CPU backend would run a C++ compiler for it.
	SetCompileMode(CompileNoFuse)
	defer SetCompileMode(CompileOn)
	traces := 0
	c, err := Compile(func(s *Scope, in []Array) []Array {
		traces++
		sum := s.Add(in[0], in[1])
		return []Array{sum, s.Mul(sum, in[1])}
	}, false)
	require.NoError(t, err)
	defer c.Free()
	for i := range 3 {
		out := c.Call(s, nil, s.Full(Float32, float64(i), 2), s.Full(Float32, 3, 2))
		require.NoError(t, s.Err())
		require.Len(t, out, 2)
		v := float32(i)
		equal(t, s, "sum", out[0], []int{2}, v+3, v+3)
		equal(t, s, "product", out[1], []int{2}, 3*v+9, 3*v+9)
	}
	require.Equal(t, 1, traces)
	c.Call(s, nil, s.Ones(Float32, 5), s.Ones(Float32, 5))
	require.Equal(t, 2, traces, "a new shape is a new trace")
	require.Empty(t, c.Call(s, nil, s.Ones(Float32, 5), s.Ones(Float32, 4)))
	require.ErrorContains(t, s.Err(), "mlx: add [5] x [4]: ")
	require.Empty(t, c.Call(s, nil, Array{}), "a failed scope stays failed")
	s.Reset()
	c.Call(s, nil, Array{})
	require.EqualError(t, s.Err(), "mlx: compiled_call absent: a required operand is absent")
	c.Free()
}

func TestPanicOfATracedFunctionReachesTheCaller(t *testing.T) {
	s := open(t)
	c, err := Compile(func(*Scope, []Array) []Array { panic("in the trace %n") }, false)
	require.NoError(t, err)
	defer c.Free()
	require.PanicsWithValue(t, "in the trace %n", func() { c.Call(s, nil, s.Ones(Float32, 1)) })
	require.ErrorContains(t, s.Err(), "mlx: compiled_call [1]: ")
}

func TestBytesThatCrossAreCounted(t *testing.T) {
	s := open(t)
	before := Counts()
	a := s.FromInt32s([]int32{1, 2, 3}, 3)
	s.FromBytes([]byte{1, 2, 3, 4}, Uint16, 2)
	s.Int32s(a, nil)
	after := Counts()
	require.Equal(t, uint64(16), after.BytesWritten-before.BytesWritten)
	require.Equal(t, uint64(12), after.BytesRead-before.BytesRead)
}
