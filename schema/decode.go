package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// maxFieldErrors bounds the places that one error names.
const maxFieldErrors = 16

// Decode reads params of a request into the value that v points to. Data is
// one JSON value that Scan has found sound.
//
// It differs from encoding/json where that would guess: a member's name is
// matched exactly, case included; a number must be in the range that stands
// next to its field and an integer must be one; a member without omitempty or
// omitzero must be there. Members that the type does not have are ignored at
// every depth, and null counts as absent, since LSP clients send it so. The
// error is an invalid_params *Error that names every place, up to 16.
//
// Decode does not keep data: what v holds is copied out of it.
func Decode(data []byte, v any) error {
	d := decoder{data: data}
	d.into(reflect.ValueOf(v).Elem())
	if len(d.errs) == 0 {
		return nil
	}
	return InvalidParams(d.errs...)
}

// A wireForm is a type with a form on the wire that its Go kind does not tell.
type wireForm interface{ wire(*decoder) }

// ruled is a type with rules between its members. It returns the first that is
// broken.
type ruled interface{ broken() string }

// decoder walks sound JSON once, from left to right. After a failure it skips
// the value that failed and goes on, so that one answer names all places.
type decoder struct {
	data []byte
	pos  int
	path []byte // JSON Pointer of the current value
	errs []FieldError
	// maxItems bounds the array that is decoded next; 0 is none.
	maxItems int
}

// fail notes a problem of the current value.
func (d *decoder) fail(format string, args ...any) {
	if len(d.errs) < maxFieldErrors {
		d.errs = append(d.errs, FieldError{InstancePath: string(d.path), Message: fmt.Sprintf(format, args...)})
	}
}

// peek returns the first byte of the next value or mark, 0 at the end.
func (d *decoder) peek() byte {
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; c {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return c
		}
	}
	return 0
}

// accept moves past the mark c where it is next.
func (d *decoder) accept(c byte) bool {
	if d.peek() != c {
		return false
	}
	d.pos++
	return true
}

// skip moves past the next value and returns its bytes.
func (d *decoder) skip() []byte {
	d.peek()
	start := d.pos
	d.pos += valueLen(d.data[start:])
	return d.data[start:d.pos]
}

// text reads the next value, which is a string.
func (d *decoder) text() string { return Unquote(d.skip()) }

// value decodes the next value into what ptr points to. Want names the forms
// that are allowed, where the Go type alone would name one of them only.
func (d *decoder) value(ptr any, want string) {
	v := reflect.ValueOf(ptr).Elem()
	fits := map[reflect.Kind]byte{reflect.Struct: '{', reflect.Slice: '['}[v.Kind()]
	if d.peek() != fits {
		d.fail("got %s, want %s", d.describe(), want)
		d.skip()
		return
	}
	d.plain(v)
}

// describe names the type of the next value.
func (d *decoder) describe() string {
	switch d.peek() {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// expect skips the next value with an error unless it begins with one of the
// bytes of first.
func (d *decoder) expect(first, want string) bool {
	c := d.peek()
	if c == '-' || c >= '0' && c <= '9' {
		c = '0'
	}
	if c != 0 && bytes.IndexByte([]byte(first), c) >= 0 {
		return true
	}
	d.fail("got %s, want %s", d.describe(), want)
	d.skip()
	return false
}

// into decodes the next value into v.
func (d *decoder) into(v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		d.into(v.Elem())
		return
	}
	if raw, ok := v.Addr().Interface().(*json.RawMessage); ok {
		*raw = bytes.Clone(d.skip())
		return
	}
	if w, ok := v.Addr().Interface().(wireForm); ok {
		w.wire(d)
		return
	}
	d.plain(v)
}

// plain decodes the next value into v by its Go kind alone.
func (d *decoder) plain(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if d.expect("{", "an object") {
			d.object(v)
		}
	case reflect.Slice:
		if d.expect("[", "an array") {
			d.array(v)
		}
	case reflect.String:
		if d.expect(`"`, "a string") {
			v.SetString(d.text())
		}
	case reflect.Bool:
		if d.expect("tf", "a boolean") {
			v.SetBool(d.skip()[0] == 't')
		}
	case reflect.Int, reflect.Int64:
		if d.expect("0", "an integer") {
			d.integer(v)
		}
	case reflect.Float64:
		if d.expect("0", "a number") {
			f, err := strconv.ParseFloat(string(d.skip()), 64)
			if err != nil {
				d.fail("the number is out of range")
			}
			v.SetFloat(f)
		}
	default:
		panic("schema: no wire form for " + v.Type().String())
	}
}

