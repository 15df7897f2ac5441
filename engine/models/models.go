// Package models has the architectures: one file each, named after config.json's
// model_type. A model is a graph. It knows no tokenizer, no files, no sampling
// and no threads.
//
// To add one, add a file with its register line and a golden under testdata. Start
// with llama.go.
package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"harmonyd/engine/kv"
	"harmonyd/engine/mlx"
)

// Model is an architecture with a configuration. Its exported fields are filled
// by nn.Bind. It is confined to the engine thread once it has weights.
type Model interface {
	// Sizes tells what the engine plans with.
	Sizes() Sizes
	// Ignores reports tensors that checkpoints of this architecture may have and
	// the graph does not use.
	Ignores(tensor string) bool
	// NewCache returns an empty cache for one sequence.
	NewCache() kv.Cache
	// Forward maps token ids [B, L] to hidden states [B, L, D] and appends the
	// tokens' keys and values to c.
	Forward(s *mlx.Scope, tokens mlx.Array, c kv.Cache) mlx.Array
	// Logits maps hidden states [B, L, D] to scores [B, L, V]. It is apart from
	// Forward because a prompt needs it for its last token only.
	Logits(s *mlx.Scope, h mlx.Array) mlx.Array
}

// Sizes are the numbers of an architecture that others need.
type Sizes struct {
	Vocab, Layers int
	// Context is the most tokens that the model was made for, 0 where its
	// configuration does not say.
	Context int
	// CachePerToken is the number of elements that layers which see everything keep
	// of a token, SlidingPerToken that of layers which see the last Window tokens
	// (kv.NewWindow).
	CachePerToken, SlidingPerToken, Window int
	// CopiedPerToken is the number of elements that the keys of one layer have of a
	// token: a cache that grows copies the keys or values of one layer at a time.
	CopiedPerToken int
	// Widest is the most elements of any activation of one token, the scores
	// left out.
	Widest int
}

var registry = map[string]func(config []byte) (Model, error){}

func register(modelType string, make func(config []byte) (Model, error)) {
	registry[modelType] = make
}

// New returns the model of that type for a config.json, without weights.
func New(modelType string, config []byte) (Model, error) {
	make, ok := registry[modelType]
	if !ok {
		return nil, fmt.Errorf("config.json: model_type: %q is not supported; these are: %s",
			modelType, strings.Join(Types(), ", "))
	}
	return make(config)
}

// Types lists the supported model types, sorted.
func Types() []string { return slices.Sorted(maps.Keys(registry)) }

// decodeConfig decodes config.json into a family's config and validates it.
// Errors name the member.
func decodeConfig(config []byte, into interface{ validate() error }) error {
	err := json.Unmarshal(config, into)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		err = fmt.Errorf("%s: is %s, want %s", member(mismatch.Field), found(mismatch.Value), wanted(mismatch.Type))
	}
	if err == nil {
		err = into.validate()
	}
	if err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	return nil
}

// member drops the names of embedded Go structs, which are not in the file.
func member(field string) string {
	parts := strings.Split(field, ".")
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return strings.ToLower(p) != p }), ".")
}

// found words what encoding/json met: a kind of value, or "number" and the number.
func found(value string) string {
	switch value {
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "bool":
		return "true or false"
	case "string", "number":
		return "a " + value
	}
	return strings.TrimPrefix(value, "number ")
}

// wanted says what JSON a Go type is read from.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}
