package weights

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A malformedGGUF is a file and the whole error it gives after its name.
type malformedGGUF struct {
	name string
	file []byte
	want string
}

// valid is a small file to break: two tensors and a few keys.
func validGGUF() ggufFile {
	return ggufFile{magic: "GGUF", version: 3, alignment: 32, data: make([]byte, 96),
		keys:  [][]byte{text("general.name", "x"), number("n", 1)},
		infos: [][]byte{info("a", 0, 0, 3), info("b", 2, 32, 32, 2)}}
}

// broken is a validGGUF after a change.
func broken(name, want string, change func(*ggufFile)) malformedGGUF {
	f := validGGUF()
	change(&f)
	return malformedGGUF{name, f.bytes(), want}
}

// brokenKey is a validGGUF with one more key.
func brokenKey(name, want string, key []byte) malformedGGUF {
	return broken(name, want, func(f *ggufFile) { f.keys = append(f.keys, key) })
}

// brokenInfo is a validGGUF with other tensor infos.
func brokenInfo(name, want string, infos ...[]byte) malformedGGUF {
	return broken(name, want, func(f *ggufFile) { f.infos = infos })
}

// cut is a validGGUF that ends after n bytes.
func cut(name, want string, n int) malformedGGUF {
	return malformedGGUF{name, validGGUF().bytes()[:n], want}
}

func malformedGGUFs() []malformedGGUF { return append(malformedKeys(), malformedInfos()...) }

