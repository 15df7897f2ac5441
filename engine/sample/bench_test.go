package sample

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/mlx"
)

// BenchmarkSample is what choosing a token costs, from the scores of a real
// vocabulary to the token in Go. Composed is the path of a GPU, on whatever device
// there is. For a comparison, interleave runs: -count 10.
func BenchmarkSample(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, c := range []struct {
		name string
		p    Params
	}{
		{"greedy", Params{}},
		{"temperature", Params{Temperature: 0.7}},
		{"top-p", Params{Temperature: 0.7, TopP: 0.95}},
		{"top-k", Params{Temperature: 0.7, TopK: 40}},
		{"min-p", Params{Temperature: 0.7, MinP: 0.05}},
		{"top-p top-k", Params{Temperature: 0.7, TopP: 0.95, TopK: 40}},
		{"penalties", Params{Repetition: Penalty{1.1, 64}, Presence: Penalty{0.1, 64}, Frequency: Penalty{0.1, 64}}},
		{"all", Params{
			Temperature: 0.7, TopP: 0.95, TopK: 40, MinP: 0.05, MinKeep: 2, XTCProbability: 0.5, XTCThreshold: 0.1,
			XTCSpared: []int32{1, 2}, Bias: []Bias{{5, 1}}, Repetition: Penalty{1.1, 64}, Presence: Penalty{0.1, 64},
			Frequency: Penalty{0.1, 64},
		}},
		{"logprobs", Params{Logprobs: 5}},
	} {
		for rows, path := range []string{1: "chosen", 2: "composed"} {
			if path == "" || path == "composed" && c.p.Temperature == 0 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%s", c.name, path), func(b *testing.B) { benchmarkSample(b, c.p, rows == 2) })
		}
	}
}

func benchmarkSample(b *testing.B, p Params, composed bool) {
	s := mlx.NewScope(mlx.Stream{})
	defer s.Close()
	scores := vectors()["wide"]
	var x mlx.Var
	defer x.Free()
	x.Set(s.FromFloat32s(scores, 1, 1, len(scores)))
	m, err := New(p)
	require.NoError(b, err)
	defer m.Close()
	tokens := make([]int32, 200)
	for i := range tokens {
		tokens[i] = int32(i * 97)
	}
	m.Feed(s, s.FromInt32s(tokens, 1, len(tokens)), 0)
	at := len(tokens)
	for b.Loop() {
		var ids, packed mlx.Array
		if composed {
			kept, of := m.filter(s, m.process(s, x.Array(), at), at)
			ids = s.Categorical(s.Mul(kept, m.constant(s, inverseTemperature)), -1, m.key(s, at))
			if of.Valid() {
				ids = s.Squeeze(s.TakeAlongAxis(of, s.ExpandDims(ids, -1), -1), -1)
			}
		} else {
			ids, packed = m.Sample(s, x.Array(), at)
		}
		if packed.Valid() {
			s.Uint32s(packed, nil)
		} else {
			s.ItemInt32(ids)
		}
		m.Feed(s, ids, at)
		at++
		s.Reset()
	}
	require.NoError(b, s.Err())
}
