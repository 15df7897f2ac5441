package weights

import "fmt"

func init() { architectures["llama"] = llama }

// llama describes Llama and the Mistral models that llama.cpp files under the
// same name. Key names are those of gguf-py constants.py, config members those
// of transformers' LlamaConfig.
func llama(g *GGUF) (map[string]any, []role, error) {
	if err := refuseLlamaVariants(g); err != nil {
		return nil, nil, err
	}
	n, err := readSizes(g, "llama")
	if err != nil {
		return nil, nil, err
	}
	theta, err := g.positive("llama.rope.freq_base", 10000)
	if err != nil {
		return nil, nil, err
	}
	scaling, err := g.ropeScaling("llama", n.headDim, n.context, theta)
	if err != nil {
		return nil, nil, err
	}
	attentionBias := g.tensor("blk.0.attn_q.bias") != nil
	mlpBias := g.tensor("blk.0.ffn_gate.bias") != nil
	tied := g.tensor("output.weight") == nil
	config := map[string]any{
		"architectures":           []string{"LlamaForCausalLM"},
		"model_type":              "llama",
		"hidden_act":              "silu",
		"hidden_size":             n.hidden,
		"num_hidden_layers":       n.layers,
		"intermediate_size":       n.intermediate,
		"num_attention_heads":     n.heads,
		"num_key_value_heads":     n.kvHeads,
		"head_dim":                n.headDim,
		"vocab_size":              n.vocab,
		"max_position_embeddings": n.context,
		// Through float32, so that 1e-05 is written as 1e-05.
		"rms_norm_eps":        float32(n.eps),
		"rope_theta":          float32(theta),
		"rope_scaling":        scaling,
		"tie_word_embeddings": tied,
		"attention_bias":      attentionBias,
		"mlp_bias":            mlpBias,
	}
	return config, llamaRoles(g, n, attentionBias, mlpBias, tied), nil
}

// refuseLlamaVariants refuses files that say llama and mean a different graph.
func refuseLlamaVariants(g *GGUF) error {
	for _, key := range []string{"llama.expert_count", "llama.attention.sliding_window"} {
		n, _, err := g.natural(key)
		if err != nil {
			return err
		}
		if n > 0 {
			return g.badKey(key, "is %d, which is not supported", n)
		}
	}
	for _, key := range []string{"llama.logit_scale", "llama.residual_scale", "llama.embedding_scale",
		"llama.attention.scale", "llama.attention.clamp_kqv"} {
		if x, ok, err := lookup[float64](g, key, "a float"); err != nil {
			return err
		} else if ok {
			return g.badKey(key, "is %g, which is not supported", x)
		}
	}
	return nil
}

// llamaRoles lists the tensors of a model in the order of its layers.
func llamaRoles(g *GGUF, n modelSizes, attentionBias, mlpBias, tied bool) []role {
	q, kv := n.heads*n.headDim, n.kvHeads*n.headDim
	roles := []role{{gguf: "token_embd.weight", hf: "model.embed_tokens.weight", shape: []int{n.vocab, n.hidden}}}
	linear := func(gguf, hf string, out, in, heads int, bias bool) {
		roles = append(roles, role{gguf: gguf + ".weight", hf: hf + ".weight", shape: []int{out, in}, heads: heads})
		if bias {
			roles = append(roles, role{gguf: gguf + ".bias", hf: hf + ".bias", shape: []int{out}, heads: heads})
		}
	}
	norm := func(gguf, hf string) {
		roles = append(roles, role{gguf: gguf + ".weight", hf: hf + ".weight", shape: []int{n.hidden}})
	}
	for i := range n.layers {
		from, to := fmt.Sprintf("blk.%d.", i), fmt.Sprintf("model.layers.%d.", i)
		norm(from+"attn_norm", to+"input_layernorm")
		linear(from+"attn_q", to+"self_attn.q_proj", q, n.hidden, n.heads, attentionBias)
		linear(from+"attn_k", to+"self_attn.k_proj", kv, n.hidden, n.kvHeads, attentionBias)
		linear(from+"attn_v", to+"self_attn.v_proj", kv, n.hidden, 0, attentionBias)
		linear(from+"attn_output", to+"self_attn.o_proj", n.hidden, q, 0, attentionBias)
		norm(from+"ffn_norm", to+"post_attention_layernorm")
		linear(from+"ffn_gate", to+"mlp.gate_proj", n.intermediate, n.hidden, 0, mlpBias)
		linear(from+"ffn_up", to+"mlp.up_proj", n.intermediate, n.hidden, 0, mlpBias)
		linear(from+"ffn_down", to+"mlp.down_proj", n.hidden, n.intermediate, 0, mlpBias)
	}
	norm("output_norm", "model.norm")
	if !tied {
		linear("output", "lm_head", n.vocab, n.hidden, 0, false)
	}
	if g.tensor("rope_freqs.weight") != nil {
		// Its content became rope_scaling.
		roles = append(roles, role{gguf: "rope_freqs.weight", shape: []int{n.headDim / 2}})
	}
	return roles
}
