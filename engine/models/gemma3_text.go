package models

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"harmonyd/engine/kv"
	"harmonyd/engine/mlx"
	"harmonyd/engine/nn"
)

// Gemma 3 (2025): a norm before and after each block, norms of queries and keys,
// a gated GELU, a scaled embedding, and layers that see a window only with
// rotary positions of their own, all but every sixth.
//
// Reference: mlx-lm 0.32.0 models/gemma3_text.py, and models/gemma3.py for the
// checkpoints that have a vision model as well, of which only the text model is
// used. Shapes: see nn.
func init() {
	register("gemma3_text", newGemma3Text)
	register("gemma3", newGemma3)
}

// gemma3Config has its defaults from gemma3Defaults: released checkpoints leave
// out much of it.
type gemma3Config struct {
	Hidden       int      `json:"hidden_size"`
	Intermediate int      `json:"intermediate_size"`
	Layers       int      `json:"num_hidden_layers"`
	Heads        int      `json:"num_attention_heads"`
	KVHeads      int      `json:"num_key_value_heads"`
	HeadDim      int      `json:"head_dim"`
	Vocab        int      `json:"vocab_size"`
	Context      *int     `json:"max_position_embeddings"`
	NormEps      float32  `json:"rms_norm_eps"`
	QueryScalar  float64  `json:"query_pre_attn_scalar"`
	Tied         bool     `json:"tie_word_embeddings"`
	Window       int      `json:"sliding_window"`
	Pattern      int      `json:"sliding_window_pattern"` // every so many-th layer sees everything
	LayerTypes   []string `json:"layer_types"`            // where given, instead of Pattern

	Theta      float64         `json:"rope_theta"`
	LocalTheta float64         `json:"rope_local_base_freq"`
	Scaling    *nn.RoPEScaling `json:"rope_scaling"` // of layers that see everything
	Parameters struct {        // what transformers 5 writes instead of the three
		Full    *nn.RoPEScaling `json:"full_attention"`
		Sliding *nn.RoPEScaling `json:"sliding_attention"`
	} `json:"rope_parameters"`

	Activation    string   `json:"hidden_activation"`
	LogitCap      *float64 `json:"final_logit_softcapping"`
	AttentionCap  *float64 `json:"attn_logit_softcapping"`
	Bidirectional bool     `json:"use_bidirectional_attention"`

	local, global nn.RoPEConfig
}

func gemma3Defaults() gemma3Config {
	return gemma3Config{Hidden: 1152, Intermediate: 6912, Layers: 26, Heads: 4, KVHeads: 1, HeadDim: 256, Vocab: 262144,
		NormEps: 1e-6, QueryScalar: 256, Tied: true, Window: 512, Pattern: 6, Theta: 1e6, LocalTheta: 1e4}
}