func malformedKeys() []malformedGGUF {
	valid := validGGUF().bytes()
	keysOnly := validGGUF()
	keysOnly.nTensors = uint64(0)
	return []malformedGGUF{
		{"empty", nil, `magic: needs 4 bytes at offset 0, the file has 0 left`},
		{"other magic", safetensors("{}", 0), `magic: is "\x02\x00\x00\x00", not a GGUF file`},
		{"cut version", valid[:6], `version: needs 4 bytes at offset 4, the file has 2 left`},
		broken("version 0", `version: 0 is unknown, want 2 or 3`, func(f *ggufFile) { f.version = 0 }),
		broken("version 1", `version: 1 is not supported, want 2 or 3`, func(f *ggufFile) { f.version = 1 }),
		broken("big-endian", `version: the file is big-endian, which is not supported`, func(f *ggufFile) { f.version = 3 << 24 }),
		{"no counts", valid[:8], `tensor count: needs 8 bytes at offset 8, the file has 0 left`},
		broken("tensor count beyond the limit", `tensor count: count 4294967296, at most 131072 are read`, func(f *ggufFile) { f.nTensors = uint64(1 << 32) }),
		broken("tensor count beyond the file", `tensor count: count 131072, the 240 bytes left hold at most 7`, func(f *ggufFile) { f.nTensors = uint64(131072) }),
		{"no key count", keysOnly.bytes()[:16], `key count: needs 8 bytes at offset 16, the file has 0 left`},
		broken("key count beyond the limit", `key count: count 65537, at most 65536 are read`, func(f *ggufFile) { f.nKeys = uint64(65537) }),
		broken("key count beyond the file", `key count: count 65536, the 232 bytes left hold at most 16`, func(f *ggufFile) { f.nKeys = uint64(65536) }),
		broken("one key too many", `key 2: string of 206158430209 bytes, at most 1024 are read`, func(f *ggufFile) { f.nKeys = uint64(3); f.infos[0] = append(u32(1), u32(48)...) }),

		{"cut key length", keysOnly.bytes()[:60], `key 1: needs 8 bytes at offset 57, the file has 3 left`},
		{"cut key", keysOnly.bytes()[:65], `key 1: needs 1 bytes at offset 65, the file has 0 left`},
		{"cut type", keysOnly.bytes()[:68], `key "n": needs 4 bytes at offset 66, the file has 2 left`},
		{"cut value", keysOnly.bytes()[:73], `key "n": needs 4 bytes at offset 70, the file has 3 left`},
		brokenKey("empty key", `key 2: name "" is empty`, text("", "x")),
		brokenKey("control byte in key", `key 2: name "a\x00" holds the control character U+0000`, text("a\x00", "x")),
		brokenKey("key is not UTF-8", `key 2: string "\xff" is not valid UTF-8`, text("\xff", "x")),
		brokenKey("key twice", `key "n": appears twice`, number("n", 2)),
		brokenKey("unknown type", `key "k": has the unknown type 13`, key("k", 13, make([]byte, 8))),
		brokenKey("bool is 2", `key "k": bool is 2`, key("k", ggufBool, []byte{2})),
		brokenKey("long string", `key "k": string of 4194305 bytes, at most 4194304 are read`, key("k", ggufString, u64(maxGGUFString+1))),
		brokenKey("string beyond the file", `key "k": needs 4096 bytes at offset 95, the file has 193 left`, key("k", ggufString, u64(4096))),
		brokenKey("string is not UTF-8", `key "k": string "a\xc3" is not valid UTF-8`, text("k", "a\xc3")),
		brokenKey("array of arrays", `key "k": is an array of arrays, which is not supported`, list("k", ggufArray, list("", ggufUint8))),
		brokenKey("array of an unknown type", `key "k": is an array of the unknown type 99`, list("k", 99)),
		{"cut array type", append(keysOnly.bytes()[:66], u32(ggufArray)...), `key "n": needs 4 bytes at offset 70, the file has 0 left`},
		brokenKey("array count beyond the limit", `key "k": count 16777217, at most 16777216 are read`, key("k", ggufArray, append(u32(ggufUint8), u64(maxGGUFElements+1)...))),
		brokenKey("array count beyond the file", `key "k": count 16777216, the 189 bytes left hold at most 23`, key("k", ggufArray, append(u32(ggufUint64), u64(maxGGUFElements)...))),
		brokenKey("string array beyond the file", `key "k": count 999, the 189 bytes left hold at most 23`, key("k", ggufArray, append(append(u32(ggufString), u64(999)...), 0))),
		brokenKey("array element beyond int64", `key "k": element 18446744073709551615 is out of range`, list("k", ggufUint64, u64(1), u64(math.MaxUint64))),
		brokenKey("array element is not UTF-8", `key "k": string "\x80" is not valid UTF-8`, list("k", ggufString, str("a"), str("\x80"))),
		brokenKey("array element beyond the file", `key "k": needs 1000 bytes at offset 107, the file has 181 left`, list("k", ggufString, u64(1000))),
		brokenKey("alignment is a string", `key "general.alignment": is a string, want an integer below 2^63`, text("general.alignment", "32")),
		brokenKey("alignment is a float", `key "general.alignment": is a float, want an integer below 2^63`, key("general.alignment", ggufFloat32, f32(32))),
		brokenKey("alignment is an array", `key "general.alignment": is an array, want an integer below 2^63`, list("general.alignment", ggufUint8)),
		brokenKey("alignment is a bool", `key "general.alignment": is a bool, want an integer below 2^63`, key("general.alignment", ggufBool, []byte{1})),
		brokenKey("alignment beyond int64", `key "general.alignment": is the integer 18446744073709551615, want an integer below 2^63`, key("general.alignment", ggufUint64, u64(math.MaxUint64))),
		brokenKey("alignment is negative", `key "general.alignment": is -32, want at least 0`, key("general.alignment", ggufInt32, u32(uint32(0xffffffe0)))),
		brokenKey("alignment is 0", `key "general.alignment": is 0, want a power of two from 8 to 1048576`, number("general.alignment", 0)),
	}
}

