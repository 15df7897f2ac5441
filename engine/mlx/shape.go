package mlx

// #include "shim.h"
// #cgo noescape hm_reshape
// #cgo nocallback hm_reshape
// #cgo noescape hm_broadcast_to
// #cgo nocallback hm_broadcast_to
// #cgo noescape hm_transpose
// #cgo nocallback hm_transpose
// #cgo noescape hm_concatenate
// #cgo nocallback hm_concatenate
// #cgo noescape hm_split
// #cgo nocallback hm_split
// #cgo noescape hm_repeat
// #cgo nocallback hm_repeat
// #cgo noescape hm_contiguous
// #cgo nocallback hm_contiguous
// #cgo noescape hm_astype
// #cgo nocallback hm_astype
// #cgo noescape hm_view
// #cgo nocallback hm_view
// #cgo noescape hm_slice
// #cgo nocallback hm_slice
// #cgo noescape hm_slice_axis
// #cgo nocallback hm_slice_axis
// #cgo noescape hm_slice_update
// #cgo nocallback hm_slice_update
// #cgo noescape hm_slice_update_axis
// #cgo nocallback hm_slice_update_axis
// #cgo noescape hm_take
// #cgo nocallback hm_take
// #cgo noescape hm_take_along_axis
// #cgo nocallback hm_take_along_axis
// #cgo noescape hm_put_along_axis
// #cgo nocallback hm_put_along_axis
// #cgo noescape hm_add_along_axis
// #cgo nocallback hm_add_along_axis
import "C"

// Reshape returns a with another shape of the same size; one size may be -1 and
// is then computed.
func (s *Scope) Reshape(a Array, shape ...int) Array {
	return s.made(C.hm_reshape(s.ptr(), a.use(), dims(shape)))
}

// BroadcastTo repeats axes of size 1, without copying, up to shape.
func (s *Scope) BroadcastTo(a Array, shape ...int) Array {
	return s.made(C.hm_broadcast_to(s.ptr(), a.use(), dims(shape)))
}

// Transpose reorders the axes: result axis i is axis axes[i] of a. Without axes it
// reverses them.
func (s *Scope) Transpose(a Array, axes ...int) Array {
	return s.made(C.hm_transpose(s.ptr(), a.use(), dims(axes)))
}

// ExpandDims inserts an axis of size 1 at axis.
func (s *Scope) ExpandDims(a Array, axis int) Array { return s.byAxis(C.HM_OP_EXPAND_DIMS, a, axis) }

// Squeeze removes the axis, which must have size 1.
func (s *Scope) Squeeze(a Array, axis int) Array { return s.byAxis(C.HM_OP_SQUEEZE, a, axis) }

// Concatenate joins arrays along an existing axis.
func (s *Scope) Concatenate(axis int, a ...Array) Array {
	return s.made(C.hm_concatenate(s.ptr(), s.pass(a), C.longlong(axis)))
}

// Split cuts an axis into len(dst) equal parts and stores them in dst. After an
// error dst holds zero Arrays.
func (s *Scope) Split(dst []Array, a Array, axis int) {
	if !C.hm_split(s.ptr(), a.use(), C.size_t(len(dst)), C.longlong(axis)) {
		clear(dst)
		return
	}
	args := s.args(len(dst))
	for i := range dst {
		dst[i] = s.made(args[i])
	}
}

// Repeat repeats each element of an axis n times in place: [a b] becomes [a a b b].
func (s *Scope) Repeat(a Array, n, axis int) Array {
	return s.made(C.hm_repeat(s.ptr(), a.use(), C.longlong(n), C.longlong(axis)))
}

// Contiguous returns a with its elements in row order, a itself when they are.
func (s *Scope) Contiguous(a Array) Array { return s.made(C.hm_contiguous(s.ptr(), a.use())) }

// AsType converts the elements to d.
func (s *Scope) AsType(a Array, d Dtype) Array {
	return s.made(C.hm_astype(s.ptr(), a.use(), C.int(d)))
}

// View reinterprets the bytes as elements of d; the last axis grows or shrinks by
// the ratio of the sizes.
func (s *Scope) View(a Array, d Dtype) Array {
	return s.made(C.hm_view(s.ptr(), a.use(), C.int(d)))
}

// Slice returns elements start[i] to stop[i], exclusive, of each axis i. Negative
// bounds count from the end; bounds outside the axis are an error.
func (s *Scope) Slice(a Array, start, stop []int) Array {
	return s.made(C.hm_slice(s.ptr(), a.use(), dims(start), dims(stop)))
}

// SliceAxis is Slice of one axis.
func (s *Scope) SliceAxis(a Array, axis, start, stop int) Array {
	return s.made(C.hm_slice_axis(s.ptr(), a.use(), C.longlong(axis), C.longlong(start),
		C.longlong(stop)))
}

// SliceUpdate returns a with the slice replaced by update, whose shape must be the
// slice's. It works in place when nothing else holds a.
func (s *Scope) SliceUpdate(a, update Array, start, stop []int) Array {
	return s.made(C.hm_slice_update(s.ptr(), a.use(), update.use(), dims(start), dims(stop)))
}

// SliceUpdateAxis replaces update.Dim(axis) elements of an axis from start on. The
// other axes of update must be those of a.
func (s *Scope) SliceUpdateAxis(a, update Array, axis, start int) Array {
	return s.made(C.hm_slice_update_axis(s.ptr(), a.use(), update.use(), C.longlong(axis),
		C.longlong(start)))
}

// Take replaces the axis by the shape of indices: an embedding's rows by token
// ids. The indices must be in range; nothing checks them.
func (s *Scope) Take(a, indices Array, axis int) Array {
	return s.made(C.hm_take(s.ptr(), a.use(), indices.use(), C.longlong(axis)))
}

// TakeAlongAxis picks, at each place of indices, the element of that axis. The
// indices must be in range; nothing checks them.
func (s *Scope) TakeAlongAxis(a, indices Array, axis int) Array {
	return s.made(C.hm_take_along_axis(s.ptr(), a.use(), indices.use(), C.longlong(axis)))
}

// PutAlongAxis returns a with the elements that indices names along an axis
// replaced by values. The indices must be in range; nothing checks them.
func (s *Scope) PutAlongAxis(a, indices, values Array, axis int) Array {
	return s.made(C.hm_put_along_axis(s.ptr(), a.use(), indices.use(), values.use(),
		C.longlong(axis)))
}

// AddAlongAxis returns a with values added to the elements that indices names
// along an axis; an index that is there twice adds twice. The indices must be in
// range; nothing checks them.
func (s *Scope) AddAlongAxis(a, indices, values Array, axis int) Array {
	return s.made(C.hm_add_along_axis(s.ptr(), a.use(), indices.use(), values.use(),
		C.longlong(axis)))
}
