package nn

import (
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
}

// Validate fills in the defaults and refuses what NewRoPE cannot build, naming
// the member of config.json.
func (c *RoPEConfig) Validate() error {
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
	switch s.Type {
	case "", "default":
		s.Type = "default"
	case "linear":
	case "llama3":
		fill(&s.LowFreqFactor, 1)
		fill(&s.HighFreqFactor, 4)
		fill(&s.OriginalContext, 8192)
		if !(*s.LowFreqFactor > 0 && *s.HighFreqFactor > *s.LowFreqFactor && *s.OriginalContext > 0) {
			return fmt.Errorf("%s: low_freq_factor %v, high_freq_factor %v and "+
				"original_max_position_embeddings %v do not go together",
				member, *s.LowFreqFactor, *s.HighFreqFactor, *s.OriginalContext)
		}
	default:
		return fmt.Errorf("%s: type %q is not supported", member, s.Type)
	}
	if s.Type != "default" && !(s.Factor > 0) {
		return fmt.Errorf("%s: factor: is %v, want more than 0", member, s.Factor)
	}
	if !(*c.Theta > 0) {
		return fmt.Errorf("rope_theta: is %v, want more than 0", *c.Theta)
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
	values      []float32 // of freqs, until Bind hands them out
	freqs       mlx.Var   // wave lengths over 2 pi; empty where base says it all
}

// NewRoPE returns the rotation of heads of dims elements. C must have been
// validated.
func NewRoPE(dims int, c RoPEConfig) RoPE {
	r := RoPE{dims: dims, traditional: c.Traditional, base: float32(*c.Theta), scale: 1}
	switch c.Scaling.Type {
	case "linear":
		r.scale = float32(1 / c.Scaling.Factor)
	case "llama3":
		r.base = 0
		r.values = llama3(dims, *c.Theta, *c.Scaling)
	}
	return r
}

// llama3 stretches long waves by the factor, leaves short ones and blends in
// between (mlx-lm rope_utils.py, Llama3RoPE).
func llama3(dims int, theta float64, s RoPEScaling) []float32 {
	original, low, high := *s.OriginalContext, *s.LowFreqFactor, *s.HighFreqFactor
	long, short := original/low, original/high
	values := make([]float32, dims/2)
	for i := range values {
		f := math.Pow(theta, float64(2*i)/float64(dims))
		switch wave := 2 * math.Pi * f; {
		case wave > long:
			f *= s.Factor
		case wave > short && wave < long:
			smooth := (original/wave - low) / (high - low)
			f /= (1-smooth)/s.Factor + smooth
		}
		values[i] = float32(f)
	}
	return values
}

// Forward rotates x [B, H, L, d], whose first token is at position offset.
func (r *RoPE) Forward(s *mlx.Scope, x mlx.Array, offset int) mlx.Array {
	return s.RoPE(x, r.dims, r.traditional, r.base, r.scale, offset, r.freqs.Array())
}

func (r *RoPE) bind(b *binder, path string) {
	if r.values != nil {
		b.slots = append(b.slots, Slot{
			Path: path, Leaf: "freqs", Shape: []int{len(r.values)}, Values: r.values, set: r.freqs.Set,
			free: r.freqs.Free,
		})
	}
}
