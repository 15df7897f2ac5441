package schema

import (
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxSteps bounds how many pairs of a subschema and a part of a value a check may look at,
// a pair as often as it comes up, and how many pairs of a pattern and a name: some seconds.
// A schema of a few lines whose definitions each refer twice to the next one asks for more
// than there is time, and nothing can stop the validator once it runs.
const maxSteps = 1 << 20

// effort counts the steps of a check before it is made. It counts each pair once and
// multiplies, so it is quick where the check would not be; what a validator skips because
// the answer is clear already, it counts.
type effort struct {
	anchors map[string][]*jsonschema.Schema
	known   map[pair]int
}

type pair struct {
	schema *jsonschema.Schema
	value  *subject
}

// subject is a value that can be told from others that are equal.
type subject struct {
	members map[string]*subject
	items   []*subject
}

func subjectOf(v any) *subject {
	p := &subject{}
	switch v := v.(type) {
	case map[string]any:
		p.members = make(map[string]*subject, len(v))
		for name, member := range v {
			p.members[name] = subjectOf(member)
		}
	case []any:
		p.items = make([]*subject, len(v))
		for i := range v {
			p.items[i] = subjectOf(v[i])
		}
	}
	return p
}

// tooMuch says that a check would take too long, or nothing.
func (c *compiled) tooMuch(value any) string {
	e := effort{c.anchors, map[pair]int{}}
	if e.of(c.Schema, subjectOf(value)) <= maxSteps {
		return ""
	}
	return fmt.Sprintf("holding it to the schema takes more than %d steps: it is too large, or the schema refers to its parts too often", maxSteps)
}

// sum adds the steps of several schemas for one part, up to a little more than maxSteps.
func (e *effort) sum(n int, p *subject, schemas ...*jsonschema.Schema) int {
	for _, s := range schemas {
		if n > maxSteps {
			return n
		}
		n += e.of(s, p)
	}
	return n
}

// of counts the steps of a schema for a part.
func (e *effort) of(s *jsonschema.Schema, p *subject) int {
	if s == nil {
		return 0
	}
	at := pair{s, p}
	if n, ok := e.known[at]; ok {
		return n
	}
	if len(e.known) > maxSteps {
		return maxSteps + 1
	}
	e.known[at] = 0 // a schema that refers to itself for one value; the validator refuses it
	n := e.sum(1, p, s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else)
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		n = e.sum(n, p, list...)
	}
	if d := s.DynamicRef; d != nil {
		n = e.sum(n, p, d.Ref)
		n = e.sum(n, p, e.anchors[d.Anchor]...) // whichever it will be
	}
	n = e.object(n, s, p)
	n = e.array(n, s, p)
	e.known[at] = n
	return n
}

// object adds what a schema asks of the members of a part.
func (e *effort) object(n int, s *jsonschema.Schema, p *subject) int {
	if p.members == nil {
		return n
	}
	for name, dependent := range s.DependentSchemas {
		if p.members[name] != nil {
			n = e.sum(n, p, dependent)
		}
	}
	for name, dependent := range s.Dependencies {
		if one, ok := dependent.(*jsonschema.Schema); ok && p.members[name] != nil {
			n = e.sum(n, p, one)
		}
	}
	additional, _ := s.AdditionalProperties.(*jsonschema.Schema)
	for name, member := range p.members {
		n = e.sum(n, &subject{}, s.PropertyNames)
		n = e.sum(n, member, s.Properties[name], additional, s.UnevaluatedProperties)
		for pattern, one := range s.PatternProperties {
			if n > maxSteps {
				return n
			}
			if n++; pattern.MatchString(name) { // which is a step too
				n = e.sum(n, member, one)
			}
		}
	}
	return n
}

// array adds what a schema asks of the items of a part.
func (e *effort) array(n int, s *jsonschema.Schema, p *subject) int {
	first, _ := s.Items.([]*jsonschema.Schema)
	each, _ := s.Items.(*jsonschema.Schema)
	rest, _ := s.AdditionalItems.(*jsonschema.Schema)
	first = append(first[:len(first):len(first)], s.PrefixItems...)
	for i, item := range p.items {
		n = e.sum(n, item, s.Contains, each, s.UnevaluatedItems)
		if i < len(first) {
			n = e.sum(n, item, first[i])
		} else {
			n = e.sum(n, item, rest, s.Items2020)
		}
	}
	return n
}

// anchorsOf collects the schemas that dynamic references may mean.
func anchorsOf(root *jsonschema.Schema) map[string][]*jsonschema.Schema {
	anchors := map[string][]*jsonschema.Schema{}
	seen := map[*jsonschema.Schema]bool{nil: true}
	var visit func(all ...*jsonschema.Schema)
	visit = func(all ...*jsonschema.Schema) {
		for _, s := range all {
			if seen[s] {
				continue
			}
			seen[s] = true
			if s.DynamicAnchor != "" {
				anchors[s.DynamicAnchor] = append(anchors[s.DynamicAnchor], s)
			}
			if s.DynamicRef != nil {
				visit(s.DynamicRef.Ref)
			}
			visit(s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else, s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems)
			for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf, s.PrefixItems} {
				visit(list...)
			}
			for _, loose := range []any{s.AdditionalProperties, s.Items, s.AdditionalItems} {
				switch one := loose.(type) {
				case *jsonschema.Schema:
					visit(one)
				case []*jsonschema.Schema:
					visit(one...)
				}
			}
			for _, one := range s.Properties {
				visit(one)
			}
			for _, one := range s.PatternProperties {
				visit(one)
			}
			for _, one := range s.DependentSchemas {
				visit(one)
			}
			for _, loose := range s.Dependencies {
				if one, ok := loose.(*jsonschema.Schema); ok {
					visit(one)
				}
			}
		}
	}
	visit(root)
	return anchors
}