func (c *gemma3Config) validate() error {
	for _, f := range []struct {
		name      string
		got, most int
	}{
		{"hidden_size", c.Hidden, maxSize},
		{"intermediate_size", c.Intermediate, maxSize},
		{"num_hidden_layers", c.Layers, maxLayers},
		{"num_attention_heads", c.Heads, maxSize},
		{"num_key_value_heads", c.KVHeads, maxSize},
		{"head_dim", c.HeadDim, maxSize},
		{"vocab_size", c.Vocab, maxSize},
		{"sliding_window", c.Window, maxSize},
		{"sliding_window_pattern", c.Pattern, maxLayers},
	} {
		if f.got < 1 || f.got > f.most {
			return fmt.Errorf("%s: is %d, want 1 to %d", f.name, f.got, f.most)
		}
	}
	switch {
	case c.Context != nil && *c.Context < 1:
		return fmt.Errorf("max_position_embeddings: is %d, want at least 1", *c.Context)
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("num_key_value_heads: is %d, which does not divide %d heads", c.KVHeads, c.Heads)
	case c.Heads*c.HeadDim > maxSize:
		return fmt.Errorf("head_dim: is %d, too wide for %d heads", c.HeadDim, c.Heads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("head_dim: is %d, rotary positions need an even number", c.HeadDim)
	case !(c.NormEps > 0 && c.NormEps < 1):
		return fmt.Errorf("rms_norm_eps: is %v, want more than 0 and less than 1", c.NormEps)
	case !(c.QueryScalar > 0 && c.QueryScalar <= maxSize):
		return fmt.Errorf("query_pre_attn_scalar: is %v, want more than 0 and at most %d", c.QueryScalar, maxSize)
	case c.LayerTypes != nil && len(c.LayerTypes) != c.Layers:
		return fmt.Errorf("layer_types: lists %d layers, num_hidden_layers is %d", len(c.LayerTypes), c.Layers)
	case c.Activation != "" && c.Activation != "gelu_pytorch_tanh":
		return fmt.Errorf("hidden_activation: %q is not supported", c.Activation)
	case c.LogitCap != nil:
		return fmt.Errorf("final_logit_softcapping: is %v, which is not supported", *c.LogitCap)
	case c.AttentionCap != nil:
		return fmt.Errorf("attn_logit_softcapping: is %v, which is not supported", *c.AttentionCap)
	case c.Bidirectional:
		return fmt.Errorf("use_bidirectional_attention: is true, which is not supported")
	}
	for _, t := range c.LayerTypes {
		if t != "full_attention" && t != "sliding_attention" {
			return fmt.Errorf("layer_types: %q is not supported", t)
		}
	}
	return c.validateRoPE()
}

// validateRoPE makes the configurations of the two kinds of layers.
func (c *gemma3Config) validateRoPE() error {
	if !(c.LocalTheta > 0) {
		return fmt.Errorf("rope_local_base_freq: is %v, want more than 0", c.LocalTheta)
	}
	c.global = nn.RoPEConfig{Theta: &c.Theta, Scaling: c.Scaling, Context: c.Context}
	c.local = nn.RoPEConfig{Theta: &c.LocalTheta, Context: c.Context}
	for _, r := range []struct {
		kind   string
		config *nn.RoPEConfig
		newer  *nn.RoPEScaling
	}{
		{"full_attention", &c.global, c.Parameters.Full}, {"sliding_attention", &c.local, c.Parameters.Sliding},
	} {
		if r.newer == nil {
			if err := r.config.Validate(c.HeadDim); err != nil {
				return err
			}
			continue
		}
		*r.config = nn.RoPEConfig{Theta: cmp.Or(r.newer.Theta, r.config.Theta), Scaling: r.newer, Context: c.Context}
		if err := r.config.Validate(c.HeadDim); err != nil {
			return fmt.Errorf("rope_parameters: %s: %w", r.kind, err)
		}
	}
	return nil
}

// slides reports whether layer i sees a window only.
func (c *gemma3Config) slides(i int) bool {
	if c.LayerTypes != nil {
		return c.LayerTypes[i] == "sliding_attention"
	}
	return (i+1)%c.Pattern != 0
}

// gemma3Text has the checkpoint's names as weight tags.
type gemma3Text struct {
	cfg     gemma3Config
	sliding []bool

	localScale, globalScale float32

	Local      nn.RoPE       `weight:"rope_local"`
	Global     nn.RoPE       `weight:"rope"`
	EmbedScale nn.Constant   `weight:"embed_scale"`
	GELU       nn.GELU       `weight:"gelu"`
	Residual   nn.Residual   `weight:"residual"`
	Embed      nn.Embedding  `weight:"model.embed_tokens"`
	Layers     []gemma3Layer `weight:"model.layers"`
	Norm       nn.RMSNorm    `weight:"model.norm"`
	Head       nn.Linear     `weight:"lm_head"` // absent where the embedding is tied
}

type gemma3Layer struct {
	AttnNorm  nn.RMSNorm      `weight:"input_layernorm"`
	Attn      gemma3Attention `weight:"self_attn"`
	AfterAttn nn.RMSNorm      `weight:"post_attention_layernorm"`
	MLPNorm   nn.RMSNorm      `weight:"pre_feedforward_layernorm"`
	Gate      nn.Linear       `weight:"mlp.gate_proj"`
	Up        nn.Linear       `weight:"mlp.up_proj"`
	Down      nn.Linear       `weight:"mlp.down_proj"`
	AfterMLP  nn.RMSNorm      `weight:"post_feedforward_layernorm"`
}

type gemma3Attention struct {
	Q     nn.Linear  `weight:"q_proj"`
	K     nn.Linear  `weight:"k_proj"`
	V     nn.Linear  `weight:"v_proj"`
	O     nn.Linear  `weight:"o_proj"`
	QNorm nn.RMSNorm `weight:"q_norm"`
	KNorm nn.RMSNorm `weight:"k_norm"`
}

func newGemma3Text(config []byte) (Model, error) {
	m := &gemma3Text{cfg: gemma3Defaults()}
	if err := decodeConfig(config, &m.cfg); err != nil {
		return nil, err
	}
	m.build()
	return m, nil
}

// build makes the layers of a validated configuration.
func (m *gemma3Text) build() {
	c := &m.cfg
	m.Local, m.Global = nn.NewRoPE(c.HeadDim, c.local), nn.NewRoPE(c.HeadDim, c.global)
	m.localScale = float32(m.Local.AttentionScale() / math.Sqrt(c.QueryScalar))
	m.globalScale = float32(m.Global.AttentionScale() / math.Sqrt(c.QueryScalar))
	m.EmbedScale = nn.NewConstant(brain(math.Sqrt(float64(c.Hidden))))
	m.GELU = nn.NewGELU()
	m.Embed = nn.NewEmbedding(c.Vocab, c.Hidden)
	m.Norm = nn.NewRMSNormPlusOne(c.Hidden, c.NormEps)
	if !c.Tied {
		m.Head = nn.NewLinear(c.Hidden, c.Vocab, false)
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	for i := range c.Layers {
		m.sliding = append(m.sliding, c.slides(i))
		m.Layers = append(m.Layers, gemma3Layer{
			AttnNorm: nn.NewRMSNormPlusOne(c.Hidden, c.NormEps),
			Attn: gemma3Attention{
				Q:     nn.NewLinear(c.Hidden, q, false),
				K:     nn.NewLinear(c.Hidden, kv, false),
				V:     nn.NewLinear(c.Hidden, kv, false),
				O:     nn.NewLinear(q, c.Hidden, false),
				QNorm: nn.NewRMSNormPlusOne(c.HeadDim, c.NormEps),
				KNorm: nn.NewRMSNormPlusOne(c.HeadDim, c.NormEps),
			},
			AfterAttn: nn.NewRMSNormPlusOne(c.Hidden, c.NormEps),
			MLPNorm:   nn.NewRMSNormPlusOne(c.Hidden, c.NormEps),
			Gate:      nn.NewLinear(c.Hidden, c.Intermediate, false),
			Up:        nn.NewLinear(c.Hidden, c.Intermediate, false),
			Down:      nn.NewLinear(c.Intermediate, c.Hidden, false),
			AfterMLP:  nn.NewRMSNormPlusOne(c.Hidden, c.NormEps),
		})
	}
}

// brain rounds to bfloat16, as the reference does with the embedding's scale
// whatever the checkpoint's type.
func brain(x float64) float32 {
	b := math.Float32bits(float32(x))
	return math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
}

func (m *gemma3Text) Sizes() Sizes {
	c := &m.cfg
	sizes := Sizes{Vocab: c.Vocab, Layers: c.Layers, Window: c.Window, CopiedPerToken: c.KVHeads * c.HeadDim,
		Widest: max(c.Hidden, c.Intermediate, c.Heads*c.HeadDim)}
	for _, slides := range m.sliding {
		if slides {
			sizes.SlidingPerToken += 2 * c.KVHeads * c.HeadDim
		} else {
			sizes.CachePerToken += 2 * c.KVHeads * c.HeadDim
		}
	}
	if c.Context != nil {
		sizes.Context = *c.Context
	}
	return sizes
}

// Ignores names what converters leave in: rotary tables, and a head beside a tied
// embedding.
func (m *gemma3Text) Ignores(tensor string) bool {
	return strings.HasSuffix(tensor, ".rotary_emb.inv_freq") ||
		m.cfg.Tied && strings.HasPrefix(tensor, "lm_head.")
}

func (m *gemma3Text) NewCache() kv.Cache { return kv.NewWindow(m.sliding, m.cfg.Window) }

func (m *gemma3Text) Forward(s *mlx.Scope, tokens mlx.Array, c kv.Cache) mlx.Array {
	x := s.Mul(m.Embed.Forward(s, tokens), m.EmbedScale.Array())
	var mask mlx.Array // of the layers that slide, which all have the same keys
	if i := slices.Index(m.sliding, true); i >= 0 {
		l := tokens.Dim(1)
		mask = nn.WindowMask(s, l, min(c.Layer(i).Offset(), m.cfg.Window-1)+l, m.cfg.Window)
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		h := m.attend(s, i, l.AttnNorm.Forward(s, x), c.Layer(i), mask)
		x = m.Residual.Add(s, x, l.AfterAttn.Forward(s, h))
		h = l.MLPNorm.Forward(s, x)
		h = l.Down.Forward(s, s.Mul(m.GELU.Forward(s, l.Gate.Forward(s, h)), l.Up.Forward(s, h)))
		x = m.Residual.Add(s, x, l.AfterMLP.Forward(s, h))
	}
	return m.Norm.Forward(s, x)
}

func (m *gemma3Text) Logits(s *mlx.Scope, h mlx.Array) mlx.Array {
	if m.cfg.Tied {
		return m.Embed.Unembed(s, h)
	}
	return m.Head.Forward(s, h)
}

func (m *gemma3Text) attend(s *mlx.Scope, i int, x mlx.Array, c kv.Layer, mask mlx.Array) mlx.Array {
	a, rope, scale := &m.Layers[i].Attn, &m.Global, m.globalScale
	if m.sliding[i] {
		rope, scale = &m.Local, m.localScale
	} else {
		mask = mlx.Array{}
	}
	q := a.QNorm.Forward(s, nn.SplitHeads(s, a.Q.Forward(s, x), m.cfg.Heads))   // [B, H, L, d]
	k := a.KNorm.Forward(s, nn.SplitHeads(s, a.K.Forward(s, x), m.cfg.KVHeads)) // [B, G, L, d]
	v := nn.SplitHeads(s, a.V.Forward(s, x), m.cfg.KVHeads)
	q = rope.Forward(s, q, c.Offset())
	k = rope.Forward(s, k, c.Offset())
	k, v = c.Append(s, k, v) // [B, G, T, d]
	o := nn.WindowAttention(s, q, k, v, scale, mask)
	return a.O.Forward(s, nn.MergeHeads(s, o)) // [B, L, D]
}

// gemma3 is a checkpoint that has a vision model beside the text model.
type gemma3 struct {
	Text gemma3Text `weight:"language_model"`
}

// gemma3Nested is its config.json. The vocabulary at the top counts: it has the
// tokens that stand for images as well.
type gemma3Nested struct {
	Vocab *int         `json:"vocab_size"`
	Text  gemma3Config `json:"text_config"`
}

func (c *gemma3Nested) validate() error {
	if c.Vocab != nil {
		c.Text.Vocab = *c.Vocab
	}
	if err := c.Text.validate(); err != nil {
		return fmt.Errorf("text_config: %w", err)
	}
	return nil
}

func newGemma3(config []byte) (Model, error) {
	nested := gemma3Nested{Text: gemma3Defaults()}
	nested.Text.Heads, nested.Text.KVHeads, nested.Text.Vocab = 8, 4, 262208
	if err := decodeConfig(config, &nested); err != nil {
		return nil, err
	}
	m := &gemma3{gemma3Text{cfg: nested.Text}}
	m.Text.build()
	return m, nil
}

func (m *gemma3) Sizes() Sizes { return m.Text.Sizes() }

func (m *gemma3) Ignores(tensor string) bool {
	text, ok := strings.CutPrefix(tensor, "language_model.")
	return ok && m.Text.Ignores(text) ||
		strings.HasPrefix(tensor, "vision_tower.") || strings.HasPrefix(tensor, "multi_modal_projector.")
}

func (m *gemma3) NewCache() kv.Cache { return m.Text.NewCache() }

func (m *gemma3) Forward(s *mlx.Scope, tokens mlx.Array, c kv.Cache) mlx.Array {
	return m.Text.Forward(s, tokens, c)
}

func (m *gemma3) Logits(s *mlx.Scope, h mlx.Array) mlx.Array { return m.Text.Logits(s, h) }
