package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sample is a summary as a run makes it, with figures that are easy to read.
func sample() *Summary {
	s := &Summary{
		Schema: schemaVersion, Time: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		Versions: Versions{"v1", "", "0.32.2", "/lib/libopenblas.so", "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH", "Zen"},
		Machine: Machine{CPU: "A CPU", Cores: 2, OS: "linux", Arch: "amd64", Device: "cpu", Threads: 2,
			LoadAverage: 0.5, OthersBusy: 0.01, Stolen: 0},
		Model:    ModelFacts{"some/model", "llama", "affine 4-bit, groups of 32"},
		Workload: WorkloadFacts{512, "abc", 4, 0, 0, 5},
		Programs: []*Program{
			{Name: Ours, Version: "v1", Weights: "float32", BytesPerToken: 500e6, PeakBytes: 700e6, IDs: []int32{1, 2, 3, 4}, TokensPerPass: 1,
				Load: newFigure([]float64{400, 410, 390, 400, 400}), FirstToken: newFigure([]float64{1000, 1024, 1010, 1010, 1010}),
				Prefill: newFigure([]float64{512, 500, 507, 507, 507}), Decode: newFigure([]float64{34, 35, 33, 34, 34})},
			{Name: "mlx-lm", Version: "0.32.0", Weights: "float32", BytesPerToken: 500e6, PeakBytes: 900e6, IDs: []int32{1, 2, 3, 4},
				Details: map[string]string{"blas": "/lib/libopenblas.so"},
				Load:    newFigure([]float64{300, 300, 300, 300, 300}), FirstToken: newFigure([]float64{1200, 1200, 1200, 1200, 1200}),
				Prefill: newFigure([]float64{426, 426, 426, 426, 426}), Decode: newFigure([]float64{20, 20, 20, 20, 20})},
			{Name: "llama.cpp", Problem: "ModuleNotFoundError: No module named 'llama_cpp'"},
		},
		Roofline: Roofline{Matrices: 211, Bytes: 500e6, Threads: 2, Decode: newFigure([]float64{40, 41, 39, 40, 40}), Read: newFigure([]float64{22, 23, 21, 22, 22})},
		Counts:   Counts{Count{512, 1500, 1800, 1, 4, 2048, 30}, Count{3, 1560, 2000, 3, 12, 0, 0}},
	}
	s.conclude()
	return s
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, sample().WriteTable(&b))
	require.Equal(t, `some/model, llama, affine 4-bit, groups of 32
A CPU, cores: 2, load average 0.50, 1 % used by others, 0 % stolen
harmonyd v1, MLX 0.32.2, OpenBLAS 0.3.21 with the kernels of Zen, threads: 2
4 tokens after a prompt of 512, temperature 0, 5 repetitions in turn, median (least to most)

                     harmonyd             mlx-lm               roofline
load          ms     400 (390 to 410)     300 (300 to 300)
first token   ms     1010 (1000 to 1024)  1200 (1200 to 1200)
prefill       tok/s  507 (500 to 512)     426 (426 to 426)
decode        tok/s  34.0 (33.0 to 35.0)  20.0 (20.0 to 20.0)  40.0 (39.0 to 41.0)
weights              float32              float32              float32
read a token  MB     500                  500                  500
decode reads  GB/s   17.0                 10.0                 20.0 of 22.0 (21.0 to 23.0)
peak memory   MB     700                  900
same tokens          4 of 4               4 of 4

llama.cpp was not measured: ModuleNotFoundError: No module named 'llama_cpp'

ratio                                   goal
decode / roofline  0.85 (0.85 to 0.85)  ≥ 0.85 reached
decode / mlx-lm    1.70 (1.65 to 1.75)  ≥ 1.25 reached
prefill / mlx-lm   1.19 (1.17 to 1.20)  ≥ 1 reached
load / mlx-lm      1.33 (1.30 to 1.37)  ≤ 1.2 missed

counts          prompt of 512  a token after it
operations      1500           520
cgo calls       1800           667
blocking reads  1              1
bytes read      4              4
bytes written   2048           0
Go allocations  30             0

`, b.String())
}

