package nn

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"harmonyd/engine/mlx"
)

// RoPEConfig is the part of config.json that describes rotary positions. It is
// embedded in a family's config. After Validate, Theta and Scaling are set.
type RoPEConfig struct {
	Theta       *float64     `json:"rope_theta"` // absent means 10000
	Traditional bool         `json:"rope_traditional"`
	Scaling     *RoPEScaling `json:"rope_scaling"`
	Parameters  *RoPEScaling `json:"rope_parameters"` // newer name, holds theta too
	// Context is the most tokens that the model was made for, absent where the
	// file does not say.
	Context *int `json:"max_position_embeddings"`
}

// RoPEScaling says how positions are stretched. Which fields count depends on
// the type; an absent one stands for mlx-lm's default.
type RoPEScaling struct {
	Type            string   `json:"type"`
	RopeType        string   `json:"rope_type"` // where Type is absent
	Theta           *float64 `json:"rope_theta"`
	Factor          float64  `json:"factor"`
	LowFreqFactor   *float64 `json:"low_freq_factor"`
	HighFreqFactor  *float64 `json:"high_freq_factor"`
	OriginalContext *float64 `json:"original_max_position_embeddings"`
	BetaFast        *float64 `json:"beta_fast"`
	BetaSlow        *float64 `json:"beta_slow"`
	MScale          *float64 `json:"mscale"`
	MScaleAllDim    *float64 `json:"mscale_all_dim"`
	LongFactor      numbers  `json:"long_factor"`
}

// numbers is a list, or a single number for all of its places.
type numbers []float64

// UnmarshalJSON implements json.Unmarshaler.
func (n *numbers) UnmarshalJSON(text []byte) error {
	var one float64
	if json.Unmarshal(text, (*[]float64)(n)) == nil {
		return nil
	}
	if json.Unmarshal(text, &one) != nil {
		return errors.New("long_factor: want a number or a list of numbers")
	}
	*n = numbers{one}
	return nil
}

// at returns the number for place i.
func (n numbers) at(i int) float64 {
	if len(n) == 1 {
		return n[0]
	}
	return n[i]
}

// Validate fills in the defaults and refuses what NewRoPE cannot build for
// heads of dims elements, naming the member of config.json.
func (c *RoPEConfig) Validate(dims int) error {
	member := "rope_scaling"
	if c.Scaling == nil && c.Parameters != nil {
		c.Scaling, member = c.Parameters, "rope_parameters"
	}
	if c.Scaling == nil {
		c.Scaling = &RoPEScaling{}
	}
	s := *c.Scaling // a copy: the caller's may be shared
	c.Scaling = &s
	if c.Theta == nil {
		c.Theta = s.Theta
	}
	fill(&c.Theta, 10000)
	if s.Type == "" {
		s.Type = s.RopeType
	}
	if !(*c.Theta > 0) {
		return fmt.Errorf("rope_theta: is %v, want more than 0", *c.Theta)
	}
	if err := c.validateScaling(dims); err != nil {
		return fmt.Errorf("%s: %w", member, err)
	}
	return nil
}

// validateScaling checks the members that the type of scaling uses.
func (c *RoPEConfig) validateScaling(dims int) error {
	s := c.Scaling
	needsFactor := true
	var err error
	switch s.Type {
	case "", "default":
		s.Type, needsFactor = "default", false
	case "linear":
	case "llama3":
		fill(&s.LowFreqFactor, 1)
		fill(&s.HighFreqFactor, 4)
		fill(&s.OriginalContext, 8192)
		if !(*s.LowFreqFactor > 0 && *s.HighFreqFactor > *s.LowFreqFactor && *s.OriginalContext > 0) {
			return fmt.Errorf("low_freq_factor %v, high_freq_factor %v and "+
				"original_max_position_embeddings %v do not go together",
				*s.LowFreqFactor, *s.HighFreqFactor, *s.OriginalContext)
		}
	case "yarn", "deepseek_yarn", "telechat3-yarn":
		s.Type = "yarn"
		err = c.validateYaRN()
	case "dynamic":
		switch {
		case c.Context == nil:
			err = fmt.Errorf("type dynamic needs max_position_embeddings")
		case dims <= 2:
			err = fmt.Errorf("type dynamic needs heads of more than 2 elements")
		}
	case "longrope":
		needsFactor = false
		err = c.validateLongRoPE(dims)
	default:
		return fmt.Errorf("type %q is not supported", s.Type)
	}
	if err == nil && needsFactor && !(s.Factor > 0) {
		err = fmt.Errorf("factor: is %v, want more than 0", s.Factor)
	}
	return err
}

