package models

import (
	"fmt"
	"math"
	"strings"

	"harmonyd/engine/kv"
	"harmonyd/engine/mlx"
	"harmonyd/engine/nn"
)

// Llama is the pre-norm decoder of Touvron et al. (2023): RMSNorm, rotary
// positions, grouped-query attention, SwiGLU. Mistral ships the same graph.
//
// Reference: mlx-lm 0.32.0 models/llama.py; testdata holds its scores for tiny
// random checkpoints.
//
// Shapes: B batch, L new tokens, T tokens so far, D hidden, H heads, G key/value
// heads, d head dimension, V vocabulary.
func init() {
	register("llama", newLlama)
	register("mistral", newLlama)
}

type llamaConfig struct {
	Hidden        int      `json:"hidden_size"`
	Intermediate  int      `json:"intermediate_size"`
	Layers        int      `json:"num_hidden_layers"`
	Heads         int      `json:"num_attention_heads"`
	KVHeads       *int     `json:"num_key_value_heads"` // absent means Heads
	HeadDim       *int     `json:"head_dim"`            // absent means Hidden/Heads
	Vocab         int      `json:"vocab_size"`
	NormEps       float32  `json:"rms_norm_eps"`
	Tied          *bool    `json:"tie_word_embeddings"` // absent means tied
	AttentionBias bool     `json:"attention_bias"`
	MLPBias       bool     `json:"mlp_bias"`
	LayerTypes    []string `json:"layer_types"`
	nn.RoPEConfig
}

// The most of each size that a real model comes near to. They keep products of
// them within an int.
const (
	maxLayers = 1 << 12
	maxSize   = 1 << 24
)

func (c *llamaConfig) validate() error {
	if c.KVHeads == nil {
		c.KVHeads = &c.Heads
	}
	if c.HeadDim == nil {
		d := c.Hidden / max(c.Heads, 1)
		c.HeadDim = &d
	}
	if c.Tied == nil {
		tied := true
		c.Tied = &tied
	}
	for _, f := range []struct {
		name      string
		got, most int
	}{
		{"hidden_size", c.Hidden, maxSize},
		{"intermediate_size", c.Intermediate, maxSize},
		{"num_hidden_layers", c.Layers, maxLayers},
		{"num_attention_heads", c.Heads, maxSize},
		{"num_key_value_heads", *c.KVHeads, maxSize},
		{"head_dim", *c.HeadDim, maxSize},
		{"vocab_size", c.Vocab, maxSize},
	} {
		if f.got < 1 || f.got > f.most {
			return fmt.Errorf("%s: is %d, want 1 to %d", f.name, f.got, f.most)
		}
	}
	switch {
	case c.Context != nil && *c.Context < 1:
		return fmt.Errorf("max_position_embeddings: is %d, want at least 1", *c.Context)
	case c.Heads%*c.KVHeads != 0:
		return fmt.Errorf("num_key_value_heads: is %d, which does not divide %d heads", *c.KVHeads, c.Heads)
	case c.Heads**c.HeadDim > maxSize:
		return fmt.Errorf("head_dim: is %d, too wide for %d heads", *c.HeadDim, c.Heads)
	case *c.HeadDim%2 != 0:
		return fmt.Errorf("head_dim: is %d, rotary positions need an even number", *c.HeadDim)
	case !(c.NormEps > 0 && c.NormEps < 1):
		return fmt.Errorf("rms_norm_eps: is %v, want more than 0 and less than 1", c.NormEps)
	}
	for _, t := range c.LayerTypes {
		if t != "full_attention" {
			return fmt.Errorf("layer_types: %q is not supported", t)
		}
	}
	return c.RoPEConfig.Validate(*c.HeadDim)
}

// The weight tags are the checkpoint's names.
type llama struct {
	cfg    llamaConfig
	scale  float32
	RoPE   nn.RoPE      `weight:"rope"`
	Embed  nn.Embedding `weight:"model.embed_tokens"`
	Layers []llamaLayer `weight:"model.layers"`
	Norm   nn.RMSNorm   `weight:"model.norm"`
	Head   nn.Linear    `weight:"lm_head"` // absent where the embedding is tied
}

type llamaLayer struct {
	AttnNorm nn.RMSNorm     `weight:"input_layernorm"`
	Attn     llamaAttention `weight:"self_attn"`
	MLPNorm  nn.RMSNorm     `weight:"post_attention_layernorm"`
	MLP      nn.SwiGLU      `weight:"mlp"`
}

