package weights

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// ImportGGUF writes the model of a GGUF file as an MLX-format folder at dest,
// which must not exist. The folder appears complete or not at all. Weights are
// repacked and their values stay what they are, except for those of the K types,
// which are rounded to 16 bits (see ggml_k.go).
//
// progress, if not nil, is called from this goroutine with the bytes written so
// far, their total, and the tensor at hand. Cancelling ctx stops the import and
// returns the context's error. A file that cannot be imported gives a
// *FormatError that names the field or tensor.
func ImportGGUF(ctx context.Context, path, dest string, progress func(done, total int64, what string)) error {
	return importGGUF(ctx, Dir(filepath.Dir(path)), filepath.Base(path), dest, maxShardBytes, progress)
}

func importGGUF(ctx context.Context, folder Folder, name, dest string, shardBytes int64,
	progress func(done, total int64, what string)) error {
	g, err := OpenGGUFIn(folder, name)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }() // was only read from
	// Before the work, not after it.
	if err := checkAbsent(dest); err != nil {
		return err
	}
	imp, err := newImporter(ctx, g, progress)
	if err != nil {
		return err
	}
	return CreateFolder(dest, func(temp string) error {
		if err := imp.writeFolder(temp, shardBytes); err != nil {
			return err
		}
		return g.unchanged()
	})
}

// An importer holds what is known of a file once everything about it but its
// weights has been checked.
type importer struct {
	ctx      context.Context
	g        *GGUF
	config   map[string]any
	vocab    *vocabulary
	groups   []group
	done     int64
	total    int64
	progress func(done, total int64, what string)
}

// A group is the tensors of the folder that one tensor of the file becomes:
// itself, or weight, scales and biases.
type group []output

// An output is a tensor to write and how to make it.
type output struct {
	Tensor
	pair
	part part
}

// A part says how an output follows from its tensor.
type part int

const (
	dense    part = iota // the data as they are
	narrowed             // float32 narrowed to 16 bits
	packed               // the q of all blocks
	scales
	biases
	unpacked // the values of all blocks, rounded to 16 bits
)

func newImporter(ctx context.Context, g *GGUF, progress func(done, total int64, what string)) (*importer, error) {
	imp := &importer{ctx: ctx, g: g, progress: progress}
	config, pairs, err := describeModel(g)
	if err != nil {
		return nil, err
	}
	imp.config = config
	if imp.vocab, err = readVocabulary(g, config["vocab_size"].(int)); err != nil {
		return nil, err
	}
	dtype := activationType(pairs)
	for _, p := range pairs {
		outputs, err := imp.outputs(p, dtype)
		if err != nil {
			return nil, err
		}
		for _, o := range outputs {
			imp.total += o.Bytes
		}
		imp.groups = append(imp.groups, outputs)
	}
	imp.vocab.addTo(config)
	config["torch_dtype"] = map[Dtype]string{F16: "float16", BF16: "bfloat16", F32: "float32"}[dtype]
	if q := quantizationOf(pairs); q != nil {
		// Both names, as mlx-lm writes them.
		config["quantization"], config["quantization_config"] = q, q
	}
	return imp, nil
}

// activationType is the type that the model computes in: that of the scales
// where anything is packed, else that of the matrices. Those that have to be
// unpacked follow the others, since types do not mix.
func activationType(pairs []pair) Dtype {
	dtype, rounds := F32, false
	for _, p := range pairs {
		switch k := p.tensor.kind; {
		case k.pack != nil:
			return F16
		case k.unpack != nil:
			rounds = true
		case len(p.tensor.Shape) > 1 && dtype == F32:
			dtype = k.dense
		}
	}
	if rounds && dtype == F32 {
		return F16
	}
	return dtype
}