func (c *RoPEConfig) validateYaRN() error {
	s := c.Scaling
	fill(&s.OriginalContext, 4096)
	fill(&s.BetaFast, 32)
	fill(&s.BetaSlow, 1)
	fill(&s.MScale, 1)
	fill(&s.MScaleAllDim, 0)
	if !(*s.OriginalContext > 0 && *s.BetaSlow > 0 && *s.BetaFast >= *s.BetaSlow) {
		return fmt.Errorf("beta_fast %v, beta_slow %v and original_max_position_embeddings %v do not go together",
			*s.BetaFast, *s.BetaSlow, *s.OriginalContext)
	}
	if m := yarnMScale(*s); !(m > 0) || math.IsInf(m, 0) {
		return fmt.Errorf("mscale %v and mscale_all_dim %v do not go together", *s.MScale, *s.MScaleAllDim)
	}
	if *c.Theta <= 1 {
		return fmt.Errorf("type yarn needs a rope_theta of more than 1")
	}
	return nil
}

func (c *RoPEConfig) validateLongRoPE(dims int) error {
	s := c.Scaling
	switch {
	case c.Context == nil:
		return fmt.Errorf("type longrope needs max_position_embeddings")
	case s.OriginalContext == nil:
		return fmt.Errorf("original_max_position_embeddings: is missing")
	case !(*s.OriginalContext > 1):
		return fmt.Errorf("original_max_position_embeddings: is %v, want more than 1", *s.OriginalContext)
	case len(s.LongFactor) != 1 && len(s.LongFactor) != dims/2:
		return fmt.Errorf("long_factor: holds %d numbers, want %d", len(s.LongFactor), dims/2)
	}
	for _, f := range s.LongFactor {
		if !(f > 0) {
			return fmt.Errorf("long_factor: holds %v, want more than 0", f)
		}
	}
	return nil
}

func fill(v **float64, absent float64) {
	if *v == nil {
		*v = &absent
	}
}

// RoPE rotates queries and keys by their positions.
type RoPE struct {
	dims        int
	traditional bool
	base, scale float32
	attention   float64   // see AttentionScale
	values      []float32 // of freqs, until Bind hands them out
	freqs       mlx.Var   // wave lengths over 2 pi; empty where base says it all
	dynamic     dynamic   // zero where base is constant
}

// NewRoPE returns the rotation of heads of dims elements. C must have been
// validated for them. All is computed as mlx-lm 0.32.0 does in rope_utils.py,
// in float32 where it is: what it does not read (truncate and attention_factor
// of yarn, short_factor of longrope) does not count here either.
func NewRoPE(dims int, c RoPEConfig) RoPE {
	r := RoPE{dims: dims, traditional: c.Traditional, base: float32(*c.Theta), scale: 1, attention: 1}
	s := *c.Scaling
	switch s.Type {
	case "linear":
		r.scale = float32(1 / s.Factor)
	case "dynamic":
		r.dynamic = dynamic{theta: *c.Theta, factor: s.Factor, context: float64(*c.Context)}
	case "llama3":
		r.values = llama3(waves(dims, *c.Theta), s)
	case "yarn":
		r.values = yarn(waves(dims, *c.Theta), dims, *c.Theta, s)
		r.attention = yarnMScale(s) * yarnMScale(s)
	case "longrope":
		r.traditional = false // as mlx-lm has it
		r.values = waves(dims, *c.Theta)
		for i := range r.values {
			r.values[i] *= float32(s.LongFactor.at(i))
		}
		// Ding et al. (2024), equation of section 3.3; squared for q and k.
		if factor := float64(*c.Context) / *s.OriginalContext; factor > 1 {
			r.attention = 1 + math.Log(factor)/math.Log(*s.OriginalContext)
		}
	}
	if r.values != nil {
		r.base = 0
	}
	return r
}

