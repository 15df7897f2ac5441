package conversation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Damage says where the sound part of a log ends.
type Damage struct {
	// Offset is where the first line begins that is not sound, and Bytes how much
	// there is from there on.
	Offset, Bytes int64
	// Reason says what is wrong with the line.
	Reason string
	// Aside is the file that the rest was moved to, where it was.
	Aside string
}

func (d *Damage) String() string {
	text := fmt.Sprintf("the log ends after %d bytes: %s; %d bytes follow", d.Offset, d.Reason, d.Bytes)
	if d.Aside != "" {
		text += ", now in " + d.Aside
	}
	return text
}

// item is where an entry stands.
type item struct {
	id     string
	parent int // its index, -1 for Root
	offset int64
	size   int // of the line, with its end
}

// index is what a log holds, without its messages.
type index struct {
	header Header
	items  []item
	byID   map[string]int
	end    int64 // of the sound part
}

// visitor sees the ids and bodies of the entries in turn, and may stop with an
// error. A body is the visitor's only until it returns.
type visitor func(id string, body []byte) error

// errNoHeader is the first line's problem.
var errNoHeader = errors.New("not a conversation log")

// scan reads size bytes of a log in order, once. Damage is where the sound part
// ends before that; an error means that the file cannot be read or is not ours.
func scan(r io.ReaderAt, size int64, visit visitor) (*index, *Damage, error) {
	x := &index{byID: map[string]int{}}
	in := lineReader{r: r, size: size}
	for seq := 0; ; seq++ {
		text, problem, err := in.next()
		if err != nil {
			return nil, nil, err
		}
		if problem == "" && text == nil {
			if seq == 0 {
				return nil, nil, fmt.Errorf("%w: it is empty", errNoHeader)
			}
			return x, nil, nil
		}
		var l line
		if problem == "" {
			l, problem = parseLine(text, seq)
		}
		if seq == 0 {
			if problem != "" {
				return nil, nil, fmt.Errorf("%w: its first line: %s", errNoHeader, problem)
			}
			if err := x.readHeader(l.body); err != nil {
				return nil, nil, err
			}
		} else if problem == "" {
			problem = x.add(l.id, l.parent, len(text)+1)
		}
		if problem != "" {
			return x, &Damage{Offset: x.end, Bytes: size - x.end, Reason: problem}, nil
		}
		if x.end += int64(len(text)) + 1; visit != nil && seq > 0 {
			if err := visit(x.items[seq-1].id, l.body); err != nil {
				return nil, nil, err
			}
		}
	}
}

func (x *index) readHeader(body []byte) error {
	var v struct{ Version int }
	if err := json.Unmarshal(body, &v); err != nil {
		return fmt.Errorf("%w: its header: %w", errNoHeader, err)
	}
	if v.Version > Version {
		return fmt.Errorf("has version %d; this program reads up to %d: use a newer one", v.Version, Version)
	}
	if err := json.Unmarshal(body, &x.header); err != nil {
		return fmt.Errorf("%w: its header: %w", errNoHeader, err)
	}
	return nil
}

// add takes the entry of a line of size bytes at the end of the sound part.
func (x *index) add(idText, parent []byte, size int) (problem string) {
	id := string(idText)
	if !validID(id) {
		return "its id is none"
	}
	if _, taken := x.byID[id]; taken {
		return fmt.Sprintf("its id %s is taken", id)
	}
	at, known := x.byID[string(parent)]
	if string(parent) == Root {
		at = -1
	} else if !known {
		return fmt.Sprintf("its parent %.64q is not before it", parent)
	}
	x.byID[id] = len(x.items)
	x.items = append(x.items, item{id: id, parent: at, offset: x.end, size: size})
	return ""
}

// parentID is the parent of item i.
func (x *index) parentID(i int) string {
	if p := x.items[i].parent; p >= 0 {
		return x.items[p].id
	}
	return Root
}

// lineReader reads lines in large pieces. A line is valid until the next.
type lineReader struct {
	r            io.ReaderAt
	size, offset int64 // of the file, and how much of it was read
	buf          []byte
	from         int // of buf, where the next line begins
}

// next returns the next line without its end, nil at the end of the file.
func (l *lineReader) next() (text []byte, problem string, err error) {
	const piece = 1 << 18
	searched := 0
	for {
		rest := l.buf[l.from:]
		if i := bytes.IndexByte(rest[searched:], '\n'); i >= 0 {
			l.from += searched + i + 1
			return rest[: searched+i : searched+i], "", nil
		}
		switch searched = len(rest); {
		case searched > MaxRecordBytes:
			return nil, fmt.Sprintf("its line is longer than %d bytes", MaxRecordBytes), nil
		case l.offset == l.size && searched == 0:
			return nil, "", nil
		case l.offset == l.size:
			return nil, "its line has no end", nil
		}
		// Doubling keeps the copies of a long line linear in its length.
		n := int(min(int64(max(piece, searched)), l.size-l.offset))
		buf := l.buf[:0]
		if cap(buf) < searched+n {
			buf = make([]byte, 0, searched+n)
		}
		buf = append(buf, rest...)[:searched+n]
		if m, err := l.r.ReadAt(buf[searched:], l.offset); m < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, "", fmt.Errorf("read at %d: %w", l.offset, err)
		}
		l.buf, l.from, l.offset = buf, 0, l.offset+int64(n)
	}
}
