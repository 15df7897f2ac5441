package native

/*
#include "harmonyd_native.h"

#cgo noescape hd_tokenizer_encode
#cgo nocallback hd_tokenizer_encode
#cgo noescape hd_tokenizer_decode
#cgo nocallback hd_tokenizer_decode
#cgo noescape hd_tokenizer_id
#cgo nocallback hd_tokenizer_id
#cgo noescape hd_matcher_mask
#cgo nocallback hd_matcher_mask
#cgo noescape hd_matcher_consume
#cgo nocallback hd_matcher_consume
#cgo noescape hd_matcher_forced
#cgo nocallback hd_matcher_forced
#cgo noescape hd_matcher_accepting
#cgo nocallback hd_matcher_accepting
#cgo nocallback hd_matcher_stopped
#cgo nocallback hd_ids_free
#cgo nocallback hd_bytes_free
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"
)

// ErrClosed is the cause of the error that a closed value returns.
var ErrClosed = errors.New("closed")

// Live returns the number of handles that are open: tokenizers, templates,
// grammar tokenizers, grammars and matchers. A test that leaves it other than
// it found it leaks.
func Live() int { return int(live.Load()) }

var live atomic.Int64

// A handle owns one Rust object. Readers share it; Close waits for them, so that
// no call ever meets a freed object.
type handle struct {
	mu   sync.RWMutex
	ptr  unsafe.Pointer // nil once closed
	free func(unsafe.Pointer)
	what string
}

func (h *handle) open(what string, ptr unsafe.Pointer, free func(unsafe.Pointer)) {
	h.what, h.ptr, h.free = what, ptr, free
	live.Add(1)
}

// Close frees the value. It waits for calls that are under way, and may be
// called more than once.
func (h *handle) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ptr == nil {
		return
	}
	h.free(h.ptr)
	h.ptr = nil
	live.Add(-1)
}

// borrow returns the object and holds off Close until mu.RUnlock.
func (h *handle) borrow() (unsafe.Pointer, error) {
	h.mu.RLock()
	if h.ptr == nil {
		h.mu.RUnlock()
		return nil, fmt.Errorf("%s: %w", h.what, ErrClosed)
	}
	return h.ptr, nil
}

// seize returns the object for one caller alone until mu.Unlock.
func (h *handle) seize() (unsafe.Pointer, error) {
	h.mu.Lock()
	if h.ptr == nil {
		h.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", h.what, ErrClosed)
	}
	return h.ptr, nil
}

// failed turns a status and its message into an error, and frees the message.
func failed(status C.int32_t, message C.hd_bytes) error {
	text := takeString(message)
	if status == C.HD_PANICKED {
		return fmt.Errorf("internal error in the Rust library: %s", text)
	}
	return errors.New(text)
}

// takeString copies bytes that Rust allocated and frees them.
func takeString(b C.hd_bytes) string {
	s := string(unsafe.Slice((*byte)(b.ptr), int(b.len)))
	C.hd_bytes_free(b)
	return s
}

// appendIDs appends ids that Rust allocated to dst and frees them.
func appendIDs(dst []int32, ids C.hd_ids) []int32 {
	dst = append(dst, unsafe.Slice((*int32)(unsafe.Pointer(ids.ptr)), int(ids.len))...)
	C.hd_ids_free(ids)
	return dst
}

func viewBytes(b []byte) C.hd_view {
	return C.hd_view{ptr: (*C.uint8_t)(unsafe.SliceData(b)), len: C.size_t(len(b))}
}

func viewString(s string) C.hd_view {
	return C.hd_view{ptr: (*C.uint8_t)(unsafe.StringData(s)), len: C.size_t(len(s))}
}