func malformedInfos() []malformedGGUF {
	big := strings.Repeat("k", maxGGUFKey+1)
	return []malformedGGUF{
		broken("no infos", `tensor 0: needs 8 bytes at offset 102, the file has 0 left`, func(f *ggufFile) {
			f.nTensors, f.infos, f.data, f.alignment = uint64(2), nil, nil, 1
			f.keys[1] = text("long enough for the count", "")
		}),
		brokenInfo("name beyond the file", `tensor 0: needs 1000 bytes at offset 82, the file has 110 left`, u64(1000)),
		brokenInfo("long name", `tensor 0: string of 1025 bytes, at most 1024 are read`, info(big, 0, 0, 1)),
		brokenInfo("empty name", `tensor 0: name "" is empty`, info("", 0, 0, 1)),
		brokenInfo("newline in name", `tensor 0: name "a\nb" holds the control character U+000A`, info("a\nb", 0, 0, 1)),
		brokenInfo("name twice", `tensor "a": appears twice`, info("a", 0, 0, 3), info("a", 0, 32, 3)),
		brokenInfo("no dimensions", `tensor "a": has 0 dimensions, want 1 to 4`, info("a", 0, 0)),
		brokenInfo("dimension 0", `tensor "a": dimension 0 is 0, want 1 to 2147483647`, info("a", 0, 0, 0)),
		brokenInfo("dimension beyond int32", `tensor "a": dimension 1 is 2147483648, want 1 to 2147483647`, info("a", 0, 0, 1, 1<<31)),
		brokenInfo("shape overflows", `tensor "a": [2147483647 2147483647 2147483647] of F32 overflows`, info("a", 0, 0, math.MaxInt32, math.MaxInt32, math.MaxInt32)),
		brokenInfo("part of a block", `tensor "a": rows of 33 elements are not whole Q4_0 blocks of 32`, info("a", 2, 0, 33)),
		brokenInfo("type of another family", `tensor "a": type IQ2_XS is not supported; take the model as F16, BF16, Q8_0, `+
			`Q4_0 to Q5_1 or Q2_K to Q6_K (files named Q4_K_M and the like)`, info("a", 17, 0, 256)),
		brokenInfo("type that was removed", `tensor "a": type 4 is unknown`, info("a", 4, 0, 32)),
		brokenInfo("offset beyond int64", `tensor "a": offset 9223372036854775808 is out of range`, info("a", 0, 1<<63, 3)),
		brokenInfo("offset is not aligned", `tensor "a": offset 4 is not a multiple of the alignment 32`, info("a", 0, 4, 3)),
		brokenInfo("hole before the first", `tensor "a": offset 32 leaves a hole, want 0`, info("a", 0, 32, 3)),
		brokenInfo("hole between", `tensor "b": offset 64 leaves a hole, want 32`, info("a", 0, 0, 3), info("b", 0, 64, 3)),
		brokenInfo("overlap", `tensor "b": offset 0 is inside the tensor before it, which ends at 32`, info("a", 0, 0, 3), info("b", 0, 0, 3)),
		brokenInfo("larger than the file", `tensor "a": needs 400000 bytes at data offset 0, the whole file has 224`, info("a", 0, 0, 100000)),
		brokenInfo("runs over the end", `tensor "a": ends at 228, the file has 224 bytes`, info("a", 0, 0, 25)),
		broken("data cut", `tensor "b": ends at 228, the file has 227 bytes`, func(f *ggufFile) { f.data = f.data[:67] }),
		broken("no data", `tensor data: begins at 160, the file has 148 bytes`, func(f *ggufFile) { f.data, f.alignment = nil, 1 }),
		broken("data after the end", `tensor data: 1 bytes follow the last tensor`, func(f *ggufFile) { f.data = append(f.data, 0) }),
		cut("cut rank", `tensor "b": needs 4 bytes at offset 116, the file has 2 left`, 118),
		cut("cut dimension", `tensor "b": needs 8 bytes at offset 120, the file has 4 left`, 124),
		cut("cut tensor type", `tensor "b": needs 4 bytes at offset 136, the file has 1 left`, 137),
		cut("cut offset", `tensor "b": needs 8 bytes at offset 140, the file has 7 left`, 147),
	}
}

