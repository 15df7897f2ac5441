package weights

// A Dtype is the element type of a stored tensor, spelled as safetensors
// spells it.
type Dtype string

// The element types of the safetensors format. Whether the engine can compute
// with one is the engine's business.
const (
	Bool       Dtype = "BOOL"
	F4         Dtype = "F4"
	F6E2M3     Dtype = "F6_E2M3"
	F6E3M2     Dtype = "F6_E3M2"
	U8         Dtype = "U8"
	I8         Dtype = "I8"
	F8E5M2     Dtype = "F8_E5M2"
	F8E4M3     Dtype = "F8_E4M3"
	F8E8M0     Dtype = "F8_E8M0"
	F8E4M3FNUZ Dtype = "F8_E4M3FNUZ"
	F8E5M2FNUZ Dtype = "F8_E5M2FNUZ"
	I16        Dtype = "I16"
	U16        Dtype = "U16"
	F16        Dtype = "F16"
	BF16       Dtype = "BF16"
	I32        Dtype = "I32"
	U32        Dtype = "U32"
	F32        Dtype = "F32"
	C64        Dtype = "C64"
	F64        Dtype = "F64"
	I64        Dtype = "I64"
	U64        Dtype = "U64"
)

// dtypes holds every known type with its width in bits, in the order of the
// Rust crate's enum: files are laid out in descending order of it, which puts
// the widest elements first and so keeps every tensor aligned.
var dtypes = []struct {
	dtype Dtype
	bits  int
}{
	{Bool, 8}, {F4, 4}, {F6E2M3, 6}, {F6E3M2, 6}, {U8, 8}, {I8, 8}, {F8E5M2, 8}, {F8E4M3, 8},
	{F8E8M0, 8}, {F8E4M3FNUZ, 8}, {F8E5M2FNUZ, 8}, {I16, 16}, {U16, 16}, {F16, 16}, {BF16, 16},
	{I32, 32}, {U32, 32}, {F32, 32}, {C64, 64}, {F64, 64}, {I64, 64}, {U64, 64},
}

// rank returns the place of d in the layout order, or -1 when d is unknown.
func (d Dtype) rank() int {
	for i := range dtypes {
		if dtypes[i].dtype == d {
			return i
		}
	}
	return -1
}

// Bits returns the width of one element in bits, or 0 for an unknown type.
func (d Dtype) Bits() int {
	if i := d.rank(); i >= 0 {
		return dtypes[i].bits
	}
	return 0
}
