package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"

	"harmonyd/engine/mlx"
)

// The conversions of a load: from how a checkpoint stores weights to how the
// device wants them. All run on goroutines of the load, over memory outside the
// Go heap, little-endian as safetensors has it.

// convertFloats writes src, elements of one float type, to dst as another.
func convertFloats(dst []byte, to mlx.Dtype, src []byte, from mlx.Dtype) error {
	n := len(src) / from.Size()
	if len(dst) != n*to.Size() {
		return fmt.Errorf("convert %v to %v: %d bytes into %d", from, to, len(src), len(dst))
	}
	if from == to {
		copy(dst, src)
		return nil
	}
	load, ok := loaders[from]
	store, ok2 := storers[to]
	if !ok || !ok2 {
		return fmt.Errorf("convert %v to %v: not supported", from, to)
	}
	parallel(n, func(lo, hi int) {
		// What a load on a CPU does most has loops of its own, several times as
		// fast as calls of two functions.
		switch {
		case to == mlx.Float32 && from == mlx.Float16:
			for i := lo; i < hi; i++ {
				putF32(dst, i, halves[u16(src, i)])
			}
		case to == mlx.Float32 && from == mlx.BFloat16:
			for i := lo; i < hi; i++ {
				binary.LittleEndian.PutUint32(dst[4*i:4*i+4], uint32(u16(src, i))<<16)
			}
		default:
			for i := lo; i < hi; i++ {
				store(dst, i, load(src, i))
			}
		}
	})
	return nil
}

var loaders = map[mlx.Dtype]func(b []byte, i int) float32{
	mlx.Float32:  func(b []byte, i int) float32 { return math.Float32frombits(u32(b, i)) },
	mlx.Float16:  func(b []byte, i int) float32 { return halves[u16(b, i)] },
	mlx.BFloat16: func(b []byte, i int) float32 { return math.Float32frombits(uint32(u16(b, i)) << 16) },
}

var storers = map[mlx.Dtype]func(b []byte, i int, v float32){
	mlx.Float32: putF32,
	mlx.Float16: func(b []byte, i int, v float32) {
		binary.LittleEndian.PutUint16(b[2*i:], toHalf(v))
	},
	mlx.BFloat16: func(b []byte, i int, v float32) {
		binary.LittleEndian.PutUint16(b[2*i:], toBrain(v))
	},
}

func u16(b []byte, i int) uint16 { return binary.LittleEndian.Uint16(b[2*i : 2*i+2]) }
func u32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[4*i : 4*i+4]) }

func putF32(b []byte, i int, v float32) {
	binary.LittleEndian.PutUint32(b[4*i:4*i+4], math.Float32bits(v))
}

// halves holds the value of every float16: a table is several times as fast as
// taking one apart.
var halves = func() *[1 << 16]float32 {
	t := new([1 << 16]float32)
	for i := range t {
		sign, exp, frac := i>>15, i>>10&31, i&1023
		v := math.Ldexp(float64(frac), -24)
		switch {
		case exp == 31 && frac == 0:
			v = math.Inf(1)
		case exp == 31:
			v = math.NaN()
		case exp > 0:
			v = math.Ldexp(1+float64(frac)/1024, exp-15)
		}
		if sign == 1 {
			v = -v
		}
		t[i] = float32(v)
	}
	return t
}()

// toHalf rounds to the nearest float16, ties to even; what is too large becomes
// infinite.
func toHalf(v float32) uint16 {
	b := math.Float32bits(v)
	sign, exp, frac := uint16(b>>16&0x8000), int(b>>23&255)-127+15, b&0x7fffff
	switch {
	case exp == 255-127+15 && frac != 0:
		return sign | 0x7e00
	case exp >= 31:
		return sign | 0x7c00
	case exp <= 0: // subnormal: the implicit one becomes explicit
		if exp < -10 {
			return sign
		}
		return sign | roundShift(frac|0x800000, 14-exp)
	}
	// A carry out of the fraction moves into the exponent, which is right.
	return sign | (uint16(exp<<10) + roundShift(frac, 13))
}

// roundShift shifts right by n and rounds to the nearest, ties to even.
func roundShift(v uint32, n int) uint16 {
	half, low := uint32(1)<<(n-1), v&(1<<n-1)
	r := v >> n
	if low > half || low == half && r&1 == 1 {
		r++
	}
	return uint16(r)
}

// toBrain rounds to the nearest bfloat16, ties to even.
func toBrain(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// unpackAffine writes the weight that words, scales and biases describe to dst as
// float32: scale*q + bias, as mx.dequantize computes it. A word holds 32 bits of
// the row, lowest first, bits to an element.
func unpackAffine(dst, words, scales, biases []byte, scaleType mlx.Dtype, group, bits int) {
	load := loaders[scaleType]
	step := group * bits / 8 // bytes of a group, whole for every packing of MLX
	parallel(len(scales)/scaleType.Size(), func(lo, hi int) {
		for g := lo; g < hi; g++ {
			scale, bias := load(scales, g), load(biases, g)
			unpackGroup(dst[4*group*g:4*group*(g+1)], words[step*g:step*(g+1)], scale, bias, bits)
		}
	})
}

func unpackGroup(dst, packed []byte, scale, bias float32, bits int) {
	switch bits {
	case 8:
		for i := 0; i+1 < len(packed); i += 2 { // two at a time: half the stores
			a := math.Float32bits(scale*float32(packed[i]) + bias)
			b := math.Float32bits(scale*float32(packed[i+1]) + bias)
			binary.LittleEndian.PutUint64(dst[4*i:4*i+8], uint64(a)|uint64(b)<<32)
		}
	case 4:
		var values [16]uint32
		for q := range values {
			values[q] = math.Float32bits(scale*float32(q) + bias)
		}
		for i, q := range packed {
			d := dst[8*i : 8*i+8]
			binary.LittleEndian.PutUint64(d, uint64(values[q&15])|uint64(values[q>>4])<<32)
		}
	default:
		var window uint32
		have, next := 0, 0
		for i := range len(packed) * 8 / bits {
			for have < bits {
				window |= uint32(packed[next]) << have
				have, next = have+8, next+1
			}
			putF32(dst, i, scale*float32(window&(1<<bits-1))+bias)
			window, have = window>>bits, have-bits
		}
	}
}

// parallel runs fn over [0, n) in as many parts as a load may use of the
// machine: two tensors are under way at a time.
func parallel(n int, fn func(lo, hi int)) {
	const small = 1 << 12
	parts := max(1, min(runtime.GOMAXPROCS(0)/loadWorkers, n/small))
	var wait sync.WaitGroup
	for p := 1; p < parts; p++ {
		wait.Go(func() { fn(n*p/parts, n*(p+1)/parts) })
	}
	fn(0, n/parts)
	wait.Wait()
}