// alikeGGUFs are further values for checks that files of the other tables fail.
func alikeGGUFs() []malformedGGUF {
	valid := validGGUF().bytes()
	big := strings.Repeat("k", maxGGUFKey+1)
	return []malformedGGUF{
		{"cut magic", valid[:3], `magic: needs 4 bytes at offset 0, the file has 3 left`},
		{"GGML of old", []byte("lmggXXXX"), `magic: is "lmgg", not a GGUF file`},
		broken("version 4", `version: 4 is unknown, want 2 or 3`, func(f *ggufFile) { f.version = 4 }),
		broken("tensor count beyond int64", `tensor count: count 18446744073709551615, at most 131072 are read`, func(f *ggufFile) { f.nTensors = uint64(math.MaxUint64) }),
		brokenKey("long key", `key 2: string of 1025 bytes, at most 1024 are read`, text(big, "")),
		brokenKey("string beyond int64", `key "k": string of 18446744073709551615 bytes, at most 4194304 are read`, key("k", ggufString, u64(math.MaxUint64))),
		brokenKey("alignment is 24", `key "general.alignment": is 24, want a power of two from 8 to 1048576`, number("general.alignment", 24)),
		brokenKey("alignment is huge", `key "general.alignment": is 2097152, want a power of two from 8 to 1048576`, number("general.alignment", 1<<21)),
		brokenInfo("5 dimensions", `tensor "a": has 5 dimensions, want 1 to 4`, info("a", 0, 0, 1, 1, 1, 1, 1)),
		brokenInfo("dimension beyond int64", `tensor "a": dimension 0 is 18446744073709551615, want 1 to 2147483647`, info("a", 0, 0, math.MaxUint64)),
		brokenInfo("type beyond the enum", `tensor "a": type 4294967295 is unknown`, info("a", math.MaxUint32, 0, 32)),
	}
}

func TestMalformedGGUF(t *testing.T) {
	cases := append(malformedGGUFs(), alikeGGUFs()...)
	seen := make(map[string]string)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			folder := &memFolder{files: map[string][]byte{"m.gguf": c.file}}
			_, err := OpenGGUFIn(folder, "m.gguf")
			require.EqualError(t, err, "m.gguf: "+c.want)
			require.Zero(t, folder.open)
			var format *FormatError
			require.True(t, errors.As(err, &format))
		})
		require.Empty(t, seen[c.want], "%s has the error of another case", c.name)
		seen[c.want] = c.name
	}
}

func TestHeaderBeyondTheLimit(t *testing.T) {
	r := &ggufReader{name: "m.gguf", field: "key 7", pos: maxGGUFHeader - 3, size: math.MaxInt64}
	_, err := r.u32()
	require.EqualError(t, err, "m.gguf: key 7: header is longer than 536870912 bytes")
	require.EqualError(t, r.skip(4), "m.gguf: key 7: header is longer than 536870912 bytes")
}

func TestOpenGGUF(t *testing.T) {
	f := validGGUF()
	f.version = 2
	f.keys = append(f.keys, number("general.alignment", 64), key("i8", ggufInt8, []byte{0xff}),
		key("i16", ggufInt16, []byte{0xfe, 0xff}), key("i64", ggufInt64, u64(math.MaxUint64)), key("f64", ggufFloat64, u64(math.Float64bits(1.5))),
		list("f", ggufFloat32, f32(1), f32(2)), list("b", ggufBool, []byte{0}, []byte{1}), list("none", ggufString))
	f.infos = [][]byte{info("a", 0, 0, 3), info("b", 2, 64, 32, 2)}
	f.alignment, f.data = 64, make([]byte, 128)
	copy(f.data[64:], "bytes of b")
	path := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(path, f.bytes(), 0o644))
	g, err := OpenGGUF(path)
	require.NoError(t, err)
	require.Equal(t, uint32(2), g.Version)
	require.Equal(t, []int{2, 32}, g.Tensors[1].Shape)
	require.Equal(t, "Q4_0", g.Tensors[1].Type())
	require.Equal(t, int64(36), g.Tensors[1].Bytes)
	for name, want := range map[string]any{"i8": int64(-1), "i16": int64(-2), "i64": int64(-1), "f64": 1.5,
		"f": []float64{1, 2}, "b": []bool{false, true}, "none": []string{}, "general.name": "x"} {
		got, _ := g.value(name)
		require.Equal(t, want, got, name)
	}
	p := make([]byte, 5)
	require.NoError(t, g.ReadAt(&g.Tensors[1], p, 9))
	require.Equal(t, "b\x00\x00\x00\x00", string(p))
	require.EqualError(t, g.ReadAt(&g.Tensors[1], p, 32), `m.gguf: read tensor "b": 5 bytes at 32, it has 36`)
	require.EqualError(t, g.ReadAt(&g.Tensors[1], p, -1), `m.gguf: read tensor "b": 5 bytes at -1, it has 36`)
	require.NoError(t, g.Close())
	require.ErrorContains(t, g.Close(), "m.gguf: close: ")
	_, err = OpenGGUF(path + "x")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestEveryFaultWhileReadingGGUF fails each call in turn, over a header that is
