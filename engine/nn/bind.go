package nn

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"harmonyd/engine/mlx"
)

// Tensor is one tensor of a checkpoint, known from its header.
type Tensor struct {
	Shape []int
	Dtype mlx.Dtype
}

// Checkpoint is what Bind looks for weights in.
type Checkpoint struct {
	Tensors map[string]Tensor
	// Packing returns how the module at path is packed, and whether config.json
	// names this very path. It is asked only where the checkpoint has scales.
	// Nil means that nothing is quantized.
	Packing func(path string) (p Packing, packed, explicit bool)
	// Dtype is that of activations, and of the weights but for what Slot.Keep says.
	Dtype mlx.Dtype
	// Unpack asks for plain weights of type Dtype where the checkpoint has others.
	Unpack bool
	// CPU says where the model will run. There a matrix is computed with as it is
	// stored, whatever its type, and needs no turned view.
	CPU bool
	// Ignore reports tensors that the architecture does not use by design.
	Ignore func(name string) bool
}

// Slot is one array that a model waits for. Its tensor is Path.Leaf of the
// checkpoint, unless Packing or Values say otherwise.
type Slot struct {
	Path, Leaf string
	// Shape is that of the array to hand over.
	Shape []int
	// Dtype is that of the checkpoint's tensor.
	Dtype mlx.Dtype
	// Packing is set where Shape is that of a plain weight that has to be
	// unpacked from Path's weight, scales and biases.
	Packing Packing
	// Keep says that the array keeps the type of the checkpoint's tensor.
	Keep bool
	// Values are set where the array is computed, not read.
	Values []float32
	// Matrix says that the array is the plain weight of a Linear or an Embedding,
	// which may be quantized.
	Matrix bool

	set  func(mlx.Array)
	turn func(*mlx.Scope) mlx.Array
	free func()
}

// Name is the name of the slot's tensor.
func (sl *Slot) Name() string { return sl.Path + "." + sl.Leaf }

// Set hands over the array, which must have been evaluated. The model shares it
// with a.
func (sl *Slot) Set(s *mlx.Scope, a mlx.Array) error {
	sl.set(a)
	if sl.turn != nil {
		return s.Eval(sl.turn(s))
	}
	return s.Err()
}

// Free drops the array.
func (sl *Slot) Free() { sl.free() }

// BindError lists everything that is wrong between a model and a checkpoint.
type BindError struct {
	Problems []string // sorted; each names a tensor
}

func (e *BindError) Error() string { return strings.Join(e.Problems, "; ") }

// Bind finds the weights of a model, a pointer to a struct whose exported fields
// have `weight:"name"` tags that join to tensor names, in a checkpoint. It
// returns the slots to fill. Nothing is read and nothing computed; every missing,
// unused or wrongly shaped tensor is in the one *BindError.
func Bind(model any, c Checkpoint) ([]Slot, error) {
	b := &binder{Checkpoint: c, used: make(map[string]bool)}
	b.walk(reflect.ValueOf(model).Elem(), "")
	for name := range c.Tensors {
		if !b.used[name] && (c.Ignore == nil || !c.Ignore(name)) {
			b.problem("%s: the architecture has no such tensor", name)
		}
	}
	if len(b.problems) > 0 {
		slices.Sort(b.problems)
		return nil, &BindError{b.problems}
	}
	return b.slots, nil
}

type binder struct {
	Checkpoint
	slots    []Slot
	used     map[string]bool
	problems []string
}

