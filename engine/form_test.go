package engine

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/hub"
	"harmonyd/engine/weights"
)

func TestFormIsThatOfTheLoadedWeights(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "tiny")
	require.NoError(t, enginetest.Checkpoint{Bits: 4, Group: 32}.Write(folder))
	for want, weights := range map[string]WeightForm{"float32": Float32, Packed: AsStored} {
		e := newTestEngine(t, Options{Root: root, Weights: weights})
		form, err := e.Form("tiny")
		require.NoError(t, err)
		require.Empty(t, form)
		require.NoError(t, e.Load(t.Context(), "tiny", nil))
		form, err = e.Form("tiny")
		require.NoError(t, err)
		require.Equal(t, want, form)
		_, err = e.Form("none")
		require.Error(t, err)
	}
}

// TestFloat32CopyIsTheSameModel requires of a copy, which other programs are given
// to compute with the same numbers, the scores to the last bit.
func TestFloat32CopyIsTheSameModel(t *testing.T) {
	e, h := newTestEngine(t, Options{}), hub.New(t.TempDir())
	prompt := pseudoPrompt(7, 96)
	for name, c := range tinyCheckpoints {
		c.Dtype = weights.BF16
		folder := filepath.Join(t.TempDir(), name)
		require.NoError(t, c.Write(folder))
		_, err := Convert(t.Context(), h, folder, name, Conversion{Dequantize: c.Bits > 0, Dtype: "float32"}, nil)
		require.NoError(t, err)
		copied, err := h.Resolve(name)
		require.NoError(t, err)
		unpacked := device{weights: Float32, available: math.MaxInt64}
		want := loadOn(t, e, folder, unpacked).scores(t, prompt, 7)
		require.Equal(t, want, loadFolder(t, e, copied, math.MaxInt64).scores(t, prompt, 7), name)
	}
}