// outputs says what a tensor becomes. Norms and biases, which GGUF keeps in
// float32, take the activation type where that is exact, because a float32
// norm would promote every activation after it.
func (imp *importer) outputs(p pair, activation Dtype) (group, error) {
	t := p.tensor
	out := func(name string, d Dtype, shape []int, part part) output {
		n, _ := byteSize(d, shape) // cannot overflow: the file is as large
		return output{Tensor{Name: name, Dtype: d, Shape: shape, Bytes: n}, p, part}
	}
	if p.added != 0 && t.kind.dense != F32 {
		return nil, &FormatError{File: imp.g.name, Tensor: t.Name, Reason: "is " + t.Type() + ", want F32"}
	}
	if t.kind.unpack != nil {
		return group{out(p.hf, activation, t.Shape, unpacked)}, nil
	}
	if t.kind.pack == nil {
		d, how := t.kind.dense, dense
		if d == F32 && activation != F32 && len(t.Shape) == 1 {
			data := make([]byte, t.Bytes)
			if err := imp.g.ReadAt(t, data, 0); err != nil {
				return nil, err
			}
			subtract(data, p.added)
			if narrow(data, data, activation) {
				d, how = activation, narrowed
			}
		}
		return group{out(p.hf, d, t.Shape, how)}, nil
	}
	path, ok := strings.CutSuffix(p.hf, ".weight")
	if !ok || len(t.Shape) != 2 {
		return nil, &FormatError{File: imp.g.name, Tensor: t.Name, Reason: "is a vector of type " + t.Type()}
	}
	rows, groups := t.Shape[0], t.Shape[1]/t.kind.block
	words := groups * t.kind.pack.bits * t.kind.block / 32
	return group{
		out(path+".weight", U32, []int{rows, words}, packed),
		out(path+".scales", F16, []int{rows, groups}, scales),
		out(path+".biases", F16, []int{rows, groups}, biases),
	}, nil
}

// quantizationOf renders the quantization member as mlx-lm writes it: the most
// common parameters, and every module that has others under its path.
func quantizationOf(pairs []pair) map[string]any {
	count := make(map[QuantParams]int)
	for _, p := range pairs {
		if k := p.tensor.kind; k.pack != nil {
			count[QuantParams{k.block, k.pack.bits, "affine"}]++
		}
	}
	var most QuantParams
	for p, n := range count {
		if n > count[most] || n == count[most] && p.Bits < most.Bits {
			most = p
		}
	}
	if len(count) == 0 {
		return nil
	}
	q := map[string]any{"group_size": most.GroupSize, "bits": most.Bits, "mode": most.Mode}
	for _, p := range pairs {
		path, _ := strings.CutSuffix(p.hf, ".weight")
		k := p.tensor.kind
		switch {
		case len(p.tensor.Shape) != 2:
		case k.pack == nil:
			q[path] = false
		case k.pack.bits != most.Bits || k.block != most.GroupSize:
			q[path] = map[string]any{"group_size": k.block, "bits": k.pack.bits}
		}
	}
	return q
}

// write makes the data of one output. Rows are read a batch at a time.
func (imp *importer) write(o *output, w io.Writer) error {
	t := o.tensor
	rows := t.Shape[0]
	rowBytes := t.Bytes / int64(rows)
	batch := max(1, int(min(1<<20/rowBytes, int64(rows))))
	if o.heads != 0 {
		batch = rows / o.heads // rows move within their head
	}
	conv := converter{output: o, rowBytes: int(rowBytes)}
	in := make([]byte, batch*int(rowBytes))
	for row := 0; row < rows; row += batch {
		if err := imp.ctx.Err(); err != nil {
			return err
		}
		n := min(batch, rows-row)
		src := in[:n*int(rowBytes)]
		if err := imp.g.ReadAt(t, src, int64(row)*rowBytes); err != nil {
			return err
		}
		out, err := conv.convert(src, n)
		if err != nil {
			return &FormatError{imp.g.name, t.Name, fmt.Sprintf("rows from %d", row), err.Error()}
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
		imp.done += int64(len(out))
		if imp.progress != nil {
			imp.progress(imp.done, imp.total, o.Name)
		}
	}
	return nil
}