func TestNotesSayWhatFiguresHide(t *testing.T) {
	for want, edit := range map[string]func(*Summary){
		"harmonyd's weights are packed: a step reads 0.25 of the bytes that the roofline and float32 weights take": func(s *Summary) {
			s.Programs[0].Weights, s.Programs[0].BytesPerToken = "packed", 125e6
		},
		"harmonyd makes 1.50 tokens a pass through the weights": func(s *Summary) { s.Programs[0].TokensPerPass = 1.5 },
		"the BLAS is not OpenBLAS (/lib/libblas.so): products and roofline are those of a slow one; " +
			"install libopenblas-dev and run make deps build": func(s *Summary) {
			s.Versions.BLAS, s.Versions.BLASConfig, s.Versions.BLASCore = "/lib/libblas.so", "", ""
		},
		"mlx-lm did not get the BLAS /lib/libopenblas.so":             func(s *Summary) { s.Programs[1].Details = nil },
		"harmonyd and mlx-lm choose different tokens from token 3 on": func(s *Summary) { s.Programs[1].IDs = []int32{1, 2, 9, 9} },
		"the machine was not quiet: other programs used 30 % of its time, its host kept 1 %; measure again": func(s *Summary) {
			s.Machine.OthersBusy, s.Machine.Stolen = 0.3, 0.01
		},
	} {
		s := sample()
		require.Empty(t, s.Notes)
		edit(s)
		s.conclude()
		require.Equal(t, []string{want}, s.Notes)
		var b bytes.Buffer
		require.NoError(t, s.WriteTable(&b))
		require.Contains(t, b.String(), "Note: "+want+".\n")
	}
}

// TestGoalsAreOfTheCPU leaves other devices without, and other temperatures
// without a word on tokens.
func TestGoalsAreOfTheCPU(t *testing.T) {
	s := sample()
	s.Machine.Device, s.Machine.GPU = "gpu", "A GPU"
	s.Workload.Temperature, s.Programs[1].IDs = 0.7, []int32{9}
	s.conclude()
	require.Empty(t, s.Notes)
	var b bytes.Buffer
	require.NoError(t, s.WriteTable(&b))
	require.Contains(t, b.String(), "same tokens          4 of 4\n")
	for _, r := range s.Ratios {
		require.Zero(t, r.Goal, r.Name)
	}
	for name := range goals {
		require.Contains(t, []string{"decode / roofline", "decode / mlx-lm", "prefill / mlx-lm", "load / mlx-lm"}, name)
	}
}

func TestSummarySurvivesJSON(t *testing.T) {
	s := sample()
	text, err := s.JSON()
	require.NoError(t, err)
	again, err := ReadSummary(text)
	require.NoError(t, err)
	require.Equal(t, s, again)
	require.True(t, bytes.HasSuffix(text, []byte("}\n")))
	for _, name := range []string{`"load_average"`, `"blas_core"`, `"decode_tokens_per_second"`, `"median"`, `"bytes_per_token"`} {
		require.Contains(t, string(text), name)
	}
}

func TestReadSummaryRefuses(t *testing.T) {
	text, err := sample().JSON()
	require.NoError(t, err)
	edited := func(old, now string) string {
		require.Contains(t, string(text), old)
		return strings.Replace(string(text), old, now, 1)
	}
	for in, want := range map[string]string{
		"":                                   "not a summary of a benchmark",
		"[]":                                 "not a summary of a benchmark",
		"{}":                                 "a summary of schema 0, this program reads 1: measure anew",
		edited(`"schema": 1`, `"schema": 2`): "a summary of schema 2",
		edited(`"notes"`, `"remarks"`):       `a broken summary: json: unknown field "remarks"`,
		edited(`"name": "harmonyd"`, `"name": "other"`): "a broken summary: its first program is not harmonyd",
		`{"schema": 1, "programs": []}`:                 "a broken summary: its first program is not harmonyd",
		`{"schema": 1, "programs": [null]}`:             "a broken summary: its first program is not harmonyd",
		edited(`"cores": 2`, `"cores": "two"`):          "a broken summary",
	} {
		_, err := ReadSummary([]byte(in))
		require.ErrorContains(t, err, want)
	}
}

