package weights

import (
	"encoding/binary"
	"fmt"
	"math"
)

// ropeScaling returns the rope_scaling member for heads of headDim elements, nil
// where there is none. arch is the prefix of the keys, context the value of
// context_length. Key names are those of gguf-py constants.py; what they mean is
// read from llama.cpp's llama-context.cpp and ggml's rope.
func (g *GGUF) ropeScaling(arch string, headDim, context int, theta float64) (any, error) {
	if t := g.tensor("rope_freqs.weight"); t != nil {
		return llama3Scaling(g, t, headDim, theta)
	}
	typeKey := arch + ".rope.scaling.type"
	kind, _, err := g.str(typeKey)
	if err != nil {
		return nil, err
	}
	legacy, err := g.positive(arch+".rope.scale_linear", 1)
	if err != nil {
		return nil, err
	}
	factor, err := g.positive(arch+".rope.scaling.factor", legacy)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == "none" || factor == 1 && kind != "longrope":
		return nil, nil
	case kind == "linear" || kind == "":
		return map[string]any{"rope_type": "linear", "factor": float32(factor)}, nil
	case kind == "yarn":
		return g.yarnScaling(arch, context, factor)
	}
	return nil, g.badKey(typeKey, "%s is not supported (none, linear, yarn)", quote(kind))
}

// yarnScaling carries YaRN's parameters over. llama.cpp's default for the original
// context is the context of the training.
func (g *GGUF) yarnScaling(arch string, context int, factor float64) (any, error) {
	prefix := arch + ".rope.scaling."
	original, err := g.sizeOr(prefix+"original_context_length", context)
	if err != nil {
		return nil, err
	}
	config := map[string]any{"rope_type": "yarn", "factor": float32(factor), "original_max_position_embeddings": original}
	for key, member := range map[string]string{"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"} {
		if beta, err := g.positive(prefix+key, 0); err != nil {
			return nil, err
		} else if beta > 0 {
			config[member] = float32(beta)
		}
	}
	// How much of the blend and of the attention's factor is applied; every
	// known file leaves both at their whole.
	for _, key := range []string{"yarn_ext_factor", "attn_factor", "yarn_attn_factor"} {
		if x, err := g.positive(prefix+key, 1); err != nil {
			return nil, err
		} else if x != 1 {
			return nil, g.badKey(prefix+key, "is %g, only 1 is supported", x)
		}
	}
	return config, nil
}

// llama3Scaling finds the parameters that Llama 3's frequency factors were made
// from: GGUF keeps only the factors. Every released model uses the same low and
// high frequency factor and original context, so that the largest factor is the
// scaling factor; the result must give all the factors back.
func llama3Scaling(g *GGUF, t *GGUFTensor, headDim int, theta float64) (any, error) {
	bad := func(format string, args ...any) error {
		return &FormatError{File: g.name, Tensor: t.Name, Reason: fmt.Sprintf(format, args...)}
	}
	if t.kind.dense != F32 || len(t.Shape) != 1 || t.Shape[0] != headDim/2 {
		return nil, bad("is %s %v, want F32 [%d]", t.Type(), t.Shape, headDim/2)
	}
	data := make([]byte, t.Bytes)
	if err := g.ReadAt(t, data, 0); err != nil {
		return nil, err
	}
	const low, high, original = 1.0, 4.0, 8192
	factors := make([]float64, t.Shape[0])
	largest := 0.0
	for i := range factors {
		factors[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
		largest = max(largest, factors[i])
	}
	for i, got := range factors {
		wavelength := 2 * math.Pi * math.Pow(theta, float64(2*i)/float64(headDim))
		want := 1.0
		switch {
		case wavelength > original/low:
			want = largest
		case wavelength >= original/high:
			smooth := (original/wavelength - low) / (high - low)
			want = 1 / ((1-smooth)/largest + smooth)
		}
		if !(math.Abs(got-want) <= 1e-4*want) {
			return nil, bad("factor %d is %g, Llama 3's rule gives %g", i, got, want)
		}
	}
	return map[string]any{"rope_type": "llama3", "factor": float32(largest), "low_freq_factor": low,
		"high_freq_factor": high, "original_max_position_embeddings": original}, nil
}
