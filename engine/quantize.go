package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"harmonyd/engine/hub"
	"harmonyd/engine/mlx"
	"harmonyd/engine/models"
	"harmonyd/engine/nn"
	"harmonyd/engine/weights"
)

// Conversion says what Convert makes of a model. Its zero value copies it.
type Conversion struct {
	// Quantize packs the matrices. Bits, GroupSize and Mode of 0 are those that
	// mlx-lm takes: affine, 4 bits, groups of 64.
	Quantize        bool
	Bits, GroupSize int
	Mode            string // affine, mxfp4, mxfp8 or nvfp4
	// Recipe gives some layers more bits, as mlx-lm's predicates of that name do:
	// mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6.
	Recipe string
	// Dequantize unpacks every packed weight.
	Dequantize bool
	// Dtype is float16, bfloat16 or float32: the type of what is not packed, of
	// scales, and of what is unpacked. Empty leaves it to config.json's torch_dtype,
	// and without that to the weights.
	Dtype string
}

// Converted is the outcome of a conversion.
type Converted struct {
	hub.Model
	Parameters int64
}

// convertChunk is how many bytes of a tensor are converted at a time. It bounds
// the memory of a conversion.
const convertChunk = 32 << 20

// Convert writes a model, which an id of h or the path of a folder names, as
// another model of h with the given id; an empty one is made from the model's name.
// The folder is what mlx-lm 0.32.0 writes, and it appears complete or not at all.
// It is not for an engine's goroutine: it has an MLX thread of its own. Progress
// is called from one goroutine with the bytes read.
func Convert(ctx context.Context, h *hub.Hub, model, id string, c Conversion,
	progress func(done, total int64)) (Converted, error) {
	folder, err := h.Resolve(model)
	if err != nil {
		_, e := os.Stat(filepath.Join(model, "config.json"))
		if e == nil || !errors.Is(err, hub.ErrNotFound) { // a path
			folder, err = filepath.Abs(model)
		}
	}
	if err != nil {
		return Converted{}, err
	}
	w, err := newConverting(folder, c)
	if err != nil {
		return Converted{}, fmt.Errorf("convert %s: %w", model, err)
	}
	defer func() { _ = w.files.Close() }() // was only read from
	w.progress = progress
	id = cmp.Or(id, filepath.Base(folder)+"-"+w.suffix())
	err = h.Create(id, w.bytes(), func(folder string) error { return w.run(ctx, folder) })
	if err != nil {
		return Converted{}, fmt.Errorf("convert %s to %s: %w", model, id, err)
	}
	to, err := h.Resolve(id)
	if err != nil {
		return Converted{}, err
	}
	done := Converted{hub.Describe(to), w.parameters}
	done.ID = id
	return done, nil
}

// converting is a conversion that has been thought through.
type converting struct {
	Conversion
	from   string
	config *weights.Config
	files  *weights.Model
	steps  []convertStep
	// quantization is the member of the new config.json, nil for none.
	quantization map[string]any
	parameters   int64
	layers       int
	explicit     bool // the type was asked for
	chunk        int

	thread      *thread
	progress    func(done, total int64)
	done, total int64
}

// convertStep makes the tensors of one slot of the model.
type convertStep struct {
	nn.Slot
	in  []weights.Tensor // of the slot's array, or of the weight, scales and biases that it is unpacked from
	out []weights.Tensor // the array, or what it is packed into
	to  nn.Packing       // zero where it is not packed
	// dtype is that of floats in the result.
	dtype mlx.Dtype
}

