package weights

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ContextLength returns how many tokens the model can hold, 0 where config.json
// does not say: max_position_embeddings, or more where that is the context of
// the training and rope_scaling stretches it. Type yarn multiplies the original
// context that it names, type dynamic the one of the training. The other types
// come with a max_position_embeddings that counts them in.
func (c *Config) ContextLength() (int64, error) {
	n, ok, err := c.Natural("max_position_embeddings")
	if err != nil || !ok {
		return 0, err
	}
	member, text := c.find("rope_scaling")
	if text == nil {
		member, text = c.find("rope_parameters")
	}
	if text == nil {
		return n, nil
	}
	s, err := readRopeScaling(text)
	if err != nil {
		return 0, &FormatError{File: configFile, Field: member, Reason: err.Error()}
	}
	stretched := 0.0
	switch {
	case s.kind == "dynamic":
		stretched = s.factor * float64(n)
	case strings.HasSuffix(s.kind, "yarn"):
		stretched = s.factor * s.original
	}
	return max(n, int64(min(stretched, math.MaxInt32))), nil
}

// find returns a member of config.json, or of its text_config, that is there and
// not null.
func (c *Config) find(key string) (path string, text []byte) {
	if text := c.members[key]; text != nil && !isNull(text) {
		return key, text
	}
	if text := c.text[key]; text != nil && !isNull(text) {
		return "text_config." + key, text
	}
	return "", nil
}

type ropeScaling struct {
	kind             string // "" where it says none
	factor, original float64
}

// readRopeScaling reads what ContextLength needs. The architecture checks the rest.
func readRopeScaling(text []byte) (s ropeScaling, err error) {
	o, err := decodeObject(text)
	if err != nil {
		return s, err
	}
	for _, key := range []string{"type", "rope_type"} {
		if text, ok := o[key]; ok && !isNull(text) && s.kind == "" {
			if s.kind, err = decodeString(text); err != nil {
				return s, fmt.Errorf("%s %w", key, err)
			}
		}
	}
	for _, f := range []struct {
		key  string
		into *float64
	}{{"factor", &s.factor}, {"original_max_position_embeddings", &s.original}} {
		if text, ok := o[f.key]; ok && !isNull(text) {
			if *f.into, err = strconv.ParseFloat(string(text), 64); err != nil {
				return s, fmt.Errorf("%s is not a number", f.key)
			}
		}
	}
	return s, nil
}
