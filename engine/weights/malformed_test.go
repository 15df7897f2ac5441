package weights

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A malformed model folder and the whole error it gives.
type malformed struct {
	name  string
	files map[string][]byte
	want  string
}

// one is a folder with one broken model.safetensors.
func one(name string, file []byte, want string) malformed {
	return malformed{name, map[string][]byte{singleFile: file}, singleFile + ": " + want}
}

// entry is a broken entry for the tensor t with 4 bytes of data.
func entry(name, members, want string) malformed {
	return one(name, safetensors(`{"t":`+members+`}`, 4), `tensor "t": `+want)
}

// offsets is a file of I8 tensors a, b, … with the given data_offsets.
func offsets(name string, size int, want string, spans ...[2]int) malformed {
	var members []string
	for i, s := range spans {
		members = append(members, fmt.Sprintf(`"%c":{"dtype":"I8","shape":[%d],"data_offsets":[%d,%d]}`,
			'a'+i, s[1]-s[0], s[0], s[1]))
	}
	return one(name, safetensors("{"+strings.Join(members, ",")+"}", size), want)
}

// indexed is a folder with an index and, as x, the file that twoTensors makes.
func indexed(name, index, want string) malformed {
	return malformed{name, map[string][]byte{indexFile: []byte(index), "x": twoTensors()}, want}
}

// numbered joins n copies of format, each with its number.
func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

const good = `"dtype":"I8","shape":[4],"data_offsets":[0,4]`

func malformedFiles() []malformed { return append(malformedHeaders(), malformedEntries()...) }

