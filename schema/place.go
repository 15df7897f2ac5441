package schema

import (
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
	switch {
	case p == nil || p.above == nil:
		return ""
	case p.index >= 0:
		return p.above.String() + "/" + strconv.Itoa(p.index)
	}
	return p.above.String() + pointer(p.name)
}

// pointerEscapes are those of RFC 6901. Making it takes longer than using it.
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// pointer is a name as a step of a JSON Pointer.
func pointer(name string) string {
	return "/" + pointerEscapes.Replace(name)
}
