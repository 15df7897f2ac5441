package weights

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// The value types of GGUF metadata.
const (
	ggufUint8 = iota
	ggufInt8
	ggufUint16
	ggufInt16
	ggufUint32
	ggufInt32
	ggufFloat32
	ggufBool
	ggufString
	ggufArray
	ggufUint64
	ggufInt64
	ggufFloat64
)

// ggufWidths holds the bytes of each fixed-size value type.
var ggufWidths = map[uint32]int64{
	ggufUint8: 1, ggufInt8: 1, ggufUint16: 2, ggufInt16: 2, ggufUint32: 4, ggufInt32: 4,
	ggufFloat32: 4, ggufBool: 1, ggufUint64: 8, ggufInt64: 8, ggufFloat64: 8,
}

// smallInts stands for an array of 8-bit or 16-bit integers. No importer reads one,
// and as a slice of int64 it would take eight times its size.
type smallInts struct{}

// value reads a value: an int64, uint64 (only above the range of int64),
// float64, bool or string, a slice of int64, float64, bool or string, or
// smallInts.
func (r *ggufReader) value(kind uint32) (any, error) {
	if kind != ggufArray {
		return r.scalar(kind)
	}
	kind, err := r.u32()
	if err != nil {
		return nil, err
	}
	least, ok := ggufWidths[kind]
	switch {
	case kind == ggufString:
		least = 8
	case kind == ggufArray:
		return nil, r.bad("is an array of arrays, which is not supported")
	case !ok:
		return nil, r.bad("is an array of the unknown type %d", kind)
	}
	n, err := r.count(maxGGUFElements-r.elements, least)
	if err != nil {
		return nil, err
	}
	r.elements += n
	return r.array(kind, n)
}

// array reads n values of one type. The slices are typed, because a vocabulary as
// []any would take four times its size.
func (r *ggufReader) array(kind uint32, n int64) (any, error) {
	switch kind {
	case ggufString:
		return readArray(r, n, func() (string, error) { return r.str(maxGGUFString) })
	case ggufFloat32, ggufFloat64:
		return readArray(r, n, func() (float64, error) { return r.float(kind) })
	case ggufBool:
		return readArray(r, n, r.bool)
	case ggufUint8, ggufInt8, ggufUint16, ggufInt16:
		return smallInts{}, r.skip(n * ggufWidths[kind])
	}
	return readArray(r, n, func() (int64, error) {
		u, err := r.integer(kind)
		if err == nil && kind == ggufUint64 && u < 0 {
			err = r.bad("element %d is out of range", uint64(u))
		}
		return u, err
	})
}

// readArray reads n values with next. A header may claim more of them than it
// holds, so room for many is made only as they arrive.
func readArray[T any](r *ggufReader, n int64, next func() (T, error)) ([]T, error) {
	list := make([]T, 0, min(n, 1<<12))
	for range n {
		v, err := next()
		if err != nil {
			return nil, err
		}
		if len(list) == cap(list) {
			list = slices.Grow(list, int(min(n-int64(len(list)), int64(len(list)))))
		}
		list = append(list, v)
	}
	return list, nil
}

// scalar reads one value that is not an array.
func (r *ggufReader) scalar(kind uint32) (any, error) {
	switch kind {
	case ggufString:
		return r.str(maxGGUFString)
	case ggufFloat32, ggufFloat64:
		return r.float(kind)
	case ggufBool:
		return r.bool()
	}
	if _, ok := ggufWidths[kind]; !ok {
		return nil, r.bad("has the unknown type %d", kind)
	}
	n, err := r.integer(kind)
	if kind == ggufUint64 && n < 0 {
		return uint64(n), err
	}
	return n, err
}

// raw reads the bits of a value of a fixed size.
func (r *ggufReader) raw(kind uint32) (uint64, error) {
	p, err := r.fixed(ggufWidths[kind])
	if err != nil {
		return 0, err
	}
	var raw [8]byte
	copy(raw[:], p)
	return binary.LittleEndian.Uint64(raw[:]), nil
}

