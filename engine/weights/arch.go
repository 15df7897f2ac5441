package weights

import (
	"fmt"
	"slices"
	"strings"
)

// An architecture turns the metadata of one GGUF general.architecture into the
// configuration that Hugging Face's code for the same model reads, and says
// what each tensor is called there.
type architecture func(g *GGUF) (config map[string]any, roles []role, err error)

// architectures holds one row per GGUF architecture; each family is one file
// that adds its own.
var architectures = map[string]architecture{}

// A role is a tensor that an architecture has: its name and shape in GGUF and
// its name in the folder. Every tensor of a file needs a role, and every role
// a tensor, so that nothing is dropped or made up in silence.
type role struct {
	gguf, hf string
	shape    []int
	// heads is not 0 where GGUF stores the rows of each head with the two
	// halves of the rotary pairs interleaved; MLX wants them one after the other.
	heads int
	// added is what GGUF's values are larger by than the folder's.
	added float32
}

// describeModel looks the architecture up and pairs its roles with tensors.
func describeModel(g *GGUF) (config map[string]any, pairs []pair, err error) {
	const key = "general.architecture"
	name, ok, err := g.str(key)
	switch {
	case err != nil:
		return nil, nil, err
	case !ok:
		return nil, nil, g.badKey(key, "is missing")
	}
	arch, ok := architectures[name]
	if !ok {
		return nil, nil, g.badKey(key, "%s is not supported (%s)", quote(name), strings.Join(known(), ", "))
	}
	config, roles, err := arch(g)
	if err != nil {
		return nil, nil, err
	}
	pairs, err = match(g, roles)
	return config, pairs, err
}

// known lists the architectures that can be imported.
func known() []string {
	var names []string
	for name := range architectures {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A pair is a role with the tensor that plays it.
type pair struct {
	role
	tensor *GGUFTensor
}

// match gives each role its tensor, in the order of the roles.
func match(g *GGUF, roles []role) ([]pair, error) {
	tensors := make(map[string]*GGUFTensor)
	for i := range g.Tensors {
		tensors[g.Tensors[i].Name] = &g.Tensors[i]
	}
	var pairs []pair
	for _, r := range roles {
		t, ok := tensors[r.gguf]
		if !ok {
			return nil, &FormatError{File: g.name, Tensor: r.gguf, Reason: "is missing"}
		}
		if !slices.Equal(t.Shape, r.shape) {
			return nil, &FormatError{g.name, r.gguf, "shape", fmt.Sprintf("%v, want %v", t.Shape, r.shape)}
		}
		delete(tensors, r.gguf)
		if r.hf != "" {
			pairs = append(pairs, pair{r, t})
		}
	}
	for i := range g.Tensors {
		if name := g.Tensors[i].Name; tensors[name] != nil {
			return nil, &FormatError{File: g.name, Tensor: name, Reason: "is not part of this architecture"}
		}
	}
	return pairs, nil
}

// tensor returns the tensor of that name, or nil.
func (g *GGUF) tensor(name string) *GGUFTensor {
	for i := range g.Tensors {
		if g.Tensors[i].Name == name {
			return &g.Tensors[i]
		}
	}
	return nil
}

// modelSizes are the numbers that shapes follow from, and the norms' epsilon.
type modelSizes struct {
	layers, hidden, intermediate, heads, kvHeads, headDim, vocab, context int

	eps float64
}

// readSizes reads and checks the numbers whose keys begin with arch.
func readSizes(g *GGUF, arch string) (n modelSizes, err error) {
	for _, f := range []struct {
		key  string
		into *int
	}{
		{arch + ".block_count", &n.layers}, {arch + ".embedding_length", &n.hidden},
		{arch + ".feed_forward_length", &n.intermediate}, {arch + ".attention.head_count", &n.heads},
		{arch + ".context_length", &n.context},
	} {
		if *f.into, err = g.size(f.key); err != nil {
			return n, err
		}
	}
	if n.layers > 10_000 {
		return n, g.badKey(arch+".block_count", "is %d, at most 10000 are read", n.layers)
	}
	if n.kvHeads, err = g.sizeOr(arch+".attention.head_count_kv", n.heads); err != nil {
		return n, err
	}
	if n.heads%n.kvHeads != 0 {
		return n, g.badKey(arch+".attention.head_count_kv", "is %d, which does not divide %d heads", n.kvHeads, n.heads)
	}
	headKey := arch + ".attention.key_length"
	if n.headDim, err = g.sizeOr(headKey, n.hidden/n.heads); err != nil {
		return n, err
	}
	if n.headDim < 2 || n.headDim%2 != 0 {
		return n, g.badKey(headKey, "%d is no even head dimension", n.headDim)
	}
	for _, key := range []string{arch + ".attention.value_length", arch + ".rope.dimension_count"} {
		d, err := g.sizeOr(key, n.headDim)
		if err != nil {
			return n, err
		}
		if d != n.headDim {
			return n, g.badKey(key, "is %d, want the head dimension %d", d, n.headDim)
		}
	}
	if n.heads > maxDim/n.headDim {
		return n, g.badKey(arch+".attention.head_count", "%d heads of %d overflow", n.heads, n.headDim)
	}
	embedding := g.tensor("token_embd.weight")
	if embedding == nil {
		return n, &FormatError{File: g.name, Tensor: "token_embd.weight", Reason: "is missing"}
	}
	n.vocab = embedding.Shape[0]
	epsKey := arch + ".attention.layer_norm_rms_epsilon"
	if n.eps, err = g.positive(epsKey, 0); err == nil && n.eps == 0 {
		err = g.badKey(epsKey, "is missing")
	}
	return n, err
}
