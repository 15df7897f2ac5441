package weights

import "fmt"

func init() { architectures["gemma3"] = gemma3 }

// gemma3 describes the text models of Gemma 3. Key names are those of gguf-py
// constants.py, config members those of transformers' Gemma3TextConfig and
// mlx-lm's gemma3_text.
func gemma3(g *GGUF) (map[string]any, []role, error) {
	const arch = "gemma3"
	for _, key := range []string{arch + ".final_logit_softcapping", arch + ".attn_logit_softcapping"} {
		if x, ok, err := lookup[float64](g, key, "a float"); err != nil {
			return nil, nil, err
		} else if ok && x != 0 {
			return nil, nil, g.badKey(key, "is %g, which is not supported", x)
		}
	}
	n, err := readSizes(g, arch)
	if err != nil {
		return nil, nil, err
	}
	theta, err := g.positive(arch+".rope.freq_base", 1e6)
	if err != nil {
		return nil, nil, err
	}
	local, err := g.positive(arch+".rope.freq_base_swa", 1e4)
	if err != nil {
		return nil, nil, err
	}
	scaling, err := g.ropeScaling(arch, n.headDim, n.context, theta)
	if err != nil {
		return nil, nil, err
	}
	window, err := g.size(arch + ".attention.sliding_window")
	if err != nil {
		return nil, nil, err
	}
	pattern, err := g.sizeOr(arch+".attention.sliding_window_pattern", 6)
	if err != nil {
		return nil, nil, err
	}
	tied := g.tensor("output.weight") == nil
	config := map[string]any{
		"architectures":           []string{"Gemma3ForCausalLM"},
		"model_type":              "gemma3_text",
		"hidden_activation":       "gelu_pytorch_tanh",
		"hidden_size":             n.hidden,
		"num_hidden_layers":       n.layers,
		"intermediate_size":       n.intermediate,
		"num_attention_heads":     n.heads,
		"num_key_value_heads":     n.kvHeads,
		"head_dim":                n.headDim,
		"vocab_size":              n.vocab,
		"max_position_embeddings": n.context,
		// Through float32, so that 1e-06 is written as 1e-06.
		"rms_norm_eps":           float32(n.eps),
		"rope_theta":             float32(theta),
		"rope_local_base_freq":   float32(local),
		"rope_scaling":           scaling,
		"query_pre_attn_scalar":  queryScalar(n),
		"sliding_window":         window,
		"sliding_window_pattern": pattern,
		"layer_types":            layerTypes(n.layers, pattern),
		"tie_word_embeddings":    tied,
		"attention_bias":         false,
	}
	return config, gemma3Roles(n, tied), nil
}

// queryScalar is what queries are divided by the root of. GGUF does not keep it:
// it is the head dimension in all sizes but the largest, of 62 layers, where it
// is the hidden size over the heads (llama.cpp models/gemma3.cpp).
func queryScalar(n modelSizes) int {
	if n.layers == 62 {
		return n.hidden / n.heads
	}
	return n.headDim
}

// layerTypes lists the layers as transformers does: every pattern-th sees
// everything, the others a window.
func layerTypes(layers, pattern int) []string {
	types := make([]string, layers)
	for i := range types {
		types[i] = "sliding_attention"
		if (i+1)%pattern == 0 {
			types[i] = "full_attention"
		}
	}
	return types
}

// gemma3Roles lists the tensors of a model in the order of its layers. GGUF has
// the norms as they are multiplied with; in the folder 1 is added to them.
func gemma3Roles(n modelSizes, tied bool) []role {
	q, kv := n.heads*n.headDim, n.kvHeads*n.headDim
	var roles []role
	linear := func(gguf, hf string, out, in int) {
		roles = append(roles, role{gguf: gguf + ".weight", hf: hf + ".weight", shape: []int{out, in}})
	}
	norm := func(gguf, hf string, dim int) {
		roles = append(roles, role{gguf: gguf + ".weight", hf: hf + ".weight", shape: []int{dim}, added: 1})
	}
	linear("token_embd", "model.embed_tokens", n.vocab, n.hidden)
	for i := range n.layers {
		from, to := fmt.Sprintf("blk.%d.", i), fmt.Sprintf("model.layers.%d.", i)
		norm(from+"attn_norm", to+"input_layernorm", n.hidden)
		linear(from+"attn_q", to+"self_attn.q_proj", q, n.hidden)
		linear(from+"attn_k", to+"self_attn.k_proj", kv, n.hidden)
		linear(from+"attn_v", to+"self_attn.v_proj", kv, n.hidden)
		linear(from+"attn_output", to+"self_attn.o_proj", n.hidden, q)
		norm(from+"attn_q_norm", to+"self_attn.q_norm", n.headDim)
		norm(from+"attn_k_norm", to+"self_attn.k_norm", n.headDim)
		norm(from+"post_attention_norm", to+"post_attention_layernorm", n.hidden)
		norm(from+"ffn_norm", to+"pre_feedforward_layernorm", n.hidden)
		linear(from+"ffn_gate", to+"mlp.gate_proj", n.intermediate, n.hidden)
		linear(from+"ffn_up", to+"mlp.up_proj", n.intermediate, n.hidden)
		linear(from+"ffn_down", to+"mlp.down_proj", n.hidden, n.intermediate)
		norm(from+"post_ffw_norm", to+"post_feedforward_layernorm", n.hidden)
	}
	norm("output_norm", "model.norm", n.hidden)
	if !tied {
		linear("output", "lm_head", n.vocab, n.hidden)
	}
	return roles
}