func TestComparison(t *testing.T) {
	old, now := sample(), sample()
	old.Versions.Label = "before"
	now.Programs[0].Decode = newFigure([]float64{44, 45, 43, 44, 44})
	now.Programs[0].Load = newFigure([]float64{405, 412, 395, 405, 405})
	now.Programs[0].Prefill = newFigure([]float64{412, 400, 407, 407, 407})
	now.Programs[2] = now.Programs[1] // measured, and was not
	now.Counts.Decode.Ops, now.Counts.Prefill.Allocs = 1200, 31
	now.conclude()
	var b bytes.Buffer
	require.NoError(t, now.WriteComparison(&b, old))
	require.Equal(t, `Compared with harmonyd v1 (before) of 2026-01-02 03:04 UTC

                             then                 now                  change
harmonyd load         ms     400 (390 to 410)     405 (395 to 412)     +1.2 %   noise
harmonyd first token  ms     1010 (1000 to 1024)  1010 (1000 to 1024)  +0.0 %   noise
harmonyd prefill      tok/s  507 (500 to 512)     407 (400 to 412)     -19.7 %  worse
harmonyd decode       tok/s  34.0 (33.0 to 35.0)  44.0 (43.0 to 45.0)  +29.4 %  better
`, strings.Join(strings.SplitAfter(b.String(), "\n")[:7], ""))
	for _, line := range []string{
		"decode / mlx-lm              1.70 (1.65 to 1.75)  2.20 (2.15 to 2.25)  +29.4 %  better",
		"prefill: Go allocations rose from 30 to 31 in 512 tokens\ndecode: operations fell from 1560 to 1200 in 3 tokens\n",
	} {
		require.Contains(t, b.String(), line)
	}
	require.NotContains(t, b.String(), "Not the same")
}

func TestComparisonOfOtherThings(t *testing.T) {
	old, now := sample(), sample()
	var b bytes.Buffer
	require.NoError(t, now.WriteComparison(&b, old))
	require.Contains(t, b.String(), "All counts are the same.")
	now.Workload.Runs = 9 // makes nothing else
	require.Empty(t, now.differences(old))

	now.Machine.CPU, now.Machine.Threads, now.Model.ID, now.Workload.Tokens = "B", 4, "other", 8
	now.Versions.MLX, now.Programs[0].Weights, now.Counts.Decode.Tokens = "1", "packed", 7
	b.Reset()
	require.NoError(t, now.WriteComparison(&b, old))
	for _, line := range []string{
		"Not the same: CPU is B, was A CPU.\n", "Not the same: threads is 4, was 2.\n", "Not the same: MLX is 1, was 0.32.2.\n",
		"Not the same: model is {other llama", "Not the same: workload is {512 abc 8", "Not the same: weights in memory is packed, was float32.\n",
		"The counts of the decode are over 7 tokens and were over 3.\n",
	} {
		require.Contains(t, b.String(), line)
	}
}

// TestNumbersHaveThreeDigits holds the borders.
func TestNumbersHaveThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.004: "0.00", 1.234: "1.23", 9.99: "9.99", 9.996: "10.0", 12.34: "12.3", 99.94: "99.9", 99.96: "100", 1234.5: "1234", -12.34: "-12.3",
	} {
		require.Equal(t, want, number(v))
	}
	require.Equal(t, "–", megabytes(0))
	require.Equal(t, "7.00", newFigure([]float64{7}).text())
	require.Equal(t, "–", Figure{}.text())
	require.Equal(t, "–", percent(0, 3))
}