// AttentionScale is what a model multiplies the scale of its attention by. YaRN
// and LongRoPE have queries and keys multiplied by a factor each; its square,
// once and for all, is the same without an operation per token. That holds where
// a whole head is rotated.
func (r *RoPE) AttentionScale() float64 { return r.attention }

// waves returns the wave length of each rotated pair over 2 pi: theta^(2i/dims).
func waves(dims int, theta float64) []float32 {
	w := make([]float32, dims/2)
	for i := range w {
		w[i] = float32(math.Pow(float64(float32(theta)), float64(float32(2*i)/float32(dims))))
	}
	return w
}

// llama3 stretches long waves by the factor, leaves short ones and blends in
// between (Llama3RoPE).
func llama3(w []float32, s RoPEScaling) []float32 {
	factor, original := float32(s.Factor), float32(*s.OriginalContext)
	low, high := float32(*s.LowFreqFactor), float32(*s.HighFreqFactor)
	long, short := original/low, original/high
	for i := range w {
		switch length := 2 * math.Pi * w[i]; {
		case length > long:
			w[i] *= factor
		case length > short && length < long:
			smooth := (original/length - low) / (high - low)
			w[i] /= (1-smooth)/factor + smooth
		}
	}
	return w
}

// yarn stretches the waves that turn less than betaSlow times within the original
// context by the factor, leaves those that turn more than betaFast times, and
// blends in between by place (Peng et al. 2023; YarnRoPE).
func yarn(w []float32, dims int, theta float64, s RoPEScaling) []float32 {
	place := func(turns float64) float64 {
		return float64(dims) * math.Log(*s.OriginalContext/(turns*2*math.Pi)) / (2 * math.Log(theta))
	}
	low := max(math.Floor(place(*s.BetaFast)), 0)
	high := min(math.Ceil(place(*s.BetaSlow)), float64(dims-1))
	if low == high {
		high += 0.001
	}
	factor := float32(s.Factor)
	for i := range w {
		ramp := min(max((float32(i)-float32(low))/float32(high-low), 0), 1)
		keep := 1 - ramp
		stretched := factor * w[i]
		w[i] = stretched * w[i] / (stretched*keep + w[i]*(1-keep))
	}
	return w
}

// yarnMScale is the factor of queries and keys that makes up for the flatter
// attention over a longer context. DeepSeek's two members divide it in halves of
// which its models apply the other themselves.
func yarnMScale(s RoPEScaling) float64 {
	one := func(mscale float64) float64 {
		if s.Factor <= 1 {
			return 1
		}
		return 0.1*mscale*math.Log(s.Factor) + 1
	}
	return one(*s.MScale) / one(*s.MScaleAllDim)
}

// dynamic is NTK scaling whose base grows with the text beyond the context that
// the model was made for (DynamicNTKScalingRoPE, transformers' type dynamic).
// Each key keeps the base of the pass that it came with, there as here. Beyond
// the context, scores therefore depend on how a text was cut into passes.
type dynamic struct{ theta, factor, context float64 }

// base is theta for a text of that many tokens.
func (d dynamic) base(dims, tokens int) float32 {
	longer := d.factor*max(float64(tokens), d.context)/d.context - (d.factor - 1)
	return float32(d.theta * math.Pow(longer, float64(dims)/float64(dims-2)))
}

// Forward rotates x [B, H, L, d], whose first token is at position offset.
func (r *RoPE) Forward(s *mlx.Scope, x mlx.Array, offset int) mlx.Array {
	base := r.base
	if r.dynamic.factor != 0 {
		base = r.dynamic.base(r.dims, offset+x.Dim(2))
	}
	return s.RoPE(x, r.dims, r.traditional, base, r.scale, offset, r.freqs.Array())
}

func (r *RoPE) bind(b *binder, path string) {
	if r.values != nil {
		b.slots = append(b.slots, Slot{
			Path: path, Leaf: "freqs", Shape: []int{len(r.values)}, Values: r.values, set: r.freqs.Set,
			free: r.freqs.Free,
		})
	}
}
