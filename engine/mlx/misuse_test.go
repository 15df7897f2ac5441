package mlx

import (
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// operands are well-formed arrays for wrong calls to combine.
type operands struct {
	s       *Scope
	m       Array // float32 [4 8]
	n       Array // float32 [16 8]
	v       Array // float32 [8]
	one     Array // float32 []
	empty   Array // float32 [0 4]
	i       Array // int32 [3]
	b       Array // bool [4 8]
	q, k    Array // float32 [1 4 3 8], [1 2 5 8]
	key     Array // uint32 [2]
	w       Array // uint32 [32 8]: 64 columns of 4 bits
	sc      Array // float32 [32 2]: groups of 32
	x       Array // float32 [1 64]
	none    Array
	deep    Array // float32 of rank 8
	experts Array // float32 [3 8 2]
}

func newOperands(s *Scope) *operands {
	return &operands{
		s: s,
		m: s.Ones(Float32, 4, 8), n: s.Ones(Float32, 16, 8), v: s.Ones(Float32, 8),
		one: s.Ones(Float32), empty: s.Zeros(Float32, 0, 4),
		i: s.FromInt32s([]int32{0, 1, 2}, 3), b: s.Ones(Bool, 4, 8),
		q: s.Ones(Float32, 1, 4, 3, 8), k: s.Ones(Float32, 1, 2, 5, 8),
		key: s.Key(1), w: s.Ones(Uint32, 32, 8), sc: s.Ones(Float32, 32, 2),
		x: s.Ones(Float32, 1, 64), deep: s.Ones(Float32, 1, 1, 1, 1, 1, 1, 1, 2),
		experts: s.Ones(Float32, 3, 8, 2),
	}
}

// A misuse is one wrong call; want is the operation and the shapes that its error
// must begin with.
type misuse struct {
	want string
	do   func(o *operands, s *Scope) Array
}

const big = 1 << 40 // out of the range of C's int

func misuses() []misuse {
	var all []misuse
	add := func(want string, do func(o *operands, s *Scope) Array) {
		all = append(all, misuse{want, do})
	}
	addElementwise(add)
	addReductions(add)
	addSampling(add)
	addShapes(add)
	addSlices(add)
	addIndices(add)
	addCreation(add)
	addFused(add)
	addQuantized(add)
	addLayers(add)
	addHost(add)
	return all
}

type adder func(want string, do func(o *operands, s *Scope) Array)

// runMisuse makes one wrong call in a scope of its own and returns its error.
func runMisuse(c misuse) (err error, alive bool) {
	s := NewScope(Stream{})
	defer s.Close()
	o := newOperands(s)
	a := c.do(o, s)
	err = s.Eval(a)
	s.Reset()
	return err, s.ItemInt32(s.Scalar(Int32, 7)) == 7
}

// TestE1WrongCallsAreErrors makes every wrong call. Each gives an error that names
// the operation and the shapes, no two the same, and the process lives on.
//
// Planted break: a matmul whose status nobody looks at.
func TestE1WrongCallsAreErrors(t *testing.T) {
	onEngine(t)
	seen := map[string]string{}
	for _, c := range misuses() {
		err, alive := runMisuse(c)
		require.Error(t, err, c.want)
		require.True(t, alive, c.want)
		text := err.Error()
		require.True(t, strings.HasPrefix(text, "mlx: "+c.want+": ") ||
			strings.HasPrefix(text, "mlx: "+c.want) && strings.Contains(c.want, ": "),
			"want %q, got %q", c.want, text)
		require.Greater(t, len(text), len("mlx: "+c.want+": "), text)
		require.NotContains(t, text, ".cpp", c.want)
		require.Empty(t, seen[text], text)
		seen[text] = c.want
	}
	require.Greater(t, len(seen), 150)
	t.Logf("%d wrong calls, all different", len(seen))
}

// named says how errors call a method whose own name does not tell: it makes
// another operation or is spelt otherwise. "" stands for a method that no call of
// can be wrong.
var named = map[string]string{
	"Scalar": "full", "Zeros": "full", "Ones": "full", "SplitKey": "random_split", "SliceUpdateAxis": "slice_update_axis",
	"ItemInt32": "item", "ItemFloat32": "item", "Float32s": "read", "Int32s": "read", "Uint32s": "read", "Bytes": "read",
	"FromFloat32s": "from_data", "FromInt32s": "from_data", "FromUint32s": "from_data", "FromBytes": "from_data",
	"RMSNorm": "rms_norm", "RoPE": "rope", "RoPEDynamic": "rope_dynamic", "AsType": "astype", "Key": "", // every seed is one
	"SwiGLU": "swiglu",            // a word of its own
	"Eval":   "", "AsyncEval": "", // of an absent array, which is what a failed operation returns
	"Close": "", "Reset": "", "Len": "", "Err": "", "Fail": "", "CPU": "", // no operations
}

// TestE1EveryOperationHasAWrongCall fails where a method of Scope is in no wrong
// call.
func TestE1EveryOperationHasAWrongCall(t *testing.T) {
	tried := map[string]bool{}
	for _, c := range misuses() {
		name, _, _ := strings.Cut(c.want, " ")
		tried[strings.TrimSuffix(name, ":")] = true
	}
	methods := reflect.TypeFor[*Scope]()
	words := regexp.MustCompile(`[A-Z]+[a-z0-9]*`)
	for i := range methods.NumMethod() {
		method := methods.Method(i).Name
		name, listed := named[method]
		if !listed {
			name = strings.ToLower(strings.Join(words.FindAllString(method, -1), "_"))
		}
		if name != "" && !tried[name] {
			t.Errorf("%s: no wrong call whose error begins with %q", method, name)
		}
	}
}

// The child makes every wrong call and writes nothing; stdout is the protocol.
func TestE1WrongCallsPrintNothing(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MLX_TEST_CHILD=misuse")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	require.Empty(t, string(out))
}