func malformedHeaders() []malformed {
	long := strings.Repeat("n", maxNameBytes+1)
	return []malformed{
		one("empty", nil, `is 0 bytes, too short for a safetensors file`),
		one("header beyond the file", []byte{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, `header length: 3 bytes, the file has 2 left`),
		one("header beyond the limit", []byte{1, 0, 0x90, 1, 0, 0, 0, 0}, `header length: 26214401 bytes, at most 26214400 are read`),
		one("no header", safetensors("", 4), `header: byte 0: end of JSON, want '{'`),
		one("array", safetensors("[]", 0), `header: byte 0: found '[', want '{'`),
		one("byte order mark", safetensors("\ufeff{}", 0), `header: byte 0: found 'ï', want '{'`),
		one("cut object", safetensors("{", 0), `header: byte 1: end of JSON, want a key`),
		one("number as key", safetensors("{1:2}", 0), `header: byte 1: found '1', want a key`),
		one("comma at the end", safetensors(`{"t":{`+good+`},}`, 4), `header: byte 53: found '}', want a key`),
		one("no colon", safetensors(`{"t" {}}`, 0), `header: byte 5: found '{', want ':'`),
		one("no comma", safetensors(`{"t":{`+good+`} "u":{}}`, 4), `header: byte 53: found '"', want '}'`),
		one("text after the header", safetensors(`{"t":{`+good+`}}x`, 4), `header: byte 53: found 'x' after the end of the JSON value`),
		one("cut key", safetensors(`{"t`, 0), `header: byte 3: end of JSON in a string`),
		one("control byte in key", safetensors("{\"\x01\":{}}", 0), `header: byte 2: control byte 0x01 in a string`),
		one("key is not UTF-8", safetensors("{\"\xff\":{}}", 0), `header: byte 3: string is not valid UTF-8`),
		one("escaped key is not UTF-8", safetensors("{\"\\n\xff\":{}}", 0), `header: byte 5: string is not valid UTF-8`),
		one("control byte after an escape", safetensors("{\"\\n\x02\":{}}", 0), `header: byte 4: control byte 0x02 in a string`),
		one("cut after an escape", safetensors(`{"\n`, 0), `header: byte 4: end of JSON in a string`),
		one("unknown escape", safetensors(`{"\q":{}}`, 0), `header: byte 3: unknown escape 'q'`),
		one("cut escape", safetensors(`{"\`, 0), `header: byte 3: end of JSON in an escape`),
		one("cut hexadecimal escape", safetensors(`{"\u12`, 0), `header: byte 4: end of JSON in an escape`),
		one("escape is not hexadecimal", safetensors(`{"\u12g4":{}}`, 0), `header: byte 4: escape "12g4" is not hexadecimal`),
		one("high surrogate alone", safetensors(`{"\ud800":{}}`, 0), `header: byte 8: lone surrogate \ud800`),
		one("low surrogate first", safetensors(`{"\udc00\ud800":{}}`, 0), `header: byte 14: lone surrogate \udc00`),
		one("half a surrogate pair", safetensors(`{"\ud801\uzzzz":{}}`, 0), `header: byte 10: escape "zzzz" is not hexadecimal`),

		one("empty name", safetensors(`{"":{`+good+`}}`, 4), `tensor name "": is empty`),
		one("long name", safetensors(`{"`+long+`":{`+good+`}}`, 4),
			`tensor name "`+long[:120]+`"… (1025 bytes): is longer than 1024 bytes`),
		one("newline in name", safetensors(`{"a\nb":{`+good+`}}`, 4), `tensor name "a\nb": holds the control character U+000A`),
		one("delete in name", safetensors("{\"a\x7f\":{"+good+"}}", 4), `tensor name "a\x7f": holds the control character U+007F`),
		one("C1 control in name", safetensors(`{"\u0085":{`+good+`}}`, 4), `tensor name "\u0085": holds the control character U+0085`),
		one("duplicate name", safetensors(`{"t":{`+good+`},"t":{"dtype":"I8","shape":[0],"data_offsets":[4,4]}}`, 4), `tensor "t": appears twice`),
		one("duplicate name by escape", safetensors(`{"tt":{`+good+`},"t\u0074":{"dtype":"I8","shape":[0],"data_offsets":[4,4]}}`, 4), `tensor "tt": appears twice`),

		one("metadata twice", safetensors(`{"__metadata__":{},"__metadata__":{}}`, 0), `__metadata__: appears twice`),
		one("metadata is a list", safetensors(`{"__metadata__":[]}`, 0), `__metadata__: byte 16: found '[', want '{'`),
		one("metadata key twice", safetensors(`{"__metadata__":{"k":"v","k":"v"}}`, 0), `__metadata__: key "k" appears twice`),
		one("metadata value is a number", safetensors(`{"__metadata__":{"k":1}}`, 0), `__metadata__: value of key "k" is not a string`),
		one("metadata without end", safetensors(`{"__metadata__":{`+numbered(maxMetadata+1, `"%d":""`)+`}}`, 0), `__metadata__: has more than 16384 keys`),
		one("metadata value is cut", safetensors(`{"__metadata__":{"k":"`, 0), `__metadata__: byte 22: end of JSON in a string`),
	}
}

func malformedEntries() []malformed {
	return []malformed{
		entry("entry is null", `null`, `entry: byte 5: found 'n', want '{'`),
		entry("entry is a list", `["I8",[4],[0,4]]`, `entry: byte 5: found '[', want '{'`),
		entry("no dtype", `{"shape":[4],"data_offsets":[0,4]}`, `dtype: is missing`),
		entry("no shape", `{"dtype":"I8","data_offsets":[0,4]}`, `shape: is missing`),
		entry("no offsets", `{"dtype":"I8","shape":[4]}`, `data_offsets: is missing`),
		entry("dtype twice", `{"dtype":"I8",`+good+`}`, `dtype: appears twice`),
		entry("shape twice", `{"shape":[4],`+good+`}`, `shape: appears twice`),
		entry("offsets twice", `{"data_offsets":[0,4],`+good+`}`, `data_offsets: appears twice`),
		entry("unknown field", `{"strides":[1],`+good+`}`, `"strides": unknown field`),
		entry("dtype is a number", `{"dtype":8,"shape":[4],"data_offsets":[0,4]}`, `dtype: is not a string`),
		entry("dtype is cut", `{"dtype":"I8`, `dtype: byte 18: end of JSON in a string`),
		entry("unknown dtype", `{"dtype":"Q4","shape":[4],"data_offsets":[0,4]}`, `dtype: unknown type "Q4"`),
		entry("shape is a number", `{"dtype":"I8","shape":4,"data_offsets":[0,4]}`, `shape: byte 27: found '4', want '['`),
		entry("negative dimension", `{"dtype":"I8","shape":[-4],"data_offsets":[0,4]}`, `shape: byte 28: found '-', want a non-negative integer`),
		entry("fractional dimension", `{"dtype":"I8","shape":[4.0],"data_offsets":[0,4]}`, `shape: byte 29: number is not an integer`),
		entry("exponent in dimension", `{"dtype":"I8","shape":[1,4e0],"data_offsets":[0,4]}`, `shape: byte 31: number is not an integer`),
		entry("dimension with leading zero", `{"dtype":"I8","shape":[04],"data_offsets":[0,4]}`, `shape: byte 30: number has a leading zero`),
		entry("dimension beyond int64", `{"dtype":"I8","shape":[9223372036854775808],"data_offsets":[0,4]}`, `shape: byte 47: number "9223372036854775808" is out of range`),
		entry("dimension beyond int32", `{"dtype":"I8","shape":[2147483648],"data_offsets":[0,4]}`, `shape: dimension 2147483648 is more than 2147483647`),
		entry("17 dimensions", `{"dtype":"I8","shape":[4`+strings.Repeat(",1", 16)+`],"data_offsets":[0,4]}`, `shape: has more than 16 dimensions`),
		entry("shape overflows", `{"dtype":"I8","shape":[2147483647,2147483647,2147483647],"data_offsets":[0,4]}`, `shape: [2147483647 2147483647 2147483647] of I8 overflows`),
		entry("shape overflows before a zero", `{"dtype":"F64","shape":[2147483647,2147483647,0],"data_offsets":[0,0]}`, `shape: [2147483647 2147483647 0] of F64 overflows`),
		entry("half a byte", `{"dtype":"F4","shape":[7],"data_offsets":[0,4]}`, `shape: [7] of F4 is not a whole number of bytes`),
		entry("three quarters of a byte", `{"dtype":"F6_E2M3","shape":[5],"data_offsets":[0,4]}`, `shape: [5] of F6_E2M3 is not a whole number of bytes`),
		entry("offsets are a number", `{"dtype":"I8","shape":[4],"data_offsets":4}`, `data_offsets: byte 46: found '4', want '['`),
		entry("no offset", `{"dtype":"I8","shape":[4],"data_offsets":[]}`, `data_offsets: has 0 numbers, want two`),
		entry("one offset", `{"dtype":"I8","shape":[4],"data_offsets":[4]}`, `data_offsets: has 1 numbers, want two`),
		entry("three offsets", `{"dtype":"I8","shape":[4],"data_offsets":[0,4,4]}`, `data_offsets: has more than two numbers`),
		entry("string offset", `{"dtype":"I8","shape":[4],"data_offsets":["0",4]}`, `data_offsets: byte 47: found '"', want a non-negative integer`),
		entry("cut offsets", `{"dtype":"I8","shape":[4],"data_offsets":[0,4`, `data_offsets: byte 50: found '}', want ']'`),
		entry("offsets reversed", `{"dtype":"I8","shape":[4],"data_offsets":[4,0]}`, `data_offsets: begins at 4, after its end 0`),
		entry("too few bytes", `{"dtype":"I16","shape":[4],"data_offsets":[0,4]}`, `data_offsets: spans 4 bytes, I16 [4] needs 8`),
		entry("too many bytes", `{"dtype":"I8","shape":[],"data_offsets":[0,4]}`, `data_offsets: spans 4 bytes, I8 [] needs 1`),
		entry("offset at the end of int64", `{"dtype":"I8","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807]}`, `data_offsets: end 9223372036854775807 is out of range`),

		offsets("hole at the start", 8, `tensor "a": data_offsets: begins at 4, leaving a hole from 0`, [2]int{4, 8}),
		offsets("hole in the middle", 8, `tensor "b": data_offsets: begins at 5, leaving a hole from 4`, [2]int{0, 4}, [2]int{5, 8}),
		offsets("overlap", 6, `tensor "b": data_offsets: begins at 3, inside the tensor before it, which ends at 4`, [2]int{0, 4}, [2]int{3, 6}),
		offsets("data cut", 3, `is 64 bytes, the header accounts for 65`, [2]int{0, 4}),
		one("no tensors", safetensors(`{"__metadata__":{"format":"mlx"}}`, 0), `holds no tensors`),
	}
}

func malformedIndexes() []malformed {
	const norm, embed = `"model.norm.weight":"x"`, `"model.embed_tokens.weight":"x"`
	both := func(extra string) string { return `{"weight_map":{` + norm + `,` + embed + extra + `}}` }
	index := func(name, text, want string) malformed { return indexed(name, text, indexFile+": "+want) }
	return []malformed{
		index("index is empty", ``, `byte 0: end of JSON, want '{'`),
		index("index is a list", `[]`, `byte 0: found '[', want '{'`),
		index("text after the index", both("")+`{}`, `byte 72: found '{' after the end of the JSON value`),
		index("too many tensors in the index", `{"weight_map":{`+numbered(maxTensors+1, `"%d":"x"`)+`}}`,
			`weight_map: holds more than 1000000 tensors`),
		index("too many shards", `{"weight_map":{`+numbered(maxShards+1, `"%[1]d":"%[1]d"`)+`}}`,
			`weight_map: names more than 512 files`),
		index("huge index", strings.Repeat(" ", maxIndexBytes+1), `is 67108865 bytes, at most 67108864 are read`),
		index("no weight map", `{"metadata":{}}`, `weight_map: is missing or empty`),
		index("weight map twice", `{"weight_map":{},"weight_map":{}}`, `"weight_map": appears twice`),
		index("member twice", `{"metadata":{},"metadata":{}}`, `"metadata": appears twice`),
		index("metadata key twice in the index", `{"metadata":{"a":{"b":1,"b":2}}}`, `byte 28: duplicate key "b"`),
		index("deep metadata", `{"metadata":`+strings.Repeat("[", 65)+`}`, `byte 76: nested too deeply`),
		index("weight map is a list", `{"weight_map":[]}`, `byte 14: found '[', want '{'`),
		index("file is a number", `{"weight_map":{"t":1}}`, `weight_map: file of tensor "t" is not a string`),
		index("file is cut", `{"weight_map":{"t":"x`, `byte 21: end of JSON in a string`),
		index("tensor twice in the index", both(`,`+norm), `weight_map: tensor "model.norm.weight" appears twice`),
		index("tensor without a name in the index", `{"weight_map":{"":"x"}}`, `weight_map: tensor name "" is empty`),
		index("no file name", `{"weight_map":{"t":""}}`, `weight_map: tensor "t": file name "" is empty or a folder`),
		index("path up", `{"weight_map":{"t":"../x"}}`, `weight_map: tensor "t": file name "../x" is a path, want a plain name`),
		index("Windows path", `{"weight_map":{"t":"..\\x"}}`, `weight_map: tensor "t": file name "..\\x" is a path, want a plain name`),
		index("NUL in file name", `{"weight_map":{"t":"x\u0000"}}`, `weight_map: tensor "t": file name "x\x00" holds the control character U+0000`),
		index("long file name", `{"weight_map":{"t":"`+strings.Repeat("f", 256)+`"}}`,
			`weight_map: tensor "t": file name "`+strings.Repeat("f", 120)+`"… (256 bytes) is longer than 255 bytes`),
		index("tensor in no shard", both(`,"extra":"x"`), `tensor "extra": weight_map: is not in x`),
		indexed("tensor not in the index", `{"weight_map":{`+norm+`}}`, `x: tensor "model.embed_tokens.weight": is not in `+indexFile),
		indexed("shard is missing", `{"weight_map":{"t":"y"}}`, `y: open y: file does not exist`),
		{"tensor in two shards", map[string][]byte{"x": twoTensors(), "y": twoTensors(),
			indexFile: []byte(`{"weight_map":{"model.norm.weight":"x","model.embed_tokens.weight":"x","u":"y"}}`)},
			`y: tensor "model.embed_tokens.weight": is in x as well`},
		{"tensor in the wrong shard", map[string][]byte{"x": twoTensors(), "y": safetensors(`{"t":{`+good+`}}`, 4),
			indexFile: []byte(`{"weight_map":{"model.norm.weight":"x","model.embed_tokens.weight":"x","t":"x","u":"y"}}`)},
			indexFile + `: tensor "t": weight_map: names x, the tensor is in y`},
	}
}

// alikeFiles are further values for checks that files of the other tables fail.
func alikeFiles() []malformed {
	index := func(name, text, want string) malformed { return indexed(name, text, indexFile+": "+want) }
	return []malformed{
		one("cut length", []byte{1, 2, 3, 4, 5, 6, 7}, `is 7 bytes, too short for a safetensors file`),
		one("header length beyond int64", []byte{0, 0, 0, 0, 0, 0, 0, 255}, `header length: 18374686479671623680 bytes, at most 26214400 are read`),
		entry("field in capitals", `{"DTYPE":"I8","shape":[4],"data_offsets":[0,4]}`, `"DTYPE": unknown field`),
		entry("dtype in small letters", `{"dtype":"i8","shape":[4],"data_offsets":[0,4]}`, `dtype: unknown type "i8"`),
		entry("dtype with a verb", `{"dtype":"%s%n","shape":[4],"data_offsets":[0,4]}`, `dtype: unknown type "%s%n"`),
		offsets("same place", 4, `tensor "b": data_offsets: begins at 0, inside the tensor before it, which ends at 4`, [2]int{0, 4}, [2]int{0, 4}),
		offsets("empty tensor inside another", 4, `tensor "b": data_offsets: begins at 2, inside the tensor before it, which ends at 4`, [2]int{0, 4}, [2]int{2, 2}),
		offsets("data after the end", 5, `is 66 bytes, the header accounts for 65`, [2]int{0, 4}),
		index("this folder", `{"weight_map":{"t":"."}}`, `weight_map: tensor "t": file name "." is empty or a folder`),
		index("folder above", `{"weight_map":{"t":".."}}`, `weight_map: tensor "t": file name ".." is empty or a folder`),
		index("absolute path", `{"weight_map":{"t":"/etc/passwd"}}`, `weight_map: tensor "t": file name "/etc/passwd" is a path, want a plain name`),
		index("path down", `{"weight_map":{"t":"a/x"}}`, `weight_map: tensor "t": file name "a/x" is a path, want a plain name`),
		index("Windows drive", `{"weight_map":{"t":"C:x"}}`, `weight_map: tensor "t": file name "C:x" is a path, want a plain name`),
	}
}

func TestMalformedSafetensors(t *testing.T) {
	cases := slices.Concat(malformedFiles(), malformedIndexes(), alikeFiles())
	seen := make(map[string]string)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			folder := &memFolder{files: c.files}
			m, err := OpenFolder(folder)
			require.EqualError(t, err, c.want)
			require.Nil(t, m)
			require.Zero(t, folder.open, "files left open")
			var format *FormatError
			require.Equal(t, c.name != "shard is missing", errors.As(err, &format), "FormatError")
		})
		require.Empty(t, seen[c.want], "%s has the error of another case", c.name)
		seen[c.want] = c.name
	}
}
