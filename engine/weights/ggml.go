package weights

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A ggmlType is an element type of GGUF files. Either dense is set, and values
// are stored one after the other as safetensors would, or pack is, and rows are
// made of blocks.
type ggmlType struct {
	name  string
	block int   // elements in a block
	bytes int64 // bytes of a block
	dense Dtype
	pack  *packing
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
	6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K",
	15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
	22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
	34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
}

func ggmlTypeOf(id uint32) (*ggmlType, error) {
	if t, ok := ggmlTypes[id]; ok {
		return t, nil
	}
	if name, ok := ggmlNames[id]; ok {
		return nil, fmt.Errorf("type %s is not supported (F32, F16, BF16, Q4_0, Q4_1 and Q8_0 are)", name)
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

// toFloat16 narrows x and says whether the float16 has the same value.
func toFloat16(x float32) (h uint16, exact bool) {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	exponent, fraction := int(b>>23&0xff)-127+15, b&0x7fffff
	switch {
	case b&0x7fffffff == 0:
		return sign, true
	case exponent > 30: // beyond the range, infinity or NaN
		return 0, false
	case exponent > 0:
		return sign | uint16(exponent)<<10 | uint16(fraction>>13), fraction&0x1fff == 0
	case exponent < -9: // below the smallest subnormal
		return 0, false
	}
	shift := 14 - exponent
	fraction |= 1 << 23
	return sign | uint16(fraction>>shift), fraction&(1<<shift-1) == 0
}

// toBFloat16 is toFloat16 for the upper half of a float32.
func toBFloat16(x float32) (h uint16, exact bool) {
	b := math.Float32bits(x)
	return uint16(b >> 16), b&0xffff == 0 && x-x == 0
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
