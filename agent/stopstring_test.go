package agent

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// firstStop is the definition: the stop string that is complete first, and of
// those the longest.
func firstStop(text string, stops []string) (at, found int) {
	for end := 1; end <= len(text); end++ {
		found := -1
		for i, s := range stops {
			if strings.HasSuffix(text[:end], s) && (found < 0 || len(s) > len(stops[found])) {
				found = i
			}
		}
		if found >= 0 {
			return end - len(stops[found]), found
		}
	}
	return len(text), -1
}

// heldBack is the longest end of text that may begin a stop string.
func heldBack(text string, stops []string) int {
	held := 0
	for _, s := range stops {
		for n := 1; n < len(s) && n <= len(text); n++ {
			if strings.HasSuffix(text, s[:n]) {
				held = max(held, n)
			}
		}
	}
	return held
}

// checkStops feeds text in pieces and compares with the definition.
func checkStops(t *testing.T, stops, pieces []string) {
	t.Helper()
	text := strings.Join(pieces, "")
	at, want := firstStop(text, stops)
	s := newStopStrings(stops)
	var got strings.Builder
	fed := 0
	for _, p := range pieces {
		out, found := s.next([]byte(p))
		fed += len(p)
		got.Write(out)
		if found >= 0 {
			require.Equal(t, want, found)
			require.Equal(t, text[:at], got.String())
			return
		}
		require.Equal(t, fed-heldBack(text[:fed], stops), got.Len(), "held back after %q", text[:fed])
	}
	require.Negative(t, want, "missed %q", stops)
	got.Write(s.flush())
	require.Equal(t, text, got.String())
}

func TestStopStrings(t *testing.T) {
	for _, c := range []struct {
		text  string
		stops []string
	}{
		{"hello", nil},
		{"hello world", []string{"wor"}},
		{"aaab", []string{"aab"}},
		{"ababac", []string{"abac"}},
		{"abcd", []string{"abcd", "b"}},      // b is complete first
		{"xabc", []string{"bc", "abc", "c"}}, // the longest of three
		{"abab", []string{"ababab", "bab"}},  // a failed match is the end of another
		{"aaaaaaaa", []string{"aaaab"}},      // held back and let go
		{"ends with a beginn", []string{"beginning"}},
		{"", []string{"x"}},
		{"x", []string{"x"}},
	} {
		n := len(c.text)
		for split := range n + 1 {
			checkStops(t, c.stops, []string{c.text[:split], c.text[split:]})
		}
		checkStops(t, c.stops, strings.Split(c.text, ""))
		checkStops(t, c.stops, []string{c.text})
	}
}

// FuzzStopStrings splits a text at the places whose bits are set in cuts, with
// up to three stop strings.
func FuzzStopStrings(f *testing.F) {
	f.Add("hello world", "wor", "", "o w", uint64(0b10110))
	f.Add("ababababac", "abac", "bab", "c", uint64(0xffff))
	f.Add("aaaaaaaaab", "aaab", "aaaaaaa", "", uint64(0b100100))
	f.Add("日本語テキスト", "本語", "語", "ト", uint64(0b1001001001))
	f.Fuzz(func(t *testing.T, text, a, b, c string, cuts uint64) {
		if len(text) > 200 {
			return
		}
		var stops []string
		for _, s := range []string{a, b, c} {
			if s != "" && len(s) < 50 {
				stops = append(stops, s)
			}
		}
		var pieces []string
		from := 0
		for i := range len(text) {
			if cuts>>(i%64)&1 == 1 {
				pieces = append(pieces, text[from:i])
				from = i
			}
		}
		checkStops(t, stops, append(pieces, text[from:]))
	})
}

// BenchmarkStopStrings has as many stop strings as the wire takes, as long as
// it takes them.
func BenchmarkStopStrings(b *testing.B) {
	stops := make([]string, 16)
	for i := range stops {
		stops[i] = strings.Repeat("a", 1023-i) + "b"
	}
	s := newStopStrings(stops)
	piece := []byte("aaaa")
	b.ReportAllocs()
	for b.Loop() {
		s.next(piece)
	}
}
