package weights

import (
	"encoding/binary"
	"fmt"
)

// The K types of ggml: blocks of 256 elements whose sub-blocks of 16 or 32 have
// small integer scales s, and in three of the types minimums m, that count in
// units of a float16 d of the block, and of a second one, e.
//
//	Q2_K: d·s·q − e·m, 16 by 16      Q3_K: d·s·(q−4), 16 by 16
//	Q4_K, Q5_K: d·s·q − e·m, 32 by 32      Q6_K: d·s·(q−32), 16 by 16
//
// None of them is one of MLX's affine groups: those have no groups of 16, and
// d·s takes up to 19 bits where a float16 has 11. They are dequantized instead,
// each product rounded to float32 as the gguf package for Python does, and the
// value then to the model's 16 bits. A float16 moves a value by at most 2⁻¹¹
// of itself: at the ends of Q6_K, the finest, that is 1/64 of a step, where the
// type itself is off by up to half a step. In bfloat16, whose range no weight
// needs, it would be 1/8. A value beyond float16 is refused.
//
// The layouts are those of ggml-common.h (llama.cpp).
func init() {
	ggmlTypes[10] = &ggmlType{name: "Q2_K", block: 256, bytes: 84, unpack: unpackQ2K}
	ggmlTypes[11] = &ggmlType{name: "Q3_K", block: 256, bytes: 110, unpack: unpackQ3K}
	ggmlTypes[12] = &ggmlType{name: "Q4_K", block: 256, bytes: 144, unpack: unpackQ4K}
	ggmlTypes[13] = &ggmlType{name: "Q5_K", block: 256, bytes: 176, unpack: unpackQ5K}
	ggmlTypes[14] = &ggmlType{name: "Q6_K", block: 256, bytes: 210, unpack: unpackQ6K}
}

// unpackQ2K: 16 bytes of scales (low half) and minimums, 64 of q, d, e. A run of
// 32 bytes holds 128 elements: the lowest two bits of all, then the next two.
func unpackQ2K(b []byte, values []float32) error {
	d, e, err := scales2(b[80:])
	if err != nil {
		return err
	}
	for sub := range 16 {
		scale, minimum := d*float32(b[sub]&0xf), e*float32(b[sub]>>4)
		qs, shift := b[16+sub/8*32+sub%2*16:], sub%8/2*2
		out := values[16*sub : 16*sub+16]
		for i := range out {
			out[i] = float32(scale*float32(qs[i]>>shift&3)) - minimum
		}
	}
	return nil
}

// unpackQ3K: 32 bytes of third bits, where 0 takes 4 away, 64 of the lower two as
// in Q2_K, 12 of six-bit scales, d.
func unpackQ3K(b []byte, values []float32) error {
	d, err := scale1(b[108:])
	if err != nil {
		return err
	}
	for sub := range 16 {
		// The low halves of all 16 scales, then two bits each of every fourth.
		low := b[96+sub%8] >> (sub / 8 * 4) & 0xf
		high := b[104+sub%4] >> (sub / 4 * 2) & 3
		scale := d * float32(int(low|high<<4)-32)
		qs, shift := b[32+sub/8*32+sub%2*16:], sub%8/2*2
		third := b[sub%2*16:]
		out := values[16*sub : 16*sub+16]
		for i := range out {
			q := int(qs[i]>>shift&3) + int(third[i]>>(sub/2)&1)*4 - 4
			out[i] = scale * float32(q)
		}
	}
	return nil
}

// unpackQ4K: d, e, 12 bytes of scales and minimums, 128 of q. A run of 32 bytes
// holds 64 elements: the low halves, then the high ones.
func unpackQ4K(b []byte, values []float32) error {
	d, e, err := scales2(b)
	if err != nil {
		return err
	}
	for sub := range 8 {
		s, m := scaleMinimumK(b[4:16], sub)
		scale, minimum := d*float32(s), e*float32(m)
		qs, shift := b[16+sub/2*32:], sub%2*4
		out := values[32*sub : 32*sub+32]
		for i := range out {
			out[i] = float32(scale*float32(qs[i]>>shift&0xf)) - minimum
		}
	}
	return nil
}

// unpackQ5K is Q4_K with 32 bytes of fifth bits before the q: bit k of byte i
// belongs to element i of sub-block k.
func unpackQ5K(b []byte, values []float32) error {
	d, e, err := scales2(b)
	if err != nil {
		return err
	}
	for sub := range 8 {
		s, m := scaleMinimumK(b[4:16], sub)
		scale, minimum := d*float32(s), e*float32(m)
		fifth, qs, shift := b[16:48], b[48+sub/2*32:], sub%2*4
		out := values[32*sub : 32*sub+32]
		for i := range out {
			q := qs[i]>>shift&0xf | fifth[i]>>sub&1<<4
			out[i] = float32(scale*float32(q)) - minimum
		}
	}
	return nil
}

// unpackQ6K: 128 bytes of the low four bits, 64 of the upper two, 16 of signed
// scales, d. 64 low bytes hold 128 elements, low halves first; 32 high bytes the
// same ones, two bits at a time.
func unpackQ6K(b []byte, values []float32) error {
	d, err := scale1(b[208:])
	if err != nil {
		return err
	}
	for sub := range 16 {
		scale := d * float32(int8(b[192+sub]))
		run, within := sub/8, sub%8 // of 128 elements
		low, lowShift := b[64*run+within%4*16:], within/4*4
		high, highShift := b[128+32*run+within%2*16:], within/2*2
		out := values[16*sub : 16*sub+16]
		for i := range out {
			q := low[i]>>lowShift&0xf | high[i]>>highShift&3<<4
			out[i] = scale * float32(int(q)-32)
		}
	}
	return nil
}

// scaleMinimumK takes six-bit scale and minimum number sub out of the 12 bytes
// of Q4_K and Q5_K. Those of the first four sub-blocks fill the low bits of
// bytes 0–3 and 4–7; the later ones have their low halves in bytes 8–11 and
// their upper bits above the first ones'.
func scaleMinimumK(b []byte, sub int) (scale, minimum byte) {
	if sub < 4 {
		return b[sub] & 0x3f, b[sub+4] & 0x3f
	}
	both := b[sub+4]
	return both&0xf | b[sub-4]>>6<<4, both>>4 | b[sub]>>6<<4
}

// scale1 reads a block's d.
func scale1(b []byte) (float32, error) {
	h := binary.LittleEndian.Uint16(b)
	if !finite(h) {
		return 0, fmt.Errorf("scale %v is not finite", float16(h))
	}
	return float16(h), nil
}

// scales2 reads a block's d and e.
func scales2(b []byte) (d, e float32, err error) {
	scale, minimum, err := scaleAndMinimum(b)
	return float16(scale), float16(minimum), err
}