// integer also takes 5.0 and 5e0, which are integers to JSON Schema and which
// clients write whose numbers are all floating-point.
func (d *decoder) integer(v reflect.Value) {
	text := string(d.skip())
	i, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			d.fail("got %s, want an integer", clip(text))
			return
		}
		i = int64(f)
	}
	if v.OverflowInt(i) {
		d.fail("got %s, want an integer of %d bits", clip(text), v.Type().Bits())
		return
	}
	v.SetInt(i)
}

func (d *decoder) array(v reflect.Value) {
	d.accept('[')
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	limit, n := d.maxItems, 0
	d.maxItems = 0 // that of the elements is their own
	outer := len(d.path)
	for ; !d.accept(']') && d.pos < len(d.data); n++ {
		if len(d.errs) >= maxFieldErrors || limit > 0 && n >= limit {
			// What is wrong already needs no memory: in Go an element can be 60 times
			// what it is in JSON.
			d.skip()
			d.accept(',')
			continue
		}
		d.path = strconv.AppendInt(append(d.path, '/'), int64(n), 10)
		// Append by one element keeps memory in step with what was sent.
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		d.into(v.Index(n))
		d.path = d.path[:outer]
		d.accept(',')
	}
	if limit > 0 && n > limit {
		d.fail("got %d elements, want at most %d", n, limit)
	}
}

func (d *decoder) object(v reflect.Value) {
	d.accept('{')
	fields := fieldsOf(v.Type())
	var seen uint64
	outer, before := len(d.path), len(d.errs)
	for !d.accept('}') && d.pos < len(d.data) {
		name := d.skip()
		d.accept(':')
		i := find(fields, name)
		if i < 0 || d.peek() == 'n' {
			d.skip()
			d.accept(',')
			continue
		}
		seen |= 1 << i
		d.path = append(append(d.path, '/'), fields[i].name...)
		d.member(v, &fields[i])
		d.path = d.path[:outer]
		d.accept(',')
	}
	for i := range fields {
		if fields[i].required && seen&(1<<i) == 0 {
			d.path = append(append(d.path, '/'), fields[i].name...)
			d.fail("missing")
			d.path = d.path[:outer]
		}
	}
	if r, ok := v.Addr().Interface().(ruled); ok && len(d.errs) == before {
		if problem := r.broken(); problem != "" {
			d.fail("%s", problem)
		}
	}
}

// member decodes one member and checks it against the rules of its field, which
// are those of each element too where the value is a list of strings. An array
// counts its elements itself.
func (d *decoder) member(object reflect.Value, f *field) {
	v := object.Field(f.index)
	before := len(d.errs)
	d.maxItems = f.rules.maxItems
	d.into(v)
	if len(d.errs) > before || len(d.errs) == maxFieldErrors {
		return
	}
	v = reflect.Indirect(v)
	if problem := f.rules.check(v); problem != "" {
		d.fail("%s", problem)
	}
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.String {
		return
	}
	outer := len(d.path)
	for i := range v.Len() {
		if problem := f.rules.check(v.Index(i)); problem != "" {
			d.path = strconv.AppendInt(append(d.path, '/'), int64(i), 10)
			d.fail("%s", problem)
			d.path = d.path[:outer]
		}
	}
}

// find returns the index of the field that a quoted name names, or -1.
func find(fields []field, quoted []byte) int {
	if len(quoted) < 2 {
		return -1
	}
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(Unquote(quoted))
	}
	for i := range fields {
		if string(name) == fields[i].name {
			return i
		}
	}
	return -1
}

// clip shortens text from outside for use in a message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
