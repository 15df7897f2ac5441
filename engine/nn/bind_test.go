package nn

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/engine/mlx"
)

func TestMain(m *testing.M) {
	os.Exit(leaks.Run(m, func() error {
		if n := mlx.Live(); n != 0 {
			return fmt.Errorf("%d arrays", n)
		}
		return nil
	}))
}

// pair is a model of two layers.
type pair struct {
	Embed  Embedding `weight:"embed"`
	Blocks []block   `weight:"blocks"`
	Absent Linear    `weight:"absent"`
	note   string    // no tag: no weight
}

type block struct {
	Norm RMSNorm `weight:"norm"`
	Up   Linear  `weight:"up"`
}

func newPair() *pair {
	return &pair{Embed: NewEmbedding(10, 64), note: "kept", Blocks: []block{
		{NewRMSNorm(64, 1e-5), NewLinear(64, 32, true)}, {NewRMSNorm(64, 1e-5), NewLinear(64, 32, false)},
	}}
}

func plainTensors() map[string]Tensor {
	f := mlx.Float32
	return map[string]Tensor{
		"embed.weight": {[]int{10, 64}, f}, "blocks.0.norm.weight": {[]int{64}, f},
		"blocks.0.up.weight": {[]int{32, 64}, f}, "blocks.0.up.bias": {[]int{32}, f},
		"blocks.1.norm.weight": {[]int{64}, f}, "blocks.1.up.weight": {[]int{32, 64}, f},
	}
}

func names(slots []Slot) []string {
	var all []string
	for i := range slots {
		all = append(all, slots[i].Name())
	}
	slices.Sort(all)
	return all
}

func TestBindFindsEveryTensor(t *testing.T) {
	m := newPair()
	slots, err := Bind(m, Checkpoint{Tensors: plainTensors()})
	require.NoError(t, err)
	require.Equal(t, []string{
		"blocks.0.norm.weight", "blocks.0.up.bias", "blocks.0.up.weight", "blocks.1.norm.weight",
		"blocks.1.up.weight", "embed.weight",
	}, names(slots))
	require.Equal(t, "kept", m.note)
}

func TestBindReportsEverythingAtOnce(t *testing.T) {
	tensors := plainTensors()
	delete(tensors, "embed.weight")
	delete(tensors, "blocks.1.norm.weight")
	tensors["blocks.0.up.weight"] = Tensor{[]int{64, 32}, mlx.Float32}
	tensors["blocks.0.up.bias"] = Tensor{[]int{32}, mlx.Int8}
	tensors["blocks.2.up.weight"] = Tensor{[]int{32, 64}, mlx.Float32}
	tensors["rope.inv_freq"] = Tensor{[]int{4}, mlx.Float32}
	_, err := Bind(newPair(), Checkpoint{Tensors: tensors,
		Ignore: func(name string) bool { return strings.HasPrefix(name, "rope.") }})
	var bad *BindError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, []string{
		"blocks.0.up.bias: dtype int8, want one of [float32 float16 bfloat16]",
		"blocks.0.up.weight: shape [64 32], want [32 64]",
		"blocks.1.norm.weight: missing",
		"blocks.2.up.weight: the architecture has no such tensor",
		"embed.weight: missing",
	}, bad.Problems)
	for _, p := range bad.Problems {
		require.ErrorContains(t, err, p)
	}
}

// packed replaces the weight at path by a packed one.
func packed(tensors map[string]Tensor, path string, p Packing) {
	shape := tensors[path+".weight"].Shape
	tensors[path+".weight"] = Tensor{[]int{shape[0], shape[1] * p.Bits / 32}, mlx.Uint32}
	small := Tensor{[]int{shape[0], shape[1] / p.GroupSize}, mlx.Float16}
	if p.Mode != mlx.Affine {
		small.Dtype = mlx.Uint8
	} else {
		tensors[path+".biases"] = small
	}
	tensors[path+".scales"] = small
}

