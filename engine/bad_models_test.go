package engine

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/nn"
	"harmonyd/engine/weights"
)

// edit returns a checkpoint of which the tensors called name are changed; a nil
// change drops them.
func edit(name string, change func(*weights.Tensor)) enginetest.Checkpoint {
	return enginetest.Checkpoint{Edit: func(all []weights.Tensor) []weights.Tensor {
		if change == nil {
			return slices.DeleteFunc(all, func(t weights.Tensor) bool { return t.Name == name })
		}
		for i := range all {
			if all[i].Name == name {
				change(&all[i])
			}
		}
		return all
	}}
}

func config(members map[string]any) enginetest.Checkpoint {
	return enginetest.Checkpoint{Config: members}
}

const upProj = "model.layers.1.mlp.up_proj.weight"

// badModels are folders that cannot be loaded, with what the error must say.
var badModels = map[string]struct {
	c    enginetest.Checkpoint
	want []string
}{
	"missing tensor": {edit(upProj, nil), []string{upProj + ": missing"}},
	"wrong shape": {edit(upProj, func(t *weights.Tensor) { t.Shape = []int{96, 32} }),
		[]string{upProj + ": shape [96 32], want [96 64]"}},
	"turned": {edit(upProj, func(t *weights.Tensor) { t.Shape = []int{64, 96} }),
		[]string{upProj + ": shape [64 96], want [96 64]"}},
	"one axis": {edit("model.norm.weight", func(t *weights.Tensor) { t.Shape = []int{64, 1} }),
		[]string{"model.norm.weight: shape [64 1], want [64]"}},
	"unused tensor": {edit(upProj, func(t *weights.Tensor) { t.Name = "model.layers.2.mlp.up_proj.weight" }),
		[]string{"model.layers.2.mlp.up_proj.weight: the architecture has no such tensor", upProj + ": missing"}},
	"several at once": {edit("model.norm.weight", func(t *weights.Tensor) { t.Name, t.Shape = "odd", []int{3} }),
		[]string{"odd: the architecture has no such tensor", "model.norm.weight: missing"}},
	"unknown dtype": {edit(upProj, func(t *weights.Tensor) { t.Dtype = weights.F64 }),
		[]string{upProj, "dtype F64 is not supported"}},
	"integer weight": {edit(upProj, func(t *weights.Tensor) { t.Dtype = weights.I32 }),
		[]string{upProj + ": dtype int32, want one of [float32 float16 bfloat16]"}},
	"unknown architecture": {config(map[string]any{"model_type": "lama"}),
		[]string{`model_type: "lama" is not supported`, "llama, mistral"}},
	"no layers":        {config(map[string]any{"num_hidden_layers": 0}), []string{"num_hidden_layers: is 0"}},
	"negative hidden":  {config(map[string]any{"hidden_size": -1}), []string{"hidden_size: is -1"}},
	"wild vocabulary":  {config(map[string]any{"vocab_size": 1 << 30}), []string{"vocab_size: is 1073741824"}},
	"heads":            {config(map[string]any{"num_key_value_heads": 3}), []string{"num_key_value_heads: is 3, which does not divide 4 heads"}},
	"odd head":         {config(map[string]any{"head_dim": 15}), []string{"head_dim: is 15"}},
	"norm epsilon":     {config(map[string]any{"rms_norm_eps": 0}), []string{"rms_norm_eps: is 0"}},
	"a text as number": {config(map[string]any{"hidden_act": "silu", "rope_theta": "x"}), []string{"rope_theta"}},
	"unknown rope": {config(map[string]any{"rope_scaling": map[string]any{"type": "su", "factor": 2}}),
		[]string{`rope_scaling: type "su" is not supported`}},
	"rope without factor": {config(map[string]any{"rope_scaling": map[string]any{"type": "linear"}}),
		[]string{"factor: is 0"}},
	"rope bounds": {config(map[string]any{"rope_scaling": map[string]any{
		"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}}),
		[]string{"do not go together"}},
	"sliding layers": {config(map[string]any{"layer_types": []string{"sliding_attention"}}),
		[]string{`"sliding_attention" is not supported`}},
	"no config for scales": {enginetest.Checkpoint{Bits: 4, Group: 32, Config: map[string]any{"quantization": nil}},
		[]string{"lm_head.scales: the architecture has no such tensor"}},
	"scales missing": {enginetest.Checkpoint{Bits: 4, Group: 32, Edit: edit("lm_head.scales", nil).Edit},
		[]string{"lm_head.weight: shape [96 8], want [96 64]", "lm_head.biases: the architecture has no such"}},
	"biases missing": {enginetest.Checkpoint{Bits: 4, Group: 32, Edit: edit("lm_head.biases", nil).Edit},
		[]string{"lm_head.biases: missing"}},
	"packing of another kind": {enginetest.Checkpoint{Bits: 4, Group: 32, Config: map[string]any{
		"quantization": map[string]any{"bits": 4, "group_size": 32, "lm_head": map[string]any{"bits": 8, "group_size": 32}}}},
		[]string{"lm_head.weight: shape [96 8], want [96 16]"}},
	"left alone but packed": {enginetest.Checkpoint{Bits: 4, Group: 32, Config: map[string]any{
		"quantization": map[string]any{"bits": 4, "group_size": 32, "lm_head": false}}},
		[]string{"lm_head.weight: shape [96 8], want [96 64]"}},
}

func TestBadModels(t *testing.T) {
	root := t.TempDir()
	for name, bad := range badModels {
		require.NoError(t, bad.c.Write(filepath.Join(root, strings.ReplaceAll(name, " ", "-"))))
	}
	require.NoError(t, enginetest.Checkpoint{}.Write(filepath.Join(root, "zgood")))
	e := newTestEngine(t, Options{Root: root})
	arrays, buffers := mlx.Live(), mlx.BufferMemory()
	texts := map[string]string{}
	for name, bad := range badModels {
		id := strings.ReplaceAll(name, " ", "-")
		err := e.Load(t.Context(), id, nil)
		var failed *job.LoadError
		require.ErrorAs(t, err, &failed, name)
		for _, want := range bad.want {
			require.ErrorContains(t, err, want, name)
		}
		require.Equal(t, id, failed.Model)
		require.Zero(t, failed.NeededBytes, name)
		require.Equal(t, arrays, mlx.Live(), name)
		require.Equal(t, buffers, mlx.BufferMemory(), name)
		texts[failed.Cause] = name
	}
	require.Len(t, texts, len(badModels), "no two say the same")
	require.Len(t, generate(t, e, job.Request{Model: "zgood", Prompt: []int32{1}, MaxTokens: 3}).ids, 3)
}

// TestMixedScalesAreRefused is about devices where weights stay packed.
func TestMixedScalesAreRefused(t *testing.T) {
	root := t.TempDir()
	c := enginetest.Checkpoint{Bits: 4, Group: 32, Dtype: weights.F16}
	c.Edit = func(all []weights.Tensor) []weights.Tensor {
		for i := range all {
			if all[i].Name == "lm_head.scales" {
				all[i].Dtype = weights.BF16
			}
		}
		return all
	}
	require.NoError(t, c.Write(root))
	_, err := newPlan(weights.Dir(root), device{gpu: true, available: math.MaxInt64})
	require.ErrorContains(t, err, "mixed types: lm_head.scales is bfloat16, model.embed_tokens.scales is float16")
	p, err := newPlan(weights.Dir(root), device{available: math.MaxInt64})
	require.NoError(t, err, "unpacked it does not matter")
	p.close()
}

// TestPackedWidthsOnTheCPU: every width that a config may name computes, packed
// as well as unpacked. A message in MLX's CPU code leaves 5 bits out.
func TestPackedWidthsOnTheCPU(t *testing.T) {
	e := newTestEngine(t, Options{Root: t.TempDir()})
	for _, bits := range []int{2, 3, 4, 5, 6, 8} {
		root := t.TempDir()
		require.NoError(t, enginetest.Checkpoint{Bits: bits, Group: 32}.Write(root))
		packed := loadOn(t, e, root, device{available: math.MaxInt64})
		unpacked := loadOn(t, e, root, device{weights: Float32, available: math.MaxInt64})
		require.NotEqual(t, len(packed.plan.slots), len(unpacked.plan.slots))
		ids := []int32{3, 1, 4, 1, 5, 9}
		got, want := packed.scores(t, ids, 1)[0], unpacked.scores(t, ids, 1)[0]
		largest := 0.0
		for _, x := range want {
			largest = max(largest, math.Abs(float64(x)))
		}
		for i := range want {
			require.InDelta(t, want[i], got[i], 0.05*largest, "%d bits, token %d", bits, i)
		}
	}
}

func TestTooLargeForMemory(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, enginetest.Checkpoint{Bits: 4, Group: 32}.Write(filepath.Join(root, "tiny")))
	p := planAlone(t, filepath.Join(root, "tiny"))
	require.True(t, slices.ContainsFunc(p.slots, func(sl nn.Slot) bool { return sl.Leaf == "scales" }),
		"stays packed where float32 does not fit")

	e := newTestEngine(t, Options{Root: root, Threads: 1, MemoryBytes: p.needed - 1})
	for range 100 {
		err := e.Load(t.Context(), "tiny", nil)
		var failed *job.LoadError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, p.needed, failed.NeededBytes)
		require.Equal(t, p.needed-1, failed.AvailableBytes)
		require.ErrorContains(t, err, "are free")
	}
	require.ErrorContains(t, generate(t, e, request([]int32{1}, 1)).err, "are free")
	enough := newTestEngine(t, Options{Root: root, Threads: 1, MemoryBytes: p.needed})
	require.NoError(t, enough.Load(t.Context(), "tiny", nil))
}

// TestCancelledLoadLeavesNothing cancels a load at every report of progress.
func TestCancelledLoadLeavesNothing(t *testing.T) {
	e := tinyEngine(t, enginetest.Checkpoint{}, Options{})
	arrays, buffers := mlx.Live(), mlx.BufferMemory()
	reports := 0
	require.NoError(t, e.Load(t.Context(), "tiny", func(job.Progress) { reports++ }))
	require.NoError(t, e.Unload(t.Context(), "tiny"))
	require.Greater(t, reports, 10)
	for k := range reports {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		err := e.Load(ctx, "tiny", func(job.Progress) {
			if seen++; seen > k {
				cancel()
			}
		})
		cancel()
		if err != nil {
			require.ErrorIs(t, err, job.ErrCancelled)
		}
		require.NoError(t, e.Unload(t.Context(), "tiny"))
		require.Equal(t, arrays, mlx.Live(), "cancel at report %d", k)
		require.Equal(t, buffers, mlx.BufferMemory(), "cancel at report %d", k)
	}
}

// TestBrokenFolderIsMended finds a model that was broken once it is whole.
func TestBrokenFolderIsMended(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "tiny")
	require.NoError(t, enginetest.Checkpoint{}.Write(folder))
	whole, err := os.ReadFile(filepath.Join(folder, "config.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "config.json"), whole[:50], 0o644))
	e := newTestEngine(t, Options{Root: root})
	_, err = e.Start(job.Request{Model: "tiny", Prompt: []int32{1}})
	require.ErrorContains(t, err, "config.json")
	models, err := e.Models(t.Context())
	require.NoError(t, err)
	require.Equal(t, job.Unavailable, models[0].State)
	require.NotEmpty(t, models[0].Problem)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "config.json"), whole, 0o644))
	o := generate(t, e, job.Request{Model: "tiny", Prompt: []int32{1}, MaxTokens: 2})
	require.NoError(t, o.err)
	require.Len(t, o.ids, 2)
	_, err = e.Open(t.Context(), "tiny")
	require.NoError(t, err)
}
