package mlx

// #include "shim.h"
// #cgo noescape hm_filter_tokens
// #cgo nocallback hm_filter_tokens
// #cgo noescape hm_mask_tokens
// #cgo nocallback hm_mask_tokens
// #cgo noescape hm_draw_token
// #cgo nocallback hm_draw_token
import "C"

import "math"

// A TokenFilter says which tokens may be drawn, by their probability, which is the
// softmax of their scores. Its parts apply in the order of its fields. What is 0 is
// off.
type TokenFilter struct {
	// TopP keeps the most probable tokens that together reach it, and what ties
	// with the last of them.
	TopP float32
	// MinP drops what is less than so many times as probable as the best, but for
	// the MinKeep most probable.
	MinP    float32
	MinKeep int
	// XTC drops all tokens that are more probable than XTCThreshold but the least
	// probable of them and those that are spared.
	XTC          bool
	XTCThreshold float32
	TopK         int
}

// CPU reports whether the operations of s run on a CPU, where FilterTokens and
// DrawToken can.
func (s *Scope) CPU() bool {
	c := s.ptr()
	return c != nil && bool(c.cpu)
}

// FilterTokens returns the scores of one token [.., V], float32, less the largest
// of them, and minus infinity for what f drops. Spared are ids, uint32 and
// evaluated; the zero Array is none. It runs on a CPU only.
func (s *Scope) FilterTokens(scores Array, f TokenFilter, spared Array) Array {
	return s.made(C.hm_filter_tokens(s.ptr(), scores.use(), C.hm_token_filter{
		nuclear: C.bool(f.TopP > 0 && f.TopP < 1), top_p: C.float(f.TopP),
		minimal: C.bool(f.MinP > 0), log_min_p: C.float(math.Log(float64(f.MinP))), min_keep: C.int(f.MinKeep),
		excluding: C.bool(f.XTC), xtc_threshold: C.float(f.XTCThreshold), top_k: C.int(f.TopK),
	}, spared.use()))
}

// MaskTokens returns the scores of one token [.., V], float32, with minus infinity for
// the tokens that mask, uint32 [ceil(V/32)], leaves out: token i is bit i%32 of word
// i/32. It runs on a CPU only.
func (s *Scope) MaskTokens(scores, mask Array) Array {
	return s.made(C.hm_mask_tokens(s.ptr(), scores.use(), mask.use()))
}

// DrawToken draws from the softmax of the scores of one token [.., V], float32,
// times inverse, the inverse of a temperature. Random, from [0, 1), decides: it is
// the share of all probability that comes before the token or with it. The result
// is uint32 [..]. It runs on a CPU only.
func (s *Scope) DrawToken(scores Array, inverse float32, random float64) Array {
	return s.made(C.hm_draw_token(s.ptr(), scores.use(), C.float(inverse), C.double(random)))
}
