package nn

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/mlx"
)

var goldens = flag.Bool("goldens", false, "recompute testdata with the reference implementation")

// ropeCase is one rotary configuration. The JSON is what the script reads.
type ropeCase struct {
	Name    string          `json:"name"`
	Dims    int             `json:"dims"`
	Config  json.RawMessage `json:"config"`
	Offsets []int           `json:"offsets"`
}

// ropeCases are those of real models, and corners.
var ropeCases = []ropeCase{
	{"plain", 64, []byte(`{}`), nil},
	{"traditional", 64, []byte(`{"rope_traditional": true, "rope_theta": 500000}`), nil},
	{"linear", 64, []byte(`{"rope_scaling": {"rope_type": "linear", "factor": 4}}`), nil},
	{"Llama 3.1", 128, []byte(`{"rope_theta": 500000, "rope_scaling": {"rope_type": "llama3", "factor": 8,
		"low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}}`), nil},
	{"Qwen 2.5 at 128k", 128, []byte(`{"rope_theta": 1000000, "rope_scaling": {"type": "yarn", "factor": 4,
		"original_max_position_embeddings": 32768}}`), nil},
	{"GPT-OSS", 64, []byte(`{"rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32, "beta_fast": 32,
		"beta_slow": 1, "original_max_position_embeddings": 4096, "truncate": false}}`), nil},
	{"DeepSeek V2 Lite", 64, []byte(`{"rope_traditional": true, "rope_scaling": {"type": "deepseek_yarn", "factor": 40,
		"beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096}}`), nil},
	{"halved mscale", 64, []byte(`{"rope_scaling": {"type": "yarn", "factor": 40, "mscale": 1, "mscale_all_dim": 0.5}}`), nil},
	{"TeleChat 3", 64, []byte(`{"rope_scaling": {"type": "telechat3-yarn", "factor": 2}}`), nil},
	{"yarn without a ramp", 64, []byte(`{"rope_scaling": {"type": "yarn", "factor": 8, "beta_fast": 1, "beta_slow": 1,
		"original_max_position_embeddings": 6}}`), nil},
	{"yarn that shrinks", 64, []byte(`{"rope_scaling": {"type": "yarn", "factor": 0.5}}`), nil},
	{"dynamic", 64, []byte(`{"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 4}}`), nil},
	{"dynamic in the old order", 32, []byte(`{"max_position_embeddings": 64, "rope_theta": 50000, "rope_traditional": true,
		"rope_scaling": {"rope_type": "dynamic", "factor": 1}}`), nil},
	{"longrope", 32, []byte(`{"max_position_embeddings": 131072, "rope_scaling": {"type": "longrope", "short_factor": 1,
		"long_factor": [1,1.1,1.2,1.3,1.5,2,3,4,5,8,12,20,30,40,50,60], "original_max_position_embeddings": 4096}}`), nil},
	{"longrope of one factor", 32, []byte(`{"max_position_embeddings": 64, "rope_traditional": true, "rope_scaling": {
		"type": "longrope", "short_factor": [], "long_factor": 3, "original_max_position_embeddings": 4096}}`), nil},
}

