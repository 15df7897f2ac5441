package weights

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The types of ggml's first generation: blocks of 32 elements that share one
// float16 scale d, and in Q4_1 and Q5_1 a float16 minimum m.
//
//	Q4_0: d·(q−8)   Q5_0: d·(q−16)   Q8_0: d·q, q signed
//	Q4_1: d·q + m   Q5_1: d·q + m
//
// MLX's affine groups of 32 say scale·q + bias with unsigned q. Shifting q by
// 8, 16 or 128 makes the bias that many times −d: a power of two times d, so
// exact in float16 unless it overflows.
func init() {
	ggmlTypes[2] = &ggmlType{name: "Q4_0", block: 32, bytes: 18, pack: &packing{bits: 4,
		group: func(b []byte, words []uint32) (uint16, uint16, error) {
			nibbles(b[2:], words)
			return shifted(binary.LittleEndian.Uint16(b), 8)
		}}}
	ggmlTypes[3] = &ggmlType{name: "Q4_1", block: 32, bytes: 20, pack: &packing{bits: 4,
		group: func(b []byte, words []uint32) (uint16, uint16, error) {
			nibbles(b[4:], words)
			return scaleAndMinimum(b)
		}}}
	ggmlTypes[6] = &ggmlType{name: "Q5_0", block: 32, bytes: 22, pack: &packing{bits: 5,
		group: func(b []byte, words []uint32) (uint16, uint16, error) {
			fives(binary.LittleEndian.Uint32(b[2:]), b[6:], words)
			return shifted(binary.LittleEndian.Uint16(b), 16)
		}}}
	ggmlTypes[7] = &ggmlType{name: "Q5_1", block: 32, bytes: 24, pack: &packing{bits: 5,
		group: func(b []byte, words []uint32) (uint16, uint16, error) {
			fives(binary.LittleEndian.Uint32(b[4:]), b[8:], words)
			return scaleAndMinimum(b)
		}}}
	ggmlTypes[8] = &ggmlType{name: "Q8_0", block: 32, bytes: 34, pack: &packing{bits: 8,
		group: func(b []byte, words []uint32) (uint16, uint16, error) {
			for i := range words {
				// Flipping the top bit of a signed byte adds 128 to it.
				words[i] = binary.LittleEndian.Uint32(b[2+4*i:]) ^ 0x80808080
			}
			return shifted(binary.LittleEndian.Uint16(b), 128)
		}}}
}

// nibbles puts 32 four-bit values into words. GGML keeps elements 0–15 in the
// low halves of the bytes and 16–31 in the high halves.
func nibbles(qs []byte, words []uint32) {
	for i := range words {
		var w uint32
		for j := range 8 {
			e := 8*i + j
			w |= uint32(qs[e%16]>>(e/16*4)&0xf) << (4 * j)
		}
		words[i] = w
	}
}

// fives puts 32 five-bit values into five words, one run of bits. Their low four
// bits lie as nibbles takes them; bit i of high is the fifth of element i.
func fives(high uint32, qs []byte, words []uint32) {
	var window uint64
	have, next := 0, 0
	for e := range 32 {
		q := qs[e%16]>>(e/16*4)&0xf | byte(high>>e&1)<<4
		window |= uint64(q) << have
		if have += 5; have >= 32 {
			words[next] = uint32(window)
			window, have, next = window>>32, have-32, next+1
		}
	}
}

// shifted returns the scale d and the bias −by·d.
func shifted(d uint16, by float32) (scale, bias uint16, err error) {
	x := float16(d)
	bias, exact := toFloat16(-by * x)
	if !exact {
		return 0, 0, fmt.Errorf("scale %v times %v is not a float16", x, -by)
	}
	return d, bias, nil
}

// scaleAndMinimum reads the d and m that a block begins with.
func scaleAndMinimum(b []byte) (scale, bias uint16, err error) {
	d, m := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
	if !finite(d) || !finite(m) {
		return 0, 0, fmt.Errorf("scale %v with minimum %v is not finite", float16(d), float16(m))
	}
	return d, m, nil
}

func finite(h uint16) bool { return !math.IsInf(float64(float16(h)), 0) && float16(h) == float16(h) }
