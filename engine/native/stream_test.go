package native

import (
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// streamed decodes ids one at a time, checking that every part is whole
// characters.
func streamed(t *testing.T, tok *Tokenizer, ids []int32, skip bool) string {
	t.Helper()
	s := tok.NewStream()
	if !skip {
		s.KeepSpecial()
	}
	var out []byte
	for _, id := range ids {
		part, err := s.Step(id)
		require.NoError(t, err)
		require.True(t, utf8.ValidString(part), "%q", part)
		out = append(out, part...)
	}
	return string(s.AppendFlush(out))
}

func TestStreamIsDecodeOnEveryText(t *testing.T) {
	for _, f := range fixtures {
		tok := load(t, f.json(t))
		for _, text := range append(hostile(tok), texts...) {
			ids, err := tok.Encode(text, true)
			require.NoError(t, err)
			for _, skip := range []bool{false, true} {
				// Every beginning of the ids, so that every break in a
				// character is met.
				for n := range len(ids) + 1 {
					if n > 40 && n < len(ids) {
						continue
					}
					want, err := tok.Decode(ids[:n], skip)
					require.NoError(t, err)
					if f.name == "pieces" && brokenRow(tok, ids[:n]) {
						continue
					}
					require.Equal(t, want, streamed(t, tok, ids[:n], skip), "%s: %q at %d", f.name, text, n)
				}
			}
		}
	}
}

// brokenRow reports whether ids have a row of byte tokens that is no UTF-8 as a
// whole.
func brokenRow(tok *Tokenizer, ids []int32) bool {
	var row []byte
	for _, id := range append(ids, 0) {
		if id >= 0 && int(id) < tok.VocabSize() && tok.table.flags[id]&byteToken != 0 {
			row = append(row, tok.TokenBytes(id)...)
			continue
		}
		if tok.TokenBytes(id) == nil {
			continue
		}
		if !utf8.Valid(row) {
			return true
		}
		row = nil
	}
	return false
}

func TestStreamIsDecodeOnRandomIDs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range fixtures[:3] {
		tok := load(t, f.json(t))
		compared := 0
		for range 3000 {
			ids := randomIDs(r, tok)
			if f.name == "pieces" && brokenRow(tok, ids) {
				streamed(t, tok, ids, true)
				continue
			}
			compared++
			for _, skip := range []bool{false, true} {
				want, err := tok.Decode(ids, skip)
				require.NoError(t, err)
				require.Equal(t, want, streamed(t, tok, ids, skip), "%s: %v", f.name, ids)
			}
		}
		require.Greater(t, compared, 200, f.name)
	}
}

func TestStreamOfAnyBytes(t *testing.T) {
	// The byte-level fixture has a token for each byte: id b is byte b.
	tok := load(t, byteLevelJSON(t))
	for _, text := range []string{
		"\xff", "a\xc3", "\xc3a", "\xc3\xc3\xa9", "\xe2\x82", "\xe2\x82a", "\xe2\x28\xa1", "\xf0\x9f\x98",
		"\xf0\x9f\x98\x80", "\xf0\x28\x8c\xbc", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf", "\xe0\x80\xaf",
		"\xf8\x88\x80\x80\x80", "\x80\x80", "\xf0\x9f\xf0\x9f\x98\x80", "\xe2\x82\xe2\x82\xac", "é\xe9é",
	} {
		var ids []int32
		for _, b := range []byte(text) {
			ids = append(ids, int32(b))
		}
		want, err := tok.Decode(ids, true)
		require.NoError(t, err)
		require.Equal(t, want, streamed(t, tok, ids, true), "%q", text)
	}
	r := rand.New(rand.NewPCG(3, 4))
	lead := []byte{0x41, 0x80, 0xbf, 0xc2, 0xe0, 0xe2, 0xed, 0xf0, 0xf4, 0x9f, 0x90, 0xa0}
	for range 20000 {
		ids := make([]int32, r.IntN(9))
		for i := range ids {
			ids[i] = int32(lead[r.IntN(len(lead))])
		}
		want, err := tok.Decode(ids, true)
		require.NoError(t, err)
		require.Equal(t, want, streamed(t, tok, ids, true), "%x", ids)
	}
}

func TestStreamKeepsWhatCameBeforeABrokenByteToken(t *testing.T) {
	tok := load(t, pieceJSON(t))
	id := func(b byte) int32 { return int32(b) + 3 }
	for _, c := range []struct {
		bytes, want string
	}{
		{"\xc3\xa9", "é"}, {"\xc3", "�"}, {"\xc3\xa9\xc3", "é�"}, {"\xe2\x82", "��"},
		{"\xf0\x9f\x98\x80\xff", "😀�"}, {"\xe2\x82a", "��a"}, {"  a", " a"},
	} {
		var ids []int32
		for _, b := range []byte(c.bytes) {
			ids = append(ids, id(b))
		}
		require.Equal(t, c.want, streamed(t, tok, ids, true), "%q", c.bytes)
	}
}

func TestStreamStepsDoNotAllocate(t *testing.T) {
	for _, f := range fixtures[:2] {
		tok := load(t, f.json(t))
		ids, err := tok.Encode("The quick 日本語 👨‍👩‍👧‍👦 text", true)
		require.NoError(t, err)
		s := tok.NewStream()
		buf := make([]byte, 0, 1024)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			buf = buf[:0]
			for _, id := range ids {
				buf = s.AppendStep(buf, id)
			}
		}), f.name)
	}
}

func FuzzStream(f *testing.F) {
	tok, err := LoadTokenizer(byteLevelJSON(f), nil)
	require.NoError(f, err)
	f.Cleanup(tok.Close)
	f.Add([]byte("héllo \xff\xe2\x82"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ids := make([]int32, 0, len(raw))
		for i, b := range raw {
			// Byte tokens mostly, any token now and then.
			id := int32(b)
			if i%5 == 4 {
				id = id * 3 % int32(tok.VocabSize())
			}
			ids = append(ids, id)
		}
		want, err := tok.Decode(ids, true)
		require.NoError(t, err)
		require.Equal(t, want, streamed(t, tok, ids, true))
	})
}

func BenchmarkStreamStep(b *testing.B) {
	tok := load(b, byteLevelJSON(b))
	ids, err := tok.Encode(corpus, true)
	require.NoError(b, err)
	s := tok.NewStream()
	buf := make([]byte, 0, 64)
	for i := 0; b.Loop(); i++ {
		buf = s.AppendStep(buf[:0], ids[i%len(ids)])
	}
}
