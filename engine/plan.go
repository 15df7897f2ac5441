package engine

import (
	"fmt"
	"slices"

	"harmonyd/engine/kv"
	"harmonyd/engine/mlx"
	"harmonyd/engine/models"
	"harmonyd/engine/nn"
	"harmonyd/engine/weights"
)

// plannedTokens is the length of text that a model must have room for when it is
// loaded. More is taken as it is needed.
const plannedTokens = 2048

// WeightForm says in which form weights are kept in memory.
type WeightForm string

// The forms.
const (
	// AsStored keeps weights as the checkpoint has them, packed or plain.
	AsStored WeightForm = "stored"
	// Float32 unpacks them, as other programs do that run on MLX's own CPU
	// kernels: for comparisons with them. On a GPU it is refused.
	Float32 WeightForm = "float32"
)

// plan is a load that has been thought through: everything that headers and
// config.json can tell is known to be right.
type plan struct {
	model  models.Model
	config *weights.Config
	files  *weights.Model
	slots  []nn.Slot
	// dtype is the type of every float weight and so of every activation.
	dtype  mlx.Dtype
	cpu    bool
	bytes  int64 // of the weights on the device
	needed int64 // with the cache and the scratch of a first request

	// Of the cache, for a token in layers that see everything and in those that
	// see a window; and of a step.
	perToken, perSliding, perCopied, scratch int64
}

// device is where a model will run.
type device struct {
	gpu       bool
	weights   WeightForm
	available int64 // bytes
}