// longer than what is read ahead.
func TestEveryFaultWhileReadingGGUF(t *testing.T) {
	f := validGGUF()
	f.keys = append(f.keys, list("s", ggufString, str("a"), str("b")), slices.Concat(str("small"), u32(ggufArray), u32(ggufInt16), u64(100_000), make([]byte, 200_000)))
	files := map[string][]byte{"m.gguf": f.bytes()}
	read := func(folder *memFolder) error {
		g, err := OpenGGUFIn(folder, "m.gguf")
		if err != nil {
			return err
		}
		for i := range g.Tensors {
			x := &g.Tensors[i]
			if err := g.ReadAt(x, make([]byte, x.Bytes), 0); err != nil {
				return errors.Join(fmt.Errorf("tensor %q: %w", x.Name, err), g.Close())
			}
		}
		return errors.Join(g.unchanged(), g.Close())
	}
	healthy := &memFolder{files: files}
	require.NoError(t, read(healthy))
	for fail := 1; fail <= healthy.turns; fail++ {
		for _, how := range []fault{failing, short, truncated} {
			folder := &memFolder{files: files, fail: fail, how: how}
			err := read(folder)
			require.Zero(t, folder.open)
			switch {
			case how == failing:
				require.ErrorIs(t, err, errFault, "call %d", fail)
				require.ErrorContains(t, err, "m.gguf")
			case how == truncated && folder.hit:
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, "call %d", fail)
				require.ErrorContains(t, err, "m.gguf")
			case err != nil: // a short read of a tensor; those of the header are made good
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, "call %d", fail)
			}
		}
	}
}

func TestGGUFWithoutTensors(t *testing.T) {
	f := validGGUF()
	f.infos, f.data, f.alignment = nil, nil, 1
	_, err := OpenGGUFIn(&memFolder{files: map[string][]byte{"m.gguf": f.bytes()}}, "m.gguf")
	require.NoError(t, err)
}

func TestFloat16(t *testing.T) {
	for h := range 1 << 16 {
		x := float16(uint16(h))
		exponent, fraction := h>>10&0x1f, h&0x3ff
		if exponent == 0x1f {
			require.Equal(t, fraction == 0, math.IsInf(float64(x), 0))
			require.Equal(t, fraction != 0, x != x)
			_, exact := toFloat16(x)
			require.False(t, exact)
			continue
		}
		want := math.Ldexp(float64(fraction), -24)
		if exponent > 0 {
			want = math.Ldexp(float64(1<<10|fraction), exponent-25)
		}
		if h>>15 == 1 {
			want = -want
		}
		require.Equal(t, want, float64(x))
		back, exact := toFloat16(x)
		require.True(t, exact)
		require.Equal(t, uint16(h), back)
		// Nothing between two neighbours is exact.
		_, exact = toFloat16(math.Float32frombits(math.Float32bits(x) | 1))
		require.False(t, exact)
	}
	for _, x := range []float32{65520, 1e9, 1e-9, math.SmallestNonzeroFloat32} {
		_, exact := toFloat16(x)
		require.False(t, exact, x)
	}
	h, exact := toBFloat16(-1.5)
	require.True(t, exact)
	require.Equal(t, uint16(0xbfc0), h)
	for _, x := range []float32{1.001, float32(math.Inf(1)), float32(math.NaN())} {
		_, exact = toBFloat16(x)
		require.False(t, exact, x)
	}
}
