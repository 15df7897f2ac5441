package mlx

// #include "shim.h"
import "C"

// A Stream is a queue of operations on one device. It belongs to the OS thread
// that asked for it. The zero Stream stands for DefaultStream.
type Stream struct {
	c   C.mlx_stream
	gpu bool
}

// CPU returns the calling thread's stream on the processor.
func CPU() Stream { return Stream{c: C.hm_stream(false)} }

// GPU returns the calling thread's stream on the GPU, and whether MLX was built
// for one and found it.
func GPU() (Stream, bool) {
	if !C.hm_gpu_available() {
		return Stream{}, false
	}
	return Stream{C.hm_stream(true), true}, true
}

// DefaultStream returns the GPU's stream when there is one, else the CPU's.
func DefaultStream() Stream {
	if st, ok := GPU(); ok {
		return st
	}
	return CPU()
}

// Synchronize waits until everything dispatched to st has run.
func (st Stream) Synchronize() error {
	if st.c.ctx == nil {
		st = DefaultStream()
	}
	if !C.hm_synchronize(st.c) {
		return lastError("synchronize")
	}
	return nil
}

// Device describes the device that st runs on.
func (st Stream) Device() Device {
	if st.c.ctx == nil {
		st = DefaultStream()
	}
	gpu := C.bool(st.gpu)
	return Device{
		GPU:    st.gpu,
		Name:   C.GoString(C.hm_device_name(gpu)),
		Memory: int64(C.hm_device_memory(gpu)),
	}
}

// A Device is what MLX says of a device.
type Device struct {
	GPU    bool
	Name   string // "" when the backend does not tell
	Memory int64  // bytes usable for arrays, 0 when the backend does not tell
}

// Version returns the version of the MLX library that is loaded, such as
// "0.32.2".
func Version() string {
	var buf [64]C.char
	C.hm_version(&buf[0], C.size_t(len(buf)))
	return C.GoString(&buf[0])
}
