// Package models has the architectures: one file each, named after config.json's
// model_type. A model is a graph. It knows no tokenizer, no files, no sampling
// and no threads.
//
// To add one, add a file with its register line and a golden under testdata. Start
// with llama.go.
package models

import (
	"encoding/json"
	"fmt"
	"maps"
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
	Vocab int
	// Context is the most tokens that the model was made for, 0 where its
	// configuration does not say.
	Context int
	// CachePerToken is the number of elements that the cache keeps of a token.
	CachePerToken int
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
		return nil, fmt.Errorf("config: model_type %q is not supported; these are: %s",
			modelType, strings.Join(Types(), ", "))
	}
	return make(config)
}

// Types lists the supported model types, sorted.
func Types() []string { return slices.Sorted(maps.Keys(registry)) }

// decodeConfig decodes config.json into a family's config and validates it.
func decodeConfig(config []byte, into interface{ validate() error }) error {
	if err := json.Unmarshal(config, into); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return into.validate()
}
