package engine

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/weights"
)

// verbs is text that mlx-c would take for a format: %s reads a wild pointer, %n
// writes through one.
const verbs = "%s%n%x%1000000d"

// TestE2FormatVerbs puts format verbs wherever text from outside enters: folders,
// names of models and tensors, types and modes. Nothing crashes; what is wrong
// gives an error with the text as it is.
//
// Planted break: a mode that is passed through unknown.
func TestE2FormatVerbs(t *testing.T) {
	root := filepath.Join(t.TempDir(), verbs)
	odd := func(members map[string]any) enginetest.Checkpoint { return enginetest.Checkpoint{Config: members} }
	for id, c := range map[string]enginetest.Checkpoint{
		"tensor": edit(upProj, func(t *weights.Tensor) { t.Name = verbs }),
		"shape": edit(upProj, func(t *weights.Tensor) {
			t.Name, t.Shape = "model.layers.1."+verbs+".weight", []int{1, 2}
		}),
		"dtype":      edit(upProj, func(t *weights.Tensor) { t.Name, t.Dtype = verbs, weights.F64 }),
		"model_type": odd(map[string]any{"model_type": verbs}),
		"activation": odd(map[string]any{"layer_types": []string{verbs, verbs}}),
		"rope":       odd(map[string]any{"rope_scaling": map[string]any{"type": verbs, "factor": 2}}),
		"mode": {Bits: 4, Group: 32, Config: map[string]any{
			"quantization": map[string]any{"bits": 4, "group_size": 32, "mode": verbs}}},
		"path": {Bits: 4, Group: 32, Config: map[string]any{
			"quantization": map[string]any{"bits": 4, "group_size": 32, verbs: verbs}}},
		"number": odd(map[string]any{"rope_theta": verbs}),
		"whole":  {Layers: 1},
	} {
		require.NoError(t, c.Write(filepath.Join(root, id)))
	}
	e := newTestEngine(t, Options{Root: root, DefaultModel: "whole"})
	handles := mlx.Live()
	list, err := e.Models(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 10)
	for _, m := range list {
		err := e.Load(t.Context(), m.ID, nil)
		if m.ID == "whole" {
			require.NoError(t, err)
			continue
		}
		var failed *job.LoadError
		require.ErrorAs(t, err, &failed, m.ID)
		if m.ID != "number" {
			require.Contains(t, err.Error(), verbs, m.ID)
		}
		require.False(t, strings.Contains(err.Error(), "%!"), "%s: %v", m.ID, err)
	}
	require.Len(t, generate(t, e, job.Request{ID: verbs, Prompt: []int32{1}, MaxTokens: 3}).ids, 3)
	_, err = e.Start(job.Request{Model: verbs + verbs, Prompt: []int32{1}})
	require.ErrorContains(t, err, verbs+verbs)
	_, err = mlx.ParseMode(verbs)
	require.ErrorContains(t, err, verbs)
	_, err = mlx.ParseDtype(verbs)
	require.ErrorContains(t, err, verbs)
	require.NoError(t, e.Unload(t.Context(), ""))
	require.Equal(t, handles, mlx.Live())
}

// TestE12VersionOfMLX: the library is the one that the binding was written
// against, and the engine takes no other.
//
// Planted break: another version in wantMLX.
func TestE12VersionOfMLX(t *testing.T) {
	require.Equal(t, "0.32.2", mlx.Version())
	require.NoError(t, checkMLX(mlx.Version()))
	require.Equal(t, Finding{Name: "MLX", State: Fine, Detail: "0.32.2"}, examineMLX("0.32.2"))
	for _, version := range []string{"0.31.2", "0.32.0", "0.32.3", "1.0.0", ""} {
		require.ErrorContains(t, checkMLX(version), "want 0.32.2", version)
		require.Equal(t, "make deps", examineMLX(version).Mend)
	}
}