// newConverting holds a conversion against a model. The caller closes files.
func newConverting(folder string, c Conversion) (*converting, error) {
	w := &converting{Conversion: c, from: folder, chunk: convertChunk}
	var err error
	if w.config, err = weights.ReadConfig(folder); err != nil {
		return nil, err
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	m, err := models.New(w.config.ModelType, w.config.Raw)
	if err != nil {
		return nil, err
	}
	if w.files, err = weights.Open(folder); err != nil {
		return nil, err
	}
	if err := w.plan(m); err != nil {
		_ = w.files.Close()
		return nil, err
	}
	return w, nil
}

// check refuses what makes no sense, and fills in the defaults.
func (c *converting) check() error {
	q := c.config.Quantization
	layers, _, err := c.config.Natural("num_hidden_layers")
	if err != nil {
		return err
	}
	c.layers = int(layers)
	if c.explicit = c.Dtype != ""; !c.explicit {
		c.Dtype = c.config.TorchDtype()
	} else if _, ok := conversionTypes[c.Dtype]; !ok {
		return fmt.Errorf("dtype %q is not one of float16, bfloat16, float32", c.Dtype)
	}
	switch {
	case c.Quantize && c.Dequantize:
		return fmt.Errorf("quantize and dequantize exclude each other")
	case c.Quantize && q != nil:
		return fmt.Errorf("is already quantized (%s %d-bit, groups of %d); dequantize it first", q.Mode, q.Bits, q.GroupSize)
	case c.Dequantize && q == nil:
		return fmt.Errorf("is not quantized")
	case c.Recipe != "" && recipes[c.Recipe] == [2]int{}:
		return fmt.Errorf("recipe %q is not one of mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6", c.Recipe)
	case c.Recipe != "" && c.Mode != "" && c.Mode != mlx.Affine.String():
		return fmt.Errorf("recipe %s goes with mode affine only", c.Recipe)
	case c.Recipe != "" && c.Bits != 0:
		return fmt.Errorf("recipe %s has bits of its own", c.Recipe)
	}
	if !c.Quantize {
		return nil
	}
	p := weights.QuantParams{GroupSize: c.GroupSize, Bits: c.Bits, Mode: c.Mode}.WithDefaults()
	c.GroupSize, c.Bits, c.Mode = p.GroupSize, p.Bits, p.Mode
	return p.Validate()
}

var conversionTypes = map[string]mlx.Dtype{"float16": mlx.Float16, "bfloat16": mlx.BFloat16, "float32": mlx.Float32}

// plan finds the tensors of the model and what becomes of each.
func (c *converting) plan(m models.Model) error {
	tensors, err := catalogue(c.files, m)
	if err != nil {
		return err
	}
	bound := nn.Checkpoint{Tensors: tensors, Ignore: m.Ignores, Packing: packingOf(c.config.Quantization), Unpack: c.Dequantize}
	slots, err := nn.Bind(m, bound)
	if err != nil {
		return err
	}
	if err := c.count(m, bound); err != nil {
		return err
	}
	mode := mlx.Affine
	if c.Quantize {
		if mode, err = mlx.ParseMode(c.Mode); err != nil {
			return err
		}
		c.quantization = map[string]any{"group_size": c.GroupSize, "bits": c.Bits, "mode": c.Mode}
	}
	packed := 0
	for _, sl := range slots {
		if sl.Values != nil {
			continue // computed from the config
		}
		step, err := c.step(sl)
		if err != nil {
			return err
		}
		// As mlx-lm: every Linear and Embedding whose rows divide into groups.
		if c.Quantize && sl.Matrix && sl.Shape[1]%c.GroupSize == 0 {
			packed++
			step.to = nn.Packing{GroupSize: c.GroupSize, Bits: c.bitsOf(sl.Path), Mode: mode}
			if c.Recipe != "" {
				c.quantization[sl.Path] = map[string]any{"group_size": c.GroupSize, "bits": step.to.Bits, "mode": c.Mode}
			}
		}
		step.outputs()
		c.steps = append(c.steps, step)
	}
	if c.Quantize && packed == 0 {
		return fmt.Errorf("has no matrix whose rows divide into groups of %d", c.GroupSize)
	}
	return nil
}

// count counts the weights, packed ones as what they were packed from.
func (c *converting) count(m models.Model, bound nn.Checkpoint) error {
	bound.Unpack = true
	slots, err := nn.Bind(m, bound)
	for _, sl := range slots {
		if sl.Values == nil {
			n := int64(1)
			for _, d := range sl.Shape {
				n *= int64(d)
			}
			c.parameters += n
		}
	}
	return err
}

// step finds the stored tensors of a slot.
func (c *converting) step(sl nn.Slot) (convertStep, error) {
	st := convertStep{Slot: sl, dtype: sl.Dtype}
	leaves := []string{sl.Leaf}
	if sl.Packing.Bits > 0 {
		leaves = packedLeaves[:]
		if sl.Packing.Mode != mlx.Affine {
			leaves = packedLeaves[:2]
			st.dtype = mlx.BFloat16 // what mlx-lm unpacks these modes to
		}
	}
	for _, leaf := range leaves {
		t, ok := c.files.Tensor(sl.Path + "." + leaf)
		if !ok {
			return st, fmt.Errorf("%s.%s: missing", sl.Path, leaf)
		}
		st.in = append(st.in, t)
		c.total += t.Bytes
	}
	if to, ok := conversionTypes[c.Dtype]; ok && (isFloat(sl.Dtype) || sl.Packing.Bits > 0) {
		st.dtype = to
	}
	return st, nil
}

// outputs names the tensors that the step writes.
func (st *convertStep) outputs() {
	if st.to.Bits == 0 {
		st.out = []weights.Tensor{{Name: st.Name(), Dtype: storedAs(st.dtype), Shape: st.Shape}}
		return
	}
	rows, groups := st.Shape[0], st.Shape[1]/st.to.GroupSize
	scale := storedAs(st.dtype)
	if st.to.Mode != mlx.Affine {
		scale = weights.U8
	}
	st.out = []weights.Tensor{
		{Name: st.Path + ".weight", Dtype: weights.U32, Shape: []int{rows, st.Shape[1] * st.to.Bits / 32}},
		{Name: st.Path + ".scales", Dtype: scale, Shape: []int{rows, groups}},
	}
	if st.to.Mode == mlx.Affine {
		st.out = append(st.out, weights.Tensor{Name: st.Path + ".biases", Dtype: scale, Shape: []int{rows, groups}})
	}
}

// storedAs is the type of a file for one of MLX.
func storedAs(d mlx.Dtype) weights.Dtype {
	for file, m := range stored {
		if m == d {
			return file
		}
	}
	return ""
}

// suffix names the new model after what is done to it.
func (c *converting) suffix() string {
	switch {
	case c.Recipe != "":
		return strings.ReplaceAll(c.Recipe, "_", "-")
	case c.Quantize && c.Mode == mlx.Affine.String():
		return fmt.Sprintf("%dbit", c.Bits)
	case c.Quantize:
		return c.Mode
	case c.Dequantize && c.Dtype == "":
		return "dequantized"
	}
	return cmp.Or(map[string]string{"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}[c.Dtype], "copy")
}

// bytes is what the new folder takes on disk, the small files rounded up.
func (c *converting) bytes() int64 {
	n := int64(64 << 20)
	for i := range c.steps {
		for _, t := range c.steps[i].out {
			n += tensorBytes(t)
		}
	}
	return n
}

func tensorBytes(t weights.Tensor) int64 {
	n := int64(t.Dtype.Bits())
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n / 8
}

// recipes have the bits of most layers and those of some.
var recipes = map[string][2]int{"mixed_2_6": {2, 6}, "mixed_3_4": {3, 4}, "mixed_3_6": {3, 6}, "mixed_4_6": {4, 6}}

// bitsOf decides how many bits a module gets. The recipes of mlx-lm (convert.py,
// after llama.cpp's Q4_K_M) give more to the head, and to values and the way down
// in the first eighth of the layers, the last, and every third between.
func (c *converting) bitsOf(path string) int {
	bits, ok := recipes[c.Recipe]
	if !ok {
		return c.Bits
	}
	layer := 0
	if _, rest, ok := strings.Cut(path, ".layers."); ok {
		number, _, _ := strings.Cut(rest, ".")
		layer, _ = strconv.Atoi(number)
	}
	of := c.layers
	early := of / 8
	more := layer < early || layer >= 7*of/8 || (layer-early)%3 == 2
	if strings.Contains(path, "lm_head") || more && (strings.Contains(path, "v_proj") || strings.Contains(path, "down_proj")) {
		return bits[1]
	}
	return bits[0]
}

// run writes the new folder.
func (c *converting) run(ctx context.Context, folder string) error {
	c.thread = newThread()
	go c.thread.run(func() bool { return false }, mlx.ClearCache)
	defer c.thread.close()
	if err := c.thread.do(control, func() error {
		mlx.BindThread()
		return nil
	}); err != nil {
		return err
	}
	var out []weights.Tensor
	for _, st := range c.steps {
		out = append(out, st.out...)
	}
	shards, err := weights.NewShards(folder, out, c.parameters)
	if err != nil {
		return err
	}
	err = c.writeAll(ctx, shards)
	if err == nil {
		err = shards.Finish()
	}
	if e := shards.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := weights.CopyCompanions(folder, c.from); err != nil {
		return err
	}
	return c.config.WriteConfig(folder, c.members())
}

// members are those of config.json that the conversion decides.
func (c *converting) members() map[string]any {
	m := make(map[string]any)
	switch {
	case c.Quantize:
		m["quantization"] = c.quantization
	case c.Dequantize:
		m["quantization"], m["quantization_config"] = nil, nil
	}
	if c.explicit {
		m["torch_dtype"] = c.Dtype
	}
	return m
}

func (c *converting) writeAll(ctx context.Context, shards *weights.Shards) error {
	p := &converter{converting: c, shards: shards}
	for i := range c.steps {
		if err := p.step(ctx, &c.steps[i]); err != nil {
			return fmt.Errorf("%s: %w", c.steps[i].Name(), err)
		}
	}
	return nil
}

// converter takes the steps one after the other, a few rows at a time. Its
// buffers live from piece to piece.
type converter struct {
	*converting
	shards  *weights.Shards
	in, out [3][]byte
}

func (p *converter) step(ctx context.Context, st *convertStep) error {
	rows := 1
	if len(st.Shape) > 0 {
		rows = st.Shape[0]
	}
	var rowBytes int64
	for _, t := range st.in {
		rowBytes += t.Bytes / int64(rows)
	}
	batch := int(max(1, min(int64(p.chunk)/max(rowBytes, 1), int64(rows))))
	for row := 0; row < rows; row += batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(batch, rows-row)
		for i, t := range st.in {
			each := t.Bytes / int64(rows)
			t.Offset, t.Bytes = t.Offset+int64(row)*each, int64(n)*each
			p.in[i] = slices.Grow(p.in[i][:0], int(t.Bytes))[:t.Bytes]
			if err := p.files.ReadTensor(t, p.in[i]); err != nil {
				return err
			}
			p.done += t.Bytes
		}
		if err := p.thread.do(pieces, func() error { return p.piece(st, n) }); err != nil {
			return err
		}
		for i, t := range st.out {
			if err := p.shards.Write(t.Name, p.out[i]); err != nil {
				return err
			}
		}
		if p.progress != nil {
			p.progress(p.done, p.total)
		}
	}
	return nil
}

// piece converts n rows of in to out. Engine thread only.
func (p *converter) piece(st *convertStep, n int) error {
	defer mlx.ClearCache() // or a GPU would keep a chunk for every shape
	s := mlx.NewScope(mlx.Stream{})
	defer s.Close()
	var in [3]mlx.Array
	for i, t := range st.in {
		shape := slices.Clone(t.Shape)
		if len(shape) > 0 {
			shape[0] = n
		}
		in[i] = s.FromBytes(p.in[i], stored[t.Dtype], shape...)
		if isFloat(stored[t.Dtype]) {
			in[i] = s.AsType(in[i], st.dtype)
		}
	}
	a := in[0]
	if k := st.Packing; k.Bits > 0 {
		a = s.AsType(s.Dequantize(in[0], in[1], in[2], k.GroupSize, k.Bits, k.Mode, st.dtype), st.dtype)
	}
	made := [3]mlx.Array{a}
	if k := st.to; k.Bits > 0 {
		made[0], made[1], made[2] = s.Quantize(a, k.GroupSize, k.Bits, k.Mode)
	}
	for i := range st.out {
		p.out[i] = s.Bytes(made[i], p.out[i])
	}
	return s.Err()
}