// newPlan opens a model folder and decides how to load it. The caller closes the
// plan.
func newPlan(folder weights.Folder, d device) (*plan, error) {
	config, err := weights.ReadConfigFolder(folder)
	if err != nil {
		return nil, err
	}
	m, err := models.New(config.ModelType, config.Raw)
	if err != nil {
		return nil, err
	}
	files, err := weights.OpenFolder(folder)
	if err != nil {
		return nil, err
	}
	p := &plan{model: m, config: config, files: files}
	if err := p.fit(d); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// close closes the files. What was read stays.
func (p *plan) close() { _ = p.files.Close() } // only read from

// fit binds the model to the checkpoint. On a CPU activations are float32, the one
// type that its vector units compute with, and matrices stay as they are stored; on
// a GPU all have one type.
func (p *plan) fit(d device) error {
	tensors, err := catalogue(p.files, p.model)
	if err != nil {
		return err
	}
	c := nn.Checkpoint{Tensors: tensors, Ignore: p.model.Ignores, CPU: !d.gpu, Dtype: mlx.Float32,
		Packing: packingOf(p.config.Quantization)}
	switch {
	case d.weights == Float32 && d.gpu:
		return fmt.Errorf("weights as float32: only a CPU computes with them")
	case d.weights == Float32 && !p.unpackable():
		return fmt.Errorf("weights as float32: only affine packings can be unpacked")
	case d.weights == Float32:
		c.Unpack = true
	case d.gpu:
		if c.Dtype, err = activations(tensors, p.model); err != nil {
			return err
		}
	}
	return p.bind(c)
}

// packingOf translates config.json's quantization for nn.
func packingOf(q *weights.Quantization) func(path string) (nn.Packing, bool, bool) {
	if q == nil {
		return nil
	}
	return func(path string) (nn.Packing, bool, bool) {
		params, packed, explicit := q.For(path)
		mode, err := mlx.ParseMode(params.Mode)
		return nn.Packing{GroupSize: params.GroupSize, Bits: params.Bits, Mode: mode}, packed && err == nil, explicit
	}
}

func (p *plan) bind(c nn.Checkpoint) (err error) {
	if p.slots, err = nn.Bind(p.model, c); err != nil {
		return err
	}
	p.dtype = c.Dtype
	for i := range p.slots {
		p.bytes += p.slotBytes(&p.slots[i])
	}
	sizes := p.model.Sizes()
	width := int64(p.dtype.Size())
	tokens := int64(plannedTokens)
	if sizes.Context > 0 {
		tokens = min(tokens, int64(sizes.Context))
	}
	// A chunk has a handful of activations alive at a time; the scores exist for
	// one position.
	p.cpu = c.CPU
	p.scratch = 4*int64(mostTokens(p.pieces()))*int64(sizes.Widest)*width + 2*int64(sizes.Vocab)*4
	if c.CPU {
		p.scratch += int64(mlx.Threads()) * mlx.ThreadScratch
	}
	p.perToken, p.perSliding = int64(sizes.CachePerToken)*width, int64(sizes.SlidingPerToken)*width
	p.perCopied = int64(sizes.CopiedPerToken) * width
	p.needed = p.bytes + p.cost(int(tokens))
	return nil
}

// pieces is how many pieces a chunk of a prompt comes in. On a CPU the layers are
// evaluated one by one: a chunk large enough to make little of the weights' unpacking
// takes seconds. A GPU would wait for each of them.
func (p *plan) pieces() int {
	if p.cpu {
		return p.model.Sizes().Layers + 1
	}
	return 1
}

// cost is the memory of a sequence of so many tokens and of its steps, that of the
// last growth included.
func (p *plan) cost(tokens int) int64 {
	n := int64(kv.Capacity(tokens))*(p.perToken+p.perCopied) + p.scratch
	if p.perSliding > 0 {
		n += int64(kv.WindowCapacity(tokens, p.model.Sizes().Window)) * p.perSliding
	}
	return n
}

// unpackable reports whether every quantized weight can be unpacked here.
func (p *plan) unpackable() bool {
	q := p.config.Quantization
	if q == nil {
		return true
	}
	for _, t := range p.files.Tensors {
		if path, ok := cutLeaf(t.Name, "scales"); ok {
			if params, packed, _ := q.For(path); packed && params.Mode != mlx.Affine.String() {
				return false
			}
		}
	}
	return true
}

// form says how the weights will lie in memory, see Engine.Form.
func (p *plan) form() string {
	for i := range p.slots {
		if p.slots[i].Leaf == "scales" {
			return Packed
		}
	}
	for i := range p.slots {
		if p.slots[i].Matrix {
			return p.target(&p.slots[i]).String()
		}
	}
	return p.dtype.String()
}

// target is the type that a slot's array has on the device.
func (p *plan) target(sl *nn.Slot) mlx.Dtype {
	switch {
	case sl.Values != nil:
		return mlx.Float32
	case isFloat(sl.Dtype) && !sl.Keep:
		return p.dtype
	}
	return sl.Dtype
}

func (p *plan) slotBytes(sl *nn.Slot) int64 {
	n := int64(p.target(sl).Size())
	for _, d := range sl.Shape {
		n *= int64(d)
	}
	return n
}

// stagingBytes is the memory that converting the slot takes besides its result.
func (p *plan) stagingBytes(sl *nn.Slot) int64 {
	switch {
	case sl.Values != nil || sl.Packing.Bits == 0 && p.target(sl) == sl.Dtype:
		return 0
	case sl.Packing.Bits == 0:
		return p.slotBytes(sl) / int64(p.dtype.Size()) * int64(sl.Dtype.Size())
	}
	var n int64
	for _, leaf := range packedLeaves {
		t, _ := p.files.Tensor(sl.Path + "." + leaf)
		n += t.Bytes
	}
	return n
}

var packedLeaves = [...]string{"weight", "scales", "biases"}

// catalogue translates the headers for nn. A type that MLX cannot hold is an
// error unless the model ignores the tensor.
func catalogue(files *weights.Model, m models.Model) (map[string]nn.Tensor, error) {
	tensors := make(map[string]nn.Tensor, len(files.Tensors))
	for _, t := range files.Tensors {
		dtype, ok := stored[t.Dtype]
		if !ok && !m.Ignores(t.Name) {
			return nil, fmt.Errorf("%s: tensor %q: dtype %s is not supported", t.File, t.Name, t.Dtype)
		}
		tensors[t.Name] = nn.Tensor{Shape: t.Shape, Dtype: dtype}
	}
	return tensors, nil
}

var stored = map[weights.Dtype]mlx.Dtype{
	weights.Bool: mlx.Bool, weights.U8: mlx.Uint8, weights.I8: mlx.Int8, weights.U16: mlx.Uint16,
	weights.I16: mlx.Int16, weights.U32: mlx.Uint32, weights.I32: mlx.Int32, weights.U64: mlx.Uint64,
	weights.I64: mlx.Int64, weights.F16: mlx.Float16, weights.BF16: mlx.BFloat16, weights.F32: mlx.Float32,
}

func isFloat(d mlx.Dtype) bool {
	return d == mlx.Float32 || d == mlx.Float16 || d == mlx.BFloat16
}

// activations is the type that the scales have, or without any the matrices. MLX
// promotes a mixture to float32 without a word, at a third of the speed, so it
// is an error. Norms and biases, which some converters leave in float32, are
// converted instead.
func activations(tensors map[string]nn.Tensor, m models.Model) (mlx.Dtype, error) {
	var leading, plain []string
	for name, t := range tensors {
		if !isFloat(t.Dtype) || m.Ignores(name) {
			continue
		}
		if _, ok := cutLeaf(name, "scales"); ok {
			leading = append(leading, name)
		} else if _, ok := cutLeaf(name, "weight"); ok && len(t.Shape) > 1 {
			plain = append(plain, name)
		}
	}
	if len(leading) == 0 {
		leading = plain
	}
	if len(leading) == 0 {
		return mlx.BFloat16, nil // packings without float scales
	}
	slices.Sort(leading)
	first := leading[0]
	for _, name := range leading {
		if a, b := tensors[first].Dtype, tensors[name].Dtype; a != b {
			return 0, fmt.Errorf("mixed types: %s is %v, %s is %v", first, a, name, b)
		}
	}
	return tensors[first].Dtype, nil
}

// cutLeaf splits "path.leaf".
func cutLeaf(name, leaf string) (path string, ok bool) {
	n := len(name) - len(leaf) - 1
	if n < 0 || name[n] != '.' || name[n+1:] != leaf {
		return "", false
	}
	return name[:n], true
}