type llamaAttention struct {
	Q nn.Linear `weight:"q_proj"`
	K nn.Linear `weight:"k_proj"`
	V nn.Linear `weight:"v_proj"`
	O nn.Linear `weight:"o_proj"`
}

func newLlama(config []byte) (Model, error) {
	m := new(llama)
	if err := decodeConfig(config, &m.cfg); err != nil {
		return nil, err
	}
	c := &m.cfg
	dim := *c.HeadDim
	m.RoPE = nn.NewRoPE(dim, c.RoPEConfig)
	m.scale = float32(m.RoPE.AttentionScale() / math.Sqrt(float64(dim)))
	m.Embed = nn.NewEmbedding(c.Vocab, c.Hidden)
	m.Norm = nn.NewRMSNorm(c.Hidden, c.NormEps)
	if !*c.Tied {
		m.Head = nn.NewLinear(c.Hidden, c.Vocab, false)
	}
	q, kv := c.Heads*dim, *c.KVHeads*dim
	for range c.Layers {
		m.Layers = append(m.Layers, llamaLayer{
			AttnNorm: nn.NewRMSNorm(c.Hidden, c.NormEps),
			Attn: llamaAttention{
				Q: nn.NewLinear(c.Hidden, q, c.AttentionBias),
				K: nn.NewLinear(c.Hidden, kv, c.AttentionBias),
				V: nn.NewLinear(c.Hidden, kv, c.AttentionBias),
				O: nn.NewLinear(q, c.Hidden, c.AttentionBias),
			},
			MLPNorm: nn.NewRMSNorm(c.Hidden, c.NormEps),
			MLP:     nn.NewSwiGLU(c.Hidden, c.Intermediate, c.MLPBias),
		})
	}
	return m, nil
}

func (m *llama) Sizes() Sizes {
	c := &m.cfg
	sizes := Sizes{
		Vocab:          c.Vocab,
		Layers:         c.Layers,
		CachePerToken:  2 * c.Layers * *c.KVHeads * *c.HeadDim,
		CopiedPerToken: *c.KVHeads * *c.HeadDim,
		Widest:         max(c.Hidden, c.Intermediate, c.Heads**c.HeadDim),
	}
	if c.Context != nil {
		sizes.Context = *c.Context
	}
	return sizes
}

// Ignores names what older converters left in: rotary tables, and a head beside a
// tied embedding.
func (m *llama) Ignores(tensor string) bool {
	return strings.HasSuffix(tensor, ".rotary_emb.inv_freq") ||
		*m.cfg.Tied && strings.HasPrefix(tensor, "lm_head.")
}

func (m *llama) NewCache() kv.Cache { return kv.NewFull(m.cfg.Layers) }

func (m *llama) Forward(s *mlx.Scope, tokens mlx.Array, c kv.Cache) mlx.Array {
	x := m.Embed.Forward(s, tokens)
	for i := range m.Layers {
		l := &m.Layers[i]
		x = s.Add(x, m.attend(s, &l.Attn, l.AttnNorm.Forward(s, x), c.Layer(i)))
		x = s.Add(x, l.MLP.Forward(s, l.MLPNorm.Forward(s, x)))
	}
	return m.Norm.Forward(s, x)
}

func (m *llama) Logits(s *mlx.Scope, h mlx.Array) mlx.Array {
	if *m.cfg.Tied {
		return m.Embed.Unembed(s, h)
	}
	return m.Head.Forward(s, h)
}

func (m *llama) attend(s *mlx.Scope, a *llamaAttention, x mlx.Array, c kv.Layer) mlx.Array {
	q := nn.SplitHeads(s, a.Q.Forward(s, x), m.cfg.Heads)    // [B, H, L, d]
	k := nn.SplitHeads(s, a.K.Forward(s, x), *m.cfg.KVHeads) // [B, G, L, d]
	v := nn.SplitHeads(s, a.V.Forward(s, x), *m.cfg.KVHeads)
	q = m.RoPE.Forward(s, q, c.Offset())
	k = m.RoPE.Forward(s, k, c.Offset())
	k, v = c.Append(s, k, v) // [B, G, T, d]
	o := nn.Attention(s, q, k, v, m.scale)
	return a.O.Forward(s, nn.MergeHeads(s, o)) // [B, L, D]
}