// integer reads an integer of any width, a uint64 as the int64 of the same bits.
func (r *ggufReader) integer(kind uint32) (int64, error) {
	u, err := r.raw(kind)
	switch kind {
	case ggufInt8:
		return int64(int8(u)), err
	case ggufInt16:
		return int64(int16(u)), err
	case ggufInt32:
		return int64(int32(u)), err
	}
	return int64(u), err
}

func (r *ggufReader) float(kind uint32) (float64, error) {
	u, err := r.raw(kind)
	if kind == ggufFloat32 {
		return float64(math.Float32frombits(uint32(u))), err
	}
	return math.Float64frombits(u), err
}

func (r *ggufReader) bool() (bool, error) {
	u, err := r.raw(ggufBool)
	if err == nil && u > 1 {
		err = r.bad("bool is %d", u)
	}
	return u == 1, err
}

// badKey makes the error for a key with a value that cannot be used.
func (g *GGUF) badKey(key, format string, args ...any) error {
	return &FormatError{File: g.name, Field: "key " + quote(key), Reason: fmt.Sprintf(format, args...)}
}

// value finds the value of a key.
func (g *GGUF) value(key string) (any, bool) {
	i, ok := slices.BinarySearchFunc(g.values, key, func(v ggufValue, key string) int { return cmp.Compare(v.key, key) })
	if !ok {
		return nil, false
	}
	return g.values[i].value, true
}

// lookup returns the value of a key as a T. The bool says whether it is there.
func lookup[T any](g *GGUF, key, want string) (T, bool, error) {
	value, ok := g.value(key)
	if !ok {
		return *new(T), false, nil
	}
	t, ok := value.(T)
	if !ok {
		return t, false, g.badKey(key, "is %s, want %s", describe(value), want)
	}
	return t, true, nil
}

// describe names the type of a metadata value for a message.
func describe(value any) string {
	switch v := value.(type) {
	case string:
		return "a string"
	case bool:
		return "a bool"
	case float64:
		return "a float"
	case int64, uint64:
		return fmt.Sprintf("the integer %d", v)
	}
	return "an array"
}

// natural returns an integer of any width that is at least 0.
func (g *GGUF) natural(key string) (int64, bool, error) {
	n, ok, err := lookup[int64](g, key, "an integer below 2^63")
	if err == nil && n < 0 {
		return 0, false, g.badKey(key, "is %d, want at least 0", n)
	}
	return n, ok, err
}

// size returns an integer that must be there and from 1 to what MLX can index.
func (g *GGUF) size(key string) (int, error) {
	n, ok, err := g.natural(key)
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, g.badKey(key, "is missing")
	case n < 1 || n > maxDim:
		return 0, g.badKey(key, "is %d, want 1 to %d", n, maxDim)
	}
	return int(n), nil
}

// sizeOr is size with a default.
func (g *GGUF) sizeOr(key string, absent int) (int, error) {
	if _, ok := g.value(key); !ok {
		return absent, nil
	}
	return g.size(key)
}

// positive returns a float greater than 0 that is in the range of a float32, or
// absent if it is not there.
func (g *GGUF) positive(key string, absent float64) (float64, error) {
	x, ok, err := lookup[float64](g, key, "a float")
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return absent, nil
	case !(float32(x) > 0) || math.IsInf(float64(float32(x)), 0):
		return 0, g.badKey(key, "is %g, want a positive float32", x)
	}
	return x, nil
}

func (g *GGUF) str(key string) (string, bool, error) { return lookup[string](g, key, "a string") }

func (g *GGUF) boolOr(key string, absent bool) (bool, error) {
	b, ok, err := lookup[bool](g, key, "a bool")
	if err != nil || !ok {
		return absent, err
	}
	return b, nil
}