// TestRoPEGolden holds rotated queries against mlx-lm's, before, within and
// beyond every context.
func TestRoPEGolden(t *testing.T) {
	const file = "testdata/rope.json"
	offsets := []int{0, 61, 4095, 50_000}
	for i := range ropeCases {
		ropeCases[i].Offsets = offsets
	}
	if *goldens {
		in, err := json.Marshal(ropeCases)
		require.NoError(t, err)
		cmd := exec.Command("../../.deps/venv/bin/python", "testdata/goldens.py", file)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
		require.NoError(t, cmd.Run())
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var want struct {
		Cases map[string][][]float32 `json:"cases"`
	}
	require.NoError(t, json.Unmarshal(text, &want))
	require.Len(t, want.Cases, len(ropeCases))
	for _, c := range ropeCases {
		t.Run(c.Name, func(t *testing.T) {
			var config RoPEConfig
			require.NoError(t, json.Unmarshal(c.Config, &config))
			require.NoError(t, config.Validate(c.Dims))
			got := rotate(t, NewRoPE(c.Dims, config), offsets)
			for i := range offsets {
				require.InDeltaSlice(t, want.Cases[c.Name][i], got[i], 2e-6, "at %d", offsets[i])
			}
		})
	}
}

// rotate gives the rotated query at each offset, times the factor that the
// attention's scale makes up for.
func rotate(t *testing.T, r RoPE, offsets []int) (rows [][]float32) {
	t.Helper()
	x := make([]float32, 2*r.dims)
	for i := range x {
		x[i] = float32((i*7919%257)-128) / 128
	}
	onThread(t, func(s *mlx.Scope) error {
		if r.values != nil {
			r.freqs.Set(s.FromFloat32s(r.values, len(r.values)))
			defer r.freqs.Free()
		}
		for _, offset := range offsets {
			y := r.Forward(s, s.FromFloat32s(x, 1, 1, 2, r.dims), offset)
			row := s.Float32s(y, nil)
			for i := range row {
				row[i] *= float32(math.Sqrt(r.AttentionScale()))
			}
			rows = append(rows, row)
		}
		return s.Err()
	})
	return rows
}

func TestRoPEConfigs(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                    "",
		`{"rope_theta": -1}`:                    "rope_theta: is -1, want more than 0",
		`{"rope_scaling": {"type": "default"}}`: "",
		`{"rope_scaling": {"rope_type": "linear", "factor": 2}}`:           "",
		`{"rope_scaling": {"type": "linear"}}`:                             "rope_scaling: factor: is 0, want more than 0",
		`{"rope_scaling": {"type": "mrope"}}`:                              `rope_scaling: type "mrope" is not supported`,
		`{"rope_parameters": {"rope_type": "yarn"}}`:                       "rope_parameters: factor: is 0, want more than 0",
		`{"rope_parameters": {"rope_type": "yarn", "factor": 2}}`:          "",
		`{"rope_theta": 1, "rope_scaling": {"type": "yarn", "factor": 2}}`: "rope_scaling: type yarn needs a rope_theta of more than 1",
		`{"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2}}`: "rope_scaling: beta_fast 1, beta_slow 2 and " +
			"original_max_position_embeddings 4096 do not go together",
		`{"rope_scaling": {"type": "yarn", "factor": 40, "mscale": -3}}`: "rope_scaling: mscale -3 and mscale_all_dim 0 do not go together",
		`{"rope_scaling": {"type": "llama3", "factor": 8, "high_freq_factor": 0.5}}`: "rope_scaling: low_freq_factor 1, high_freq_factor 0.5 " +
			"and original_max_position_embeddings 8192 do not go together",
		`{"rope_scaling": {"type": "dynamic", "factor": 2}}`:                            "rope_scaling: type dynamic needs max_position_embeddings",
		`{"max_position_embeddings": 8, "rope_scaling": {"type": "dynamic"}}`:           "rope_scaling: factor: is 0, want more than 0",
		`{"rope_scaling": {"type": "longrope", "original_max_position_embeddings": 8}}`: "rope_scaling: type longrope needs max_position_embeddings",
		`{"max_position_embeddings": 8, "rope_scaling": {"type": "longrope"}}`:          "rope_scaling: original_max_position_embeddings: is missing",
		`{"max_position_embeddings": 8, "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 1}}`: "rope_scaling: " +
			"original_max_position_embeddings: is 1, want more than 1",
		`{"max_position_embeddings": 8, "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 8, "long_factor": [1, 2]}}`: "rope_scaling: " +
			"long_factor: holds 2 numbers, want 32",
		`{"max_position_embeddings": 8, "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 8, "long_factor": 0}}`: "rope_scaling: " +
			"long_factor: holds 0, want more than 0",
	} {
		var c RoPEConfig
		require.NoError(t, json.Unmarshal([]byte(text), &c), text)
		err := c.Validate(64)
		if want != "" {
			require.EqualError(t, err, want, text)
			continue
		}
		require.NoError(t, err, text)
		require.Positive(t, *c.Theta)
	}
	narrow := RoPEConfig{Context: new(8), Scaling: &RoPEScaling{Type: "dynamic", Factor: 2}}
	require.EqualError(t, narrow.Validate(2), "rope_scaling: type dynamic needs heads of more than 2 elements")
}

// TestRoPEParameters: the newer name of the member says the same as the older
// one, and holds theta too.
func TestRoPEParameters(t *testing.T) {
	for _, text := range []string{
		`{"rope_theta": 150000, "rope_scaling": {"type": "yarn", "factor": 32}}`,
		`{"rope_parameters": {"rope_theta": 150000, "rope_type": "yarn", "factor": 32}}`,
		`{"rope_scaling": null, "rope_parameters": {"rope_theta": 150000, "type": "yarn", "factor": 32}}`,
	} {
		var c RoPEConfig
		require.NoError(t, json.Unmarshal([]byte(text), &c))
		require.NoError(t, c.Validate(64))
		r := NewRoPE(64, c)
		require.Equal(t, 150000.0, *c.Theta, text)
		require.Len(t, r.values, 32)
		require.EqualValues(t, 1, r.values[0], "short waves stay")
		require.InEpsilon(t, 32*103_360, r.values[31], 1e-2, "long ones are stretched")
		require.InEpsilon(t, math.Pow(1+0.1*math.Log(32), 2), r.AttentionScale(), 1e-12)
	}
}