// TestBindPicksThePackingOfEachModule has one module as the top says, one that
// config.json names, one that only its shapes tell, and one left alone.
func TestBindPicksThePackingOfEachModule(t *testing.T) {
	top, other := Packing{32, 4, mlx.Affine}, Packing{64, 8, mlx.Affine}
	overrides := map[string]Packing{"blocks.0.up": {32, 4, mlx.MXFP4}, "blocks.1.up": {}}
	c := Checkpoint{Tensors: plainTensors(), Packing: func(path string) (Packing, bool, bool) {
		if p, ok := overrides[path]; ok {
			return p, p.Bits > 0, true
		}
		return top, true, false
	}}
	packed(c.Tensors, "embed", other)
	packed(c.Tensors, "blocks.0.up", overrides["blocks.0.up"])
	m := newPair()
	slots, err := Bind(m, c)
	require.NoError(t, err)
	require.Equal(t, []string{
		"blocks.0.norm.weight", "blocks.0.up.bias", "blocks.0.up.scales", "blocks.0.up.weight",
		"blocks.1.norm.weight", "blocks.1.up.weight", "embed.biases", "embed.scales", "embed.weight",
	}, names(slots))
	require.Equal(t, other, m.Embed.packing)
	require.Equal(t, overrides["blocks.0.up"], m.Blocks[0].Up.packing)
	require.Equal(t, Packing{}, m.Blocks[1].Up.packing)

	c.Unpack = true
	m = newPair()
	slots, err = Bind(m, c)
	require.NoError(t, err)
	require.Equal(t, names(slots), names(mustBind(t, newPair(), Checkpoint{Tensors: plainTensors()})))
	for i := range slots {
		if slots[i].Path == "embed" {
			require.Equal(t, other, slots[i].Packing)
			require.Equal(t, []int{10, 64}, slots[i].Shape)
			require.Equal(t, mlx.Float16, slots[i].Dtype, "that of the scales")
		}
	}
	require.Equal(t, Packing{}, m.Embed.packing)
}

func mustBind(t *testing.T, m any, c Checkpoint) []Slot {
	t.Helper()
	slots, err := Bind(m, c)
	require.NoError(t, err)
	return slots
}

// TestPackedLayersAgreeWithPlainOnes quantizes a weight and compares.
func TestPackedLayersAgreeWithPlainOnes(t *testing.T) {
	for _, p := range []Packing{{32, 4, mlx.Affine}, {64, 8, mlx.Affine}, {32, 4, mlx.MXFP4}} {
		onThread(t, func(s *mlx.Scope) error {
			data := make([]float32, 48*64)
			for i := range data {
				data[i] = float32((i*37)%101)/50 - 1
			}
			w, sc, b := s.Quantize(s.FromFloat32s(data, 48, 64), p.GroupSize, p.Bits, p.Mode)
			q := NewEmbedding(48, 64)
			q.packing, q.dtype = p, mlx.Float32
			q.weight.Set(w)
			q.scales.Set(sc)
			q.biases.Set(b)
			plain := NewEmbedding(48, 64)
			plain.dtype = mlx.Float32
			dense := s.Dequantize(w, sc, b, p.GroupSize, p.Bits, p.Mode, mlx.Float32)
			plain.weight.Set(dense)
			plain.turned.Set(s.Transpose(dense))
			for _, e := range []*Embedding{&q, &plain} {
				defer e.weight.Free()
				defer e.scales.Free()
				defer e.biases.Free()
				defer e.turned.Free()
			}
			ids := s.FromInt32s([]int32{3, 47, 0}, 1, 3)
			if err := near(s, q.Forward(s, ids), plain.Forward(s, ids)); err != nil {
				return err
			}
			x := plain.Forward(s, ids)
			return near(s, q.Unembed(s, x), plain.Unembed(s, x))
		})
	}
}

func near(s *mlx.Scope, a, b mlx.Array) error {
	x, y := s.Float32s(a, nil), s.Float32s(b, nil)
	if err := s.Err(); err != nil {
		return err
	}
	for i := range y {
		if d := x[i] - y[i]; d > 1e-4 || d < -1e-4 {
			return fmt.Errorf("element %d: %v and %v", i, x[i], y[i])
		}
	}
	return nil
}

func onThread(t *testing.T, fn func(s *mlx.Scope) error) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		s := mlx.NewScope(mlx.Stream{})
		err := fn(s)
		s.Close() // before the test can end and count what is left
		result <- err
	}()
	require.NoError(t, <-result)
}
