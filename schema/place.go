package schema

import (
	"slices"
	"strconv"
	"strings"
)

// place is where a value stands in a document. It is written out, as a JSON Pointer, only
// where something is wrong there. The document itself is the place without one above it.
type place struct {
	above *place
	name  string // of a member
	index int    // of an item, or -1
}

func (p *place) member(name string) *place { return &place{p, name, -1} }

func (p *place) item(index int) *place { return &place{p, "", index} }

func (p *place) String() string {
	var steps []string
	for ; p.above != nil; p = p.above {
		if p.index >= 0 {
			steps = append(steps, "/"+strconv.Itoa(p.index))
		} else {
			steps = append(steps, pointer(p.name))
		}
	}
	slices.Reverse(steps)
	return strings.Join(steps, "")
}

// The escapes of RFC 6901. Making a replacer takes longer than using it.
var (
	pointerEscapes  = strings.NewReplacer("~", "~0", "/", "~1")
	unescapePointer = strings.NewReplacer("~0", "~", "~1", "/")
)

// pointer is a name as a step of a JSON Pointer.
func pointer(name string) string {
	return "/" + pointerEscapes.Replace(name)
}
