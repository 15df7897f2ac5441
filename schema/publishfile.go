package schema

import (
	"embed"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"
)

// File describes a kind of file that people write, for editors that check and complete it.
type File struct {
	Title, Description string
	// Type is the struct that the file is read into, or that its members are where Named is
	// set. Sources are the files that declare it, whose comments become descriptions.
	Type    reflect.Type
	Named   bool
	Sources embed.FS
	// More are further keywords of a member, such as its default. A description or enum
	// among them takes the place of what the type says.
	More func(member string) map[string]any
}

// PublishFile is the description of a file as a JSON Schema document, draft 2020-12.
// Members that it does not list are mistakes, but for $schema.
func PublishFile(f File) ([]byte, error) {
	src, err := parseSources(f.Sources)
	if err != nil {
		return nil, fmt.Errorf("publish schema: %w", err)
	}
	r := jsonschema.Reflector{Anonymous: true, ExpandedStruct: true, Mapper: src.named, LookupComment: src.comment}
	s := r.ReflectFromType(f.Type)
	if f.More != nil {
		for p := s.Properties.Oldest(); p != nil; p = p.Next() {
			p.Value.Extras = f.More(p.Key)
			if text, ok := p.Value.Extras["description"].(string); ok {
				p.Value.Description = text
				delete(p.Value.Extras, "description")
			}
			if all, ok := p.Value.Extras["enum"].([]any); ok {
				p.Value.Enum = all
				delete(p.Value.Extras, "enum")
			}
		}
	}
	const link = "The JSON Schema that this file is written by."
	if f.Named {
		defs := s.Definitions
		s.Version, s.Definitions = "", nil
		s = &jsonschema.Schema{Type: "object", AdditionalProperties: s, Properties: jsonschema.NewProperties(), Definitions: defs}
	}
	s.Properties.Set("$schema", &jsonschema.Schema{Type: "string", Description: link})
	s.Version, s.Title, s.Description = jsonschema.Version, f.Title, f.Description
	return indented(s)
}
