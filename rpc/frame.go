package rpc

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"harmonyd/schema"
)

// framing is how messages are told apart. It is found once per connection,
// from the first byte that the client sends, and holds for both directions.
type framing int32

const (
	undecided     framing = iota
	contentLength         // LSP: header lines, a blank line, a counted body
	ndjson                // one message a line
)

// firstRead is what is allocated for a body before any of it has come.
const firstRead = 64 << 10

// frames reads message bodies. Whatever a client sends, the memory it needs is
// in proportion to what has really come, and a bad frame does not end the
// connection: the next one is found again.
type frames struct {
	r      *bufio.Reader
	limits schema.Limits
	mode   atomic.Int32 // framing; read by the writer
	// What the calls before have reported and not yet passed over: a problem is
	// answered before the last of its bytes has come.
	discard  int64         // bytes of a body that is too large
	unread   *schema.Error // what is wrong with that body, of which nothing has been seen
	skipLine bool          // the rest of a line that is too long
	resync   bool          // the header is lost; the next Content-Length is a beginning
	// glimpsed is shown how a body begins that is passed over, and why it is.
	glimpsed func(begin []byte, problem *schema.Error)
}

// glimpse is how much is looked at of a body that is passed over: the members before the
// one that is too large.
const glimpse = 4 << 10

func newFrames(r io.Reader, limits schema.Limits) *frames {
	// A full buffer is a line that is too long, so it is found at once.
	return &frames{r: bufio.NewReaderSize(r, limits.MaxHeaderLineBytes+len("\r\n")), limits: limits, glimpsed: func([]byte, *schema.Error) {}}
}

func (f *frames) framing() framing { return framing(f.mode.Load()) }

// next returns the next body. A problem is to be answered (with id null, for
// nothing of the message is known) and is not the end; an error is.
func (f *frames) next() (body []byte, problem *schema.Error, err error) {
	if err := f.settle(); err != nil {
		return nil, nil, err
	}
	if f.framing() == undecided {
		if err := f.detect(); err != nil {
			return nil, nil, err
		}
	}
	if f.framing() == ndjson {
		return f.line()
	}
	return f.counted()
}

// settle passes over what the call before left.
func (f *frames) settle() error {
	if f.unread != nil {
		// At the end of the input, what there is.
		begin, _ := f.r.Peek(int(min(f.discard, glimpse)))
		f.glimpsed(begin, f.unread)
		f.unread = nil
	}
	for f.discard > 0 {
		n, err := f.r.Discard(int(min(f.discard, 1<<30)))
		f.discard -= int64(n)
		if err != nil {
			return err
		}
	}
	for f.skipLine {
		_, err := f.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		f.skipLine = err != nil
	}
	return nil
}

// byteOrderMark is what some editors and shells put before UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// detect looks at the first byte that is not blank. One byte order mark before
// it says nothing.
func (f *frames) detect() error {
	for marked := false; ; {
		seen, err := f.r.Peek(1)
		if err != nil {
			return err
		}
		first := seen[0] // the next Peek may move what this one has shown
		blank := 0
		switch first {
		case ' ', '\t', '\r', '\n':
			blank = 1
		case byteOrderMark[0]:
			// Where fewer bytes come, there is none.
			if three, _ := f.r.Peek(len(byteOrderMark)); !marked && bytes.Equal(three, byteOrderMark) {
				marked, blank = true, len(three)
			}
		}
		if blank == 0 {
			mode := contentLength
			if first == '{' || first == '[' {
				mode = ndjson
			}
			f.mode.Store(int32(mode))
			return nil
		}
		_, _ = f.r.Discard(blank) // which has been seen
	}
}

