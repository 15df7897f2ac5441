package weights

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A ggmlType is an element type of GGUF files. One of three is set: dense, where
// values are stored one after the other as safetensors would; pack, where rows
// are made of blocks that MLX can have as they are; or unpack, where it cannot.
type ggmlType struct {
	name  string
	block int   // elements in a block
	bytes int64 // bytes of a block
	dense Dtype
	pack  *packing
	// unpack writes the block's values. Scales that are not finite are an error.
	unpack func(block []byte, values []float32) error
}

// A packing says how a block becomes one MLX affine group without changing a
// value: element i is scale·q[i] + bias, q unsigned, scale and bias float16.
type packing struct {
	bits int
	// group fills words with the block's q, lowest bits first, and returns scale
	// and bias as float16 bits. A block with no exact equivalent is an error.
	group func(block []byte, words []uint32) (scale, bias uint16, err error)
}

// ggmlTypes holds the types that can be imported. A family of types is one
// file that adds its own.
var ggmlTypes = map[uint32]*ggmlType{
	0:  {name: "F32", block: 1, bytes: 4, dense: F32},
	1:  {name: "F16", block: 1, bytes: 2, dense: F16},
	30: {name: "BF16", block: 1, bytes: 2, dense: BF16},
}

// ggmlNames names the types that GGUF has and this package does not read, for
// the message only.
var ggmlNames = map[uint32]string{
	9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
	22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
	34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
}

func ggmlTypeOf(id uint32) (*ggmlType, error) {
	if t, ok := ggmlTypes[id]; ok {
		return t, nil
	}
	if name, ok := ggmlNames[id]; ok {
		return nil, fmt.Errorf("type %s is not supported; take the model as F16, BF16, Q8_0, Q4_0 to Q5_1 "+
			"or Q2_K to Q6_K (files named Q4_K_M and the like)", name)
	}
	return nil, fmt.Errorf("type %d is unknown", id)
}

// size returns the bytes of a tensor. Blocks do not run over the end of a row.
func (t *ggmlType) size(shape []int) (int64, error) {
	row := shape[len(shape)-1]
	if row%t.block != 0 {
		return 0, fmt.Errorf("rows of %d elements are not whole %s blocks of %d", row, t.name, t.block)
	}
	n := int64(row/t.block) * t.bytes
	for _, dim := range shape[:len(shape)-1] {
		if n > math.MaxInt64/2/int64(dim) {
			return 0, fmt.Errorf("%v of %s overflows", shape, t.name)
		}
		n *= int64(dim)
	}
	return n, nil
}

// float16 widens a float16 exactly.
func float16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch {
	case exponent == 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	case exponent != 0:
		return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
	}
	x := float32(fraction) * (1.0 / (1 << 24)) // subnormal
	return math.Float32frombits(sign | math.Float32bits(x))
}

// roundFloat16 rounds x to the nearest float16, ties to even. What is too large
// becomes infinite.
func roundFloat16(x float32) uint16 {
	b := math.Float32bits(x)
	sign, b := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case b < 113<<23: // 2^-14
		// Next to 0.5 a float32 counts in steps of 2^-24, as a subnormal does.
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-126<<23)
	case b < 143<<23: // 2^16
		// A carry out of the fraction moves into the exponent, which is right.
		return sign | uint16((b+0xfff+b>>13&1-112<<23)>>13)
	case b > 0xff<<23: // NaN
		return sign | 0x7e00
	}
	return sign | 0x7c00
}

// roundBFloat16 is roundFloat16 for the upper half of a float32.
func roundBFloat16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// toFloat16 narrows x and says whether the float16 has the same value. One that is
// not finite has none.
func toFloat16(x float32) (h uint16, exact bool) {
	h = roundFloat16(x)
	return h, h&0x7c00 != 0x7c00 && float16(h) == x
}

// toBFloat16 is toFloat16 for bfloat16.
func toBFloat16(x float32) (h uint16, exact bool) {
	return roundBFloat16(x), math.Float32bits(x)&0xffff == 0 && x-x == 0
}

// narrow writes the float32 values of src as dtype to dst, if all of them fit.
func narrow(dst, src []byte, dtype Dtype) bool {
	to := toFloat16
	if dtype == BF16 {
		to = toBFloat16
	}
	for i := 0; i < len(src); i += 4 {
		h, exact := to(math.Float32frombits(binary.LittleEndian.Uint32(src[i:])))
		if !exact {
			return false
		}
		binary.LittleEndian.PutUint16(dst[i/2:], h)
	}
	return true
}
