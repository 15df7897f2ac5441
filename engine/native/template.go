package native

// #include "harmonyd_native.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"time"
	"unsafe"
)

// Template is a compiled chat template. Its methods may be called from any
// number of goroutines at once.
type Template struct {
	handle
	now func() time.Time
}

// TemplateOptions are what a template sees besides the context. A token that
// the model does not have is empty.
type TemplateOptions struct {
	BOS, EOS, PAD, UNK string
	// Now is the clock of strftime_now; nil is time.Now.
	Now func() time.Time
}

// TemplateError is why a template did not render.
type TemplateError struct {
	// Raised says that the template itself refused the conversation, by
	// raise_exception; Message is then its own.
	Raised  bool
	Message string
}

func (e *TemplateError) Error() string { return "chat template: " + e.Message }

// CompileTemplate compiles a template in the dialect of transformers: Jinja with
// trim_blocks, lstrip_blocks, loop controls and generation blocks, with tojson,
// raise_exception and strftime_now, and with Python's methods of strings, dicts
// and lists. Its error is a *TemplateError. The caller closes the result.
func CompileTemplate(source string, options TemplateOptions) (*Template, error) {
	globals := map[string]string{}
	for name, token := range map[string]string{
		"bos_token": options.BOS, "eos_token": options.EOS,
		"pad_token": options.PAD, "unk_token": options.UNK,
	} {
		if token != "" {
			globals[name] = token
		}
	}
	encoded, err := json.Marshal(globals)
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	var out *C.hd_template
	var message C.hd_bytes
	status := C.hd_template_new(viewString(source), viewBytes(encoded), &out, &message)
	if status != C.HD_OK {
		return nil, &TemplateError{Message: failed(status, message).Error()}
	}
	t := &Template{now: options.Now}
	if t.now == nil {
		t.now = time.Now
	}
	t.open("chat template", unsafe.Pointer(out), func(p unsafe.Pointer) {
		C.hd_template_free((*C.hd_template)(p))
	})
	return t, nil
}

// Render returns the prompt for a context, a JSON object: messages, tools,
// documents, add_generation_prompt and whatever else the template reads. The
// order of its keys is kept. tools and documents are None unless it has them,
// and a message's reasoning is found under each of the names that templates
// read. The error is a *TemplateError, or ErrClosed. Work and output are
// bounded: 2,000,000 steps or 64-byte pieces, and 8 MiB. Now is the time that
// strftime_now shows; zero is the present.
func (t *Template) Render(context []byte, now time.Time) (string, error) {
	p, err := t.borrow()
	if err != nil {
		return "", err
	}
	defer t.mu.RUnlock()
	at := now
	if at.IsZero() {
		at = t.now()
	}
	_, offset := at.Zone()
	shown := C.hd_now{
		year: C.int32_t(at.Year()), month: C.int32_t(at.Month()), day: C.int32_t(at.Day()),
		hour: C.int32_t(at.Hour()), minute: C.int32_t(at.Minute()), second: C.int32_t(at.Second()),
		weekday: C.int32_t(at.Weekday()), yearday: C.int32_t(at.YearDay()),
		offset: C.int32_t(offset),
	}
	var out, message C.hd_bytes
	status := C.hd_template_render((*C.hd_template)(p), viewBytes(context), &shown, &out, &message)
	if status != C.HD_OK {
		return "", &TemplateError{
			Raised:  status == C.HD_RAISED,
			Message: failed(status, message).Error(),
		}
	}
	return takeString(out), nil
}