// line reads a line that is not blank. The last one needs no end.
func (f *frames) line() ([]byte, *schema.Error, error) {
	var body []byte
	for {
		part, err := f.r.ReadSlice('\n')
		body = append(body, part...)
		if f.tooLong(body) {
			f.skipLine = err != nil
			problem := f.tooLarge()
			f.glimpsed(body[:min(len(body), glimpse)], problem)
			return nil, problem, nil
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 {
			return trimmed, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		body = body[:0]
	}
}

// tooLong counts all of a line but its end, and not even a blank less: what is
// not counted is not bounded. A \r at the end of what has come may belong to
// the end.
func (f *frames) tooLong(line []byte) bool {
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	return int64(len(line)) > f.limits.MaxMessageBytes
}

func (f *frames) tooLarge() *schema.Error {
	return schema.Errorf(schema.KindInvalidRequest,
		"the message is larger than %d bytes", f.limits.MaxMessageBytes)
}

// counted reads a header and the body that it announces.
func (f *frames) counted() ([]byte, *schema.Error, error) {
	h, problem, err := f.header()
	if problem != nil || err != nil {
		f.resync = true
		return nil, problem, err
	}
	switch {
	case h.length > f.limits.MaxMessageBytes:
		problem = f.tooLarge()
	case h.charset != "":
		problem = schema.Errorf(schema.KindInvalidRequest, "charset %q: only utf-8 is read", h.charset)
	default:
		body, err := f.body(int(h.length))
		return body, nil, err
	}
	f.discard, f.unread = h.length, problem
	return nil, problem, nil
}

// body reads n bytes. What is allocated follows what has come, so a large
// number in a header costs its sender more than us.
func (f *frames) body(n int) ([]byte, error) {
	body := make([]byte, min(n, firstRead))
	for read := 0; ; {
		m, err := io.ReadFull(f.r, body[read:])
		if err != nil {
			return nil, err
		}
		if read += m; read == n {
			return body, nil
		}
		grown := make([]byte, min(n, 2*read))
		copy(grown, body)
		body = grown
	}
}

// header is what counts of a message's header.
type header struct {
	length  int64
	charset string // where it is one that we do not read
}

// header reads up to the blank line. Blank lines before it are passed over:
// some clients end a body with a line end that they do not count.
func (f *frames) header() (header, *schema.Error, error) {
	h := header{length: -1}
	size, lines := 0, 0
	for {
		line, problem, err := f.headerLine()
		if problem != nil || err != nil {
			return h, problem, err
		}
		if size += len(line); size > f.limits.MaxHeaderBytes {
			return h, badHeader("longer than %d bytes", f.limits.MaxHeaderBytes), nil
		}
		if len(line) == 0 {
			if lines == 0 {
				continue
			}
			if h.length < 0 {
				return h, badHeader("no Content-Length"), nil
			}
			return h, nil, nil
		}
		lines++
		if problem := h.parse(line); problem != nil {
			return h, problem, nil
		}
	}
}

// headerLine reads one line without its end, \r\n or \n. While the place in
// the stream is lost it passes over everything that is no Content-Length,
// which may stand right behind a body whose length was never known.
func (f *frames) headerLine() (string, *schema.Error, error) {
	for {
		part, err := f.r.ReadSlice('\n')
		if f.resync {
			if i := indexFold(part, contentLengthName+":"); i >= 0 && err == nil {
				f.resync = false
				return strings.TrimRight(string(part[i:]), "\r\n"), nil, nil
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return "", nil, err
			}
			continue
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			f.skipLine = true
			return "", badHeader("a line is longer than %d bytes", f.limits.MaxHeaderLineBytes), nil
		}
		if err != nil {
			return "", nil, err
		}
		return strings.TrimRight(string(part), "\r\n"), nil, nil
	}
}

const contentLengthName = "content-length"

// indexFold is the index of an ASCII text in b, whatever the case of b.
func indexFold(b []byte, lower string) int {
	for i := range len(b) - len(lower) + 1 {
		if strings.EqualFold(string(b[i:i+len(lower)]), lower) {
			return i
		}
	}
	return -1
}

// parse takes one line of a header: a name in any case, a colon, a value with
// any blanks around it. Names that we do not know are passed over.
func (h *header) parse(line string) *schema.Error {
	name, value, found := strings.Cut(line, ":")
	if !found {
		return badHeader("a line without a colon")
	}
	value = strings.Trim(value, " \t")
	switch strings.ToLower(strings.Trim(name, " \t")) {
	case contentLengthName:
		if h.length >= 0 {
			return badHeader("Content-Length stands twice")
		}
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil {
			return badHeader("Content-Length %q is no number of bytes", clip(value))
		}
		h.length = int64(n)
	case "content-type":
		h.charset = foreignCharset(value)
	}
	return nil
}

// foreignCharset returns the charset of a media type unless it is UTF-8. The
// spelling utf8 is from old clients.
func foreignCharset(value string) string {
	for _, parameter := range strings.Split(value, ";")[1:] {
		name, charset, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(name, "charset") {
			continue
		}
		charset = strings.ToLower(strings.Trim(charset, `"`))
		if charset != "utf-8" && charset != "utf8" {
			return charset
		}
	}
	return ""
}

func badHeader(format string, args ...any) *schema.Error {
	return schema.Errorf(schema.KindParse, "message header: "+format, args...)
}
