package weights

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A QuantParams says how one matrix is packed, in MLX's terms: elements of
// GroupSize share a scale (and in mode affine a bias), Bits bits each.
type QuantParams struct {
	GroupSize int
	Bits      int
	Mode      string // affine, mxfp4, mxfp8 or nvfp4
}

// A Quantization is the quantization member of config.json as mlx-lm writes
// it: parameters for all layers, and by module path others or none.
type Quantization struct {
	QuantParams
	overrides map[string]*QuantParams // nil: not quantized
}

// For returns the parameters of the module at path ("model.layers.0.mlp.up_proj").
// explicit tells that config.json names this very path; without it a module is
// quantized only if the file has its scales. The bool quantized is false where
// the path is marked as left alone.
func (q *Quantization) For(path string) (p QuantParams, quantized, explicit bool) {
	o, ok := q.overrides[path]
	switch {
	case !ok:
		return q.QuantParams, true, false
	case o == nil:
		return QuantParams{}, false, true
	}
	return *o, true, true
}

// quantModes holds the packings that MLX knows.
var quantModes = map[string]struct{ groups, bits []int }{
	"affine": {[]int{32, 64, 128}, []int{2, 3, 4, 5, 6, 8}},
	"mxfp4":  {[]int{32}, []int{4}},
	"mxfp8":  {[]int{32}, []int{8}},
	"nvfp4":  {[]int{16}, []int{4}},
}

// readQuantization reads the member quantization, or quantization_config where
// only that stands, which is how transformers names it. The latter may describe
// a packing that is not MLX's; that is refused here rather than misread later.
func readQuantization(members object) (*Quantization, error) {
	field := "quantization"
	text, ok := members[field]
	if !ok || isNull(text) {
		field = "quantization_config"
		text, ok = members[field]
	}
	if !ok || isNull(text) {
		return nil, nil
	}
	bad := func(path, format string, args ...any) error {
		f := field
		if path != "" {
			f += "[" + quote(path) + "]"
		}
		return &FormatError{File: configFile, Field: f, Reason: fmt.Sprintf(format, args...)}
	}
	top, err := decodeObject(text)
	if err != nil {
		return nil, bad("", "%v", err)
	}
	if method, ok := top["quant_method"]; ok {
		return nil, bad("", "quant_method %s is not supported", quote(string(method)))
	}
	q := &Quantization{overrides: make(map[string]*QuantParams)}
	if q.QuantParams, err = decodeQuantParams(top, "affine"); err != nil {
		return nil, bad("", "%v", err)
	}
	for path, value := range top {
		switch {
		case path == "group_size" || path == "bits" || path == "mode":
		case string(value) == "false":
			q.overrides[path] = nil
		case string(value) == "true":
			q.overrides[path] = &q.QuantParams
		default:
			o, err := decodeObject(value)
			if err != nil {
				return nil, bad(path, "%v", err)
			}
			// mlx-lm hands an override to nn.quantize as it is, where the mode
			// falls back to affine and not to the mode of the other layers.
			p, err := decodeQuantParams(o, "affine")
			if err != nil {
				return nil, bad(path, "%v", err)
			}
			q.overrides[path] = &p
		}
	}
	return q, nil
}

// decodeQuantParams reads group_size, bits and mode and holds them against the
// packings that exist.
func decodeQuantParams(o object, mode string) (p QuantParams, err error) {
	p.Mode = mode
	if text, ok := o["mode"]; ok && !isNull(text) {
		if p.Mode, err = decodeString(text); err != nil {
			return p, fmt.Errorf("mode %w", err)
		}
	}
	if _, ok := quantModes[p.Mode]; !ok {
		return p, p.Validate()
	}
	for _, m := range []struct {
		key  string
		into *int
	}{{"group_size", &p.GroupSize}, {"bits", &p.Bits}} {
		text, ok := o[m.key]
		if !ok {
			return p, fmt.Errorf("%s is missing", m.key)
		}
		n, err := decodeNatural(text)
		if err != nil {
			return p, fmt.Errorf("%s %w", m.key, err)
		}
		*m.into = int(n)
	}
	return p, p.Validate()
}

// Validate holds the parameters against the packings that exist.
func (p QuantParams) Validate() error {
	allowed, ok := quantModes[p.Mode]
	switch {
	case !ok:
		return fmt.Errorf("unknown mode %s (%s)", quote(p.Mode), strings.Join(slices.Sorted(maps.Keys(quantModes)), ", "))
	case !slices.Contains(allowed.groups, p.GroupSize):
		return fmt.Errorf("group_size %d is not one of %v in mode %s", p.GroupSize, allowed.groups, p.Mode)
	case !slices.Contains(allowed.bits, p.Bits):
		return fmt.Errorf("bits %d is not one of %v in mode %s", p.Bits, allowed.bits, p.Mode)
	}
	return nil
}

// WithDefaults fills in what is 0 with what mlx-lm takes for the mode, affine
// where that is empty, too.
func (p QuantParams) WithDefaults() QuantParams {
	p.Mode = cmp.Or(p.Mode, "affine")
	if p.Mode == "affine" {
		p.GroupSize, p.Bits = cmp.Or(p.GroupSize, 64), cmp.Or(p.Bits, 4)
	} else if only, ok := quantModes[p.Mode]; ok {
		p.GroupSize, p.Bits = cmp.Or(p.GroupSize, only.groups[0]), cmp.Or(p.Bits, only.bits[0])
	}
	return p
}
