package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	flags "flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/native"
)

var (
	roundTrips   = flags.Int("roundtrips", 20_000, "how many texts TestP3RoundTrip encodes and decodes")
	tokenizerOut = flags.String("tokenizerout", "", "a file to write the default model's tokenizer.json to, for the script that makes the goldens")
)

// defaultTokenizer opens the default model's tokenizer.
func defaultTokenizer(t testing.TB) *native.Tokenizer {
	root, id := defaultModel(t)
	if *tokenizerOut != "" {
		data, err := os.ReadFile(filepath.Join(root, id, "tokenizer.json"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(*tokenizerOut, data, 0o644))
	}
	text, err := readTexts(filepath.Join(root, id))
	require.NoError(t, err)
	t.Cleanup(text.close)
	return text.tokenizer
}

// hfGolden is what testdata/tokenizer_hf.py writes.
type hfGolden struct {
	Pieces      []string
	With, Plain string // CRC-32 of each string's ids, eight digits each
}

// text is the nth string, see the script.
func (g *hfGolden) text(n uint64) string {
	state := splitmix(n)
	var b strings.Builder
	for range 1 + state%10 {
		state = splitmix(state)
		b.WriteString(g.Pieces[state%uint64(len(g.Pieces))])
	}
	return b.String()
}

func splitmix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func readHF(t testing.TB) *hfGolden {
	data, err := os.ReadFile("testdata/tokenizer_hf.json")
	require.NoError(t, err)
	g := new(hfGolden)
	require.NoError(t, json.Unmarshal(data, g))
	return g
}

// TestP3ParityWithHF encodes 12,000 strings, with special tokens recognized and
// as ordinary text, as Hugging Face's tokenizers does.
//
// Planted break: spans of ordinary text that are encoded with special tokens.
func TestP3ParityWithHF(t *testing.T) {
	tokenizer := defaultTokenizer(t)
	golden := readHF(t)
	require.GreaterOrEqual(t, len(golden.With), 8*12_000)
	differ := 0
	for n := range len(golden.With) / 8 {
		text := golden.text(uint64(n))
		for special, sums := range map[bool]string{true: golden.With, false: golden.Plain} {
			ids, err := tokenizer.Encode(text, special)
			require.NoError(t, err)
			var raw []byte
			for _, id := range ids {
				raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
			}
			require.Equal(t, sums[8*n:8*n+8], fmt.Sprintf("%08x", crc32.ChecksumIEEE(raw)), "%q, special tokens %v: %v", text, special, ids)
		}
		if golden.With[8*n:8*n+8] != golden.Plain[8*n:8*n+8] {
			differ++
		}
	}
	t.Logf("%d strings, %d of them with special tokens", len(golden.With)/8, differ)
	require.Greater(t, differ, 500)
}

// TestP3RoundTrip encodes and decodes texts of the parity test's pieces and of
// random characters. Decoding gives the text back, streaming and at once, and as
// ordinary text no text becomes a control token. make fuzz-long runs 20 million.
//
// Planted break: a decoder that drops the space before a word.
func TestP3RoundTrip(t *testing.T) {
	tokenizer := defaultTokenizer(t)
	pieces := readHF(t).Pieces
	var control []int32
	for _, s := range tokenizer.Specials() {
		if s.Control {
			control = append(control, s.ID)
		}
	}
	require.NotEmpty(t, control)
	// Like many small vocabularies this one lacks a few bytes, and Hugging Face's
	// tokenizers drop a byte that has no token.
	var known [256]bool
	for id := range tokenizer.VocabSize() {
		if b := tokenizer.TokenBytes(int32(id)); len(b) == 1 {
			known[b[0]] = true
		}
	}
	missing := func(b byte) bool { return !known[b] }
	rng := rand.New(rand.NewPCG(3, 4))
	var ids []int32
	var text, back []byte
	for n := range *roundTrips {
		text = text[:0]
		for range 1 + rng.IntN(6) {
			switch rng.IntN(3) {
			case 0:
				text = utf8.AppendRune(text, rune(rng.IntN(1<<[...]int{7, 8, 11, 16, 20}[rng.IntN(5)]))) // a surrogate becomes U+FFFD
			default:
				text = append(text, pieces[rng.IntN(len(pieces))]...)
			}
		}
		text = slices.DeleteFunc(bytes.ToValidUTF8(slices.DeleteFunc(text, missing), nil), missing)
		want, special := string(text), n%2 == 0
		var err error
		ids, err = tokenizer.EncodeInto(ids[:0], want, special)
		require.NoError(t, err)
		stream := tokenizer.NewStream().KeepSpecial()
		back = back[:0]
		for _, id := range ids {
			if !special && slices.Contains(control, id) {
				t.Fatalf("%q as ordinary text holds the control token %d", want, id)
			}
			back = stream.AppendStep(back, id)
		}
		if back = stream.AppendFlush(back); string(back) != want {
			t.Fatalf("%q became %q by %v", want, back, ids)
		}
		if n%16 == 0 {
			whole, err := tokenizer.Decode(ids, false)
			require.NoError(t, err)
			require.Equal(t, want, whole)
		}
	}
	t.Logf("%d round trips, no finding", *roundTrips)
}