func (b *binder) problem(format string, args ...any) {
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// layer is what walk stops at.
type layer interface {
	bind(b *binder, path string)
}

func (b *binder) walk(v reflect.Value, path string) {
	if l, ok := v.Addr().Interface().(layer); ok {
		l.bind(b, path)
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			b.walk(v.Index(i), join(path, strconv.Itoa(i)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name, ok := v.Type().Field(i).Tag.Lookup("weight"); ok {
				b.walk(v.Field(i), join(path, name))
			}
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// want adds a slot for a tensor of that shape and type, or a problem.
func (b *binder) want(path, leaf string, v *mlx.Var, shape []int, types ...mlx.Dtype) *Slot {
	name := path + "." + leaf
	b.used[name] = true
	t, ok := b.Tensors[name]
	switch {
	case !ok:
		b.problem("%s: missing", name)
	case !slices.Equal(t.Shape, shape):
		b.problem("%s: shape %v, want %v", name, t.Shape, shape)
	case !slices.Contains(types, t.Dtype):
		b.problem("%s: dtype %v, want one of %v", name, t.Dtype, types)
	}
	b.slots = append(b.slots, Slot{Path: path, Leaf: leaf, Shape: shape, Dtype: t.Dtype,
		set: v.Set, free: v.Free})
	return &b.slots[len(b.slots)-1]
}

var floats = []mlx.Dtype{mlx.Float32, mlx.Float16, mlx.BFloat16}

func (l *Linear) bind(b *binder, path string) {
	if l.out == 0 {
		return // absent by the model's own choice
	}
	l.matrix.bind(b, path)
	if l.hasBias {
		b.want(path, "bias", &l.bias, []int{l.out}, floats...)
	}
}

func (n *RMSNorm) bind(b *binder, path string) {
	sl := b.want(path, "weight", &n.weight, []int{n.dim}, floats...)
	if n.added == 0 {
		return
	}
	sl.turn = func(s *mlx.Scope) mlx.Array { // once, not in every step
		w := n.weight.Array()
		a := s.Add(w, s.Scalar(w.Dtype(), float64(n.added)))
		n.weight.Set(a)
		return a
	}
}

func (m *matrix) bind(b *binder, path string) {
	m.dtype = b.Dtype
	keep := b.CPU && !b.Unpack
	p, packed := b.packing(path, m.in)
	if !packed {
		sl := b.want(path, "weight", &m.weight, []int{m.out, m.in}, floats...)
		sl.Keep = keep
		m.plain(b, sl)
		return
	}
	groups := m.in / p.GroupSize
	scaleTypes := floats
	if p.Mode != mlx.Affine {
		scaleTypes = []mlx.Dtype{mlx.Uint8}
	}
	first := len(b.slots)
	b.want(path, "weight", &m.weight, []int{m.out, m.in * p.Bits / 32}, mlx.Uint32)
	b.want(path, "scales", &m.scales, []int{m.out, groups}, scaleTypes...)
	dtype := b.slots[len(b.slots)-1].Dtype
	if p.Mode == mlx.Affine {
		b.want(path, "biases", &m.biases, []int{m.out, groups}, scaleTypes...)
	}
	if !b.Unpack {
		m.packing = p
		for i := range b.slots[first:] {
			b.slots[first+i].Keep = keep
		}
		return
	}
	b.slots = append(b.slots[:first], Slot{Path: path, Leaf: "weight", Shape: []int{m.out, m.in},
		Dtype: dtype, Packing: p, set: m.weight.Set, free: m.weight.Free})
	m.plain(b, &b.slots[first])
}

// plain makes the slot of a plain weight keep a turned view as well where the
// model will run on a GPU, so that no step has to make one.
func (m *matrix) plain(b *binder, sl *Slot) {
	sl.Matrix = true
	if b.CPU {
		return
	}
	sl.turn = func(s *mlx.Scope) mlx.Array {
		a := s.Transpose(m.weight.Array())
		m.turned.Set(a)
		return a
	}
	sl.free = func() {
		m.weight.Free()
		m.turned.Free()
	}
}

// packing returns how the weight at path with rows of in elements is packed.
// Where config.json does not name the path the shapes decide, as in mlx-lm: the
// parameters at the top are those of most layers, not of all.
func (b *binder) packing(path string, in int) (Packing, bool) {
	scales, ok := b.Tensors[path+".scales"]
	if b.Packing == nil || !ok {
		return Packing{}, false
	}
	p, packed, explicit := b.Packing(path)
	if !packed || explicit || p.Mode != mlx.Affine {
		return p, packed
	}
	weight := b.Tensors[path+".weight"]
	if len(scales.Shape) != 2 || len(weight.Shape) != 2 || scales.Shape[1] == 0 {
		return p, true
	}
	group, bits := in/scales.Shape[1], weight.Shape[1]*32/in
	if slices.Contains([]int{32, 64, 128}, group) && slices.Contains([]int{2, 3, 4, 5, 6, 8}, bits) {
		p.GroupSize, p.Bits = group, bits
	}
	return p, true
}
