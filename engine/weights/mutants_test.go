package weights

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// choices turns bytes into decisions, so that a fuzzer's bytes and the numbers of
// a seed drive the same generators. Where they end, every decision is 0.
type choices struct{ b []byte }

// seeded returns the choices of a seed: more than any generator needs.
func seeded(seed uint64, room []byte) *choices {
	rng := rand.NewPCG(seed, 1)
	room = room[:0]
	for len(room) < 512 {
		room = binary.LittleEndian.AppendUint64(room, rng.Uint64())
	}
	return &choices{room}
}

// below decides for one of n, at most 65536.
func (c *choices) below(n int) int {
	v, take := 0, 1
	if n > 256 {
		take = 2
	}
	for range min(take, len(c.b)) {
		v, c.b = v<<8|int(c.b[0]), c.b[1:]
	}
	return v % n
}

// one decides for yes once in n times.
func (c *choices) one(n int) bool { return c.below(n) == n-1 }

// A document is a file in the parts that mutations work on: the tokens of a JSON
// header, or the fields of a GGUF one.
type document [][]byte

func (d document) bytes() []byte { return slices.Concat(d...) }

// edges are the numbers at which readers go wrong.
var edges = []uint64{0, 1, 2, 3, 7, 8, 31, 32, 33, 255, 256, 1 << 16, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32,
	1 << 53, 1<<62 - 1, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 32, 1<<64 - 1}

// number decides how a number changes.
func (c *choices) number(n uint64) uint64 {
	switch c.below(8) {
	case 0:
		return n + 1
	case 1:
		return n - 1
	case 2:
		return n * 2
	case 3:
		return n / 2
	case 4:
		return n + 1<<(8*uint(c.below(8)))
	case 5:
		return -n
	}
	return edges[c.below(len(edges))]
}

// mutate changes d in some places. The dictionary holds what a part may become.
func (d document) mutate(c *choices, dictionary []string) document {
	d = slices.Clone(d)
	for range c.below(4) {
		if len(d) == 0 {
			return d
		}
		i := c.below(len(d))
		switch c.below(9) {
		case 0, 1, 2:
			d[i] = c.changed(d[i])
		case 3:
			d[i] = []byte(dictionary[c.below(len(dictionary))])
		case 4:
			d = slices.Delete(d, i, i+1)
		case 5:
			d = slices.Insert(d, c.below(len(d)+1), d[i])
		case 6:
			k := c.below(len(d))
			d[i], d[k] = d[k], d[i]
		case 7: // a run of parts, such as a whole member
			n := min(1+c.below(24), len(d)-i)
			d = slices.Insert(d, c.below(len(d)+1), slices.Clone(d[i:i+n])...)
		case 8:
			if p := slices.Clone(d[i]); len(p) > 0 {
				p[c.below(len(p))] ^= 1 << c.below(8)
				d[i] = p
			}
		}
	}
	return d
}

// changed alters a number, decimal or binary, or cuts or repeats another part.
func (c *choices) changed(p []byte) []byte {
	if n, err := strconv.ParseUint(string(p), 10, 64); err == nil {
		return strconv.AppendUint(nil, c.number(n), 10)
	}
	switch len(p) {
	case 4:
		return u32(uint32(c.number(uint64(binary.LittleEndian.Uint32(p)))))
	case 8:
		return u64(c.number(binary.LittleEndian.Uint64(p)))
	}
	if c.one(2) {
		return p[:c.below(len(p)+1)]
	}
	return slices.Concat(p, p)
}

// headerWords is what a token of a safetensors header may become.
var headerWords = []string{`{`, `}`, `[`, `]`, `,`, `:`, `"dtype"`, `"shape"`, `"data_offsets"`, `"__metadata__"`, `"F32"`, `"BF16"`,
	`"F4"`, `"Q4"`, `"i8"`, `""`, `"a"`, `"\u0061"`, `"\ud83d\ude00"`, `"\ud800"`, `"\u0000"`, "\"\x01\"", "\"\xff\"", `"\x"`, `null`,
	`true`, `0`, `-0`, `-1`, `1.0`, `1e3`, `01`, `18446744073709551616`, ` `, "\n", "\ufeff", "\x00", `{}`, `[]`, `[0,0]`, `"e":{}`,
	`"x":1`, `"d\u0074ype"`, `"\"`, `"`, `/**/`, `NaN`}

// safetensorsMutant makes a small file that is valid but for up to three changes
// of its header and one of its size.
func safetensorsMutant(c *choices) []byte {
	var d document
	add := func(tokens ...string) {
		for _, t := range tokens {
			d = append(d, []byte(t))
		}
	}
	add(`{`)
	if c.one(4) {
		add(`"__metadata__"`, `:`, `{`)
		for i := range c.below(3) {
			if i > 0 {
				add(`,`)
			}
			add(strconv.Quote(string(rune('k'+i))), `:`, `"v"`)
		}
		add(`}`)
	}
	tensors, data := c.tensors()
	for _, t := range tensors {
		if len(d) > 1 {
			add(`,`)
		}
		add(strconv.Quote(t.Name), `:`, `{`)
		for i, field := range [][]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}}[c.below(3)] {
			if i > 0 {
				add(`,`)
			}
			add(`"`+entryFields[field]+`"`, `:`)
			switch field {
			case 0:
				add(`"` + string(t.Dtype) + `"`)
			case 1:
				add(`[`)
				for k, n := range t.Shape {
					if k > 0 {
						add(`,`)
					}
					add(strconv.Itoa(n))
				}
				add(`]`)
			case 2:
				add(`[`, strconv.FormatInt(t.Offset, 10), `,`, strconv.FormatInt(t.Offset+t.Bytes, 10), `]`)
			}
		}
		add(`}`)
	}
	add(`}`)
	header := d.mutate(c, headerWords).bytes()
	for c.one(8) {
		header = append(header, ' ')
	}
	file := safetensors(string(header), data)
	switch c.below(16) {
	case 13:
		file = append(file, make([]byte, 1+c.below(8))...)
	case 14:
		file = file[:max(0, len(file)-1-c.below(16))]
	case 15:
		binary.LittleEndian.PutUint64(file, c.number(uint64(len(header))))
	}
	return file
}

// tensors decides for up to five tensors, one behind the other but in any order
// of the list, and returns the bytes that they take.
func (c *choices) tensors() ([]Tensor, int) {
	var all []Tensor
	next := int64(0)
	for i := range c.below(6) {
		t := Tensor{Name: string(rune('a' + i)), Dtype: dtypes[c.below(len(dtypes))].dtype, Offset: next}
		for range c.below(4) {
			t.Shape = append(t.Shape, [...]int{1, 2, 3, 4, 8, 0}[c.below(6)])
		}
		n, err := byteSize(t.Dtype, t.Shape)
		if err != nil { // part of a byte
			t.Shape = append(t.Shape, 4)
			n, _ = byteSize(t.Dtype, t.Shape)
		}
		t.Bytes = n
		next += n
		all = append(all, t)
	}
	for i := range all {
		if c.one(3) {
			k := c.below(len(all))
			all[i], all[k] = all[k], all[i]
		}
	}
	return all, int(next)
}

// fieldWords is what a field of a GGUF header may become.
var fieldWords = []string{"", "\x00", "GGUF", "\x00\x00\x00\x00", "\x09\x00\x00\x00", "\x08\x00\x00\x00", "\xff\xff\xff\xff",
	"\x00\x00\x00\x00\x00\x00\x00\x00", "\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\x7f", "general.alignment",
	"\x20\x00\x00\x00", "\xff", "\xc3", "a\nb", "general.architecture", "\x02\x00\x00\x00\x00\x00\x00\x00"}

// ggufMutant makes a small file that is valid but for up to three changes of its
// header and one of its size.
func ggufMutant(c *choices) []byte {
	d := document{[]byte("GGUF"), u32(uint32(3 - c.below(2))), nil, nil}
	alignment := 32
	keys := c.below(5)
	for i := range keys {
		d = append(d, c.ggufKey(i)...)
	}
	if c.one(4) {
		alignment = 8 << c.below(5)
		keys++
		d = append(d, u64(17), []byte("general.alignment"), u32(ggufUint32), u32(uint32(alignment)))
	}
	infos, data := c.ggufInfos(alignment)
	for _, i := range infos {
		d = append(d, i...)
	}
	d[2], d[3] = u64(uint64(len(infos))), u64(uint64(keys))
	d = d.mutate(c, fieldWords)
	file := d.bytes()
	for len(file)%alignment != 0 {
		file = append(file, 0)
	}
	file = append(file, make([]byte, data)...)
	switch c.below(16) {
	case 14:
		file = append(file, make([]byte, 1+c.below(64))...)
	case 15:
		file = file[:c.below(len(file)+1)]
	}
	return file
}

// ggufKey is a key of any type, an array or an array of arrays.
func (c *choices) ggufKey(i int) document {
	d := document{u64(2), {'k', byte('0' + i)}}
	kind := uint32(c.below(14))
	d = append(d, u32(kind))
	if kind != ggufArray {
		return append(d, c.ggufScalar(kind)...)
	}
	kind = uint32(c.below(14))
	n := c.below(4)
	d = append(d, u32(kind), u64(uint64(n)))
	for range n {
		d = append(d, c.ggufScalar(kind)...)
	}
	return d
}

func (c *choices) ggufScalar(kind uint32) document {
	switch kind {
	case ggufString:
		n := c.below(5)
		return document{u64(uint64(n)), []byte("text é"[:n])}
	case ggufArray:
		return document{u32(ggufUint8), u64(1), {1}}
	case ggufBool:
		return document{{byte(c.below(2))}}
	}
	value := u64(edges[c.below(len(edges))])
	return document{value[:ggufWidths[kind]]}
}

// ggufInfos decides for up to four tensors and returns the bytes of their data.
func (c *choices) ggufInfos(alignment int) (all []document, data int) {
	kinds := slices.Sorted(func(yield func(uint32) bool) {
		for k := range ggmlTypes {
			if !yield(k) {
				return
			}
		}
	})
	for i := range c.below(5) {
		id := kinds[c.below(len(kinds))]
		kind := ggmlTypes[id]
		shape := []int{1 + c.below(3)}
		for range c.below(3) {
			shape = append(shape, 1+c.below(3))
		}
		shape = append(shape, kind.block*(1+c.below(2)))
		d := document{u64(1), {byte('a' + i)}, u32(uint32(len(shape)))}
		for k := range shape {
			d = append(d, u64(uint64(shape[len(shape)-1-k])))
		}
		all = append(all, append(d, u32(id), u64(uint64(data))))
		n, _ := kind.size(shape)
		data = int(pad(int64(data)+n, int64(alignment)))
	}
	return all, data
}

// configWords is what a token of a config.json may become.
var configWords = append([]string{`"eos_token_id"`, `"text_config"`, `"quantization"`, `"quantization_config"`, `"group_size"`, `"bits"`,
	`"mode"`, `"affine"`, `"mxfp4"`, `32`, `64`, `128`, `4`, `[1,2]`, `[null]`, `{"bits":3}`, `false`, `2147483648`, `1e400`}, headerWords...)

// configMutant makes a config.json that is valid but for up to three changes.
func configMutant(c *choices) string {
	var d document
	add := func(tokens ...string) {
		for _, t := range tokens {
			d = append(d, []byte(t))
		}
	}
	members := []string{`"eos_token_id":7`, `"eos_token_id":[1,2,3]`, `"vocab_size":96`, `"hidden_size":64`, `"bos_token_id":null`,
		`"text_config":{"vocab_size":3,"hidden_size":8}`, `"architectures":["LlamaForCausalLM"]`, `"rope_scaling":{"type":"linear","factor":2.5}`,
		`"quantization":{"group_size":32,"bits":4,"mode":"affine","a.b":{"group_size":64,"bits":8},"lm_head":false}`,
		`"quantization":{"group_size":64,"bits":6}`, `"quantization_config":{"group_size":32,"bits":4,"quant_method":"x"}`}
	add(`{`, `"model_type"`, `:`, `"llama"`)
	for range c.below(5) {
		add(`,`)
		add(jsonTokens(members[c.below(len(members))])...)
	}
	add(`}`)
	return string(d.mutate(c, configWords).bytes())
}

// jsonTokens cuts JSON without white space into its tokens.
func jsonTokens(text string) (all []string) {
	for len(text) > 0 {
		n := 1
		if !strings.ContainsRune("{}[]:,", rune(text[0])) {
			n = len(text)
			if text[0] == '"' {
				n = strings.IndexByte(text[1:], '"') + 2
			} else if i := strings.IndexAny(text, "{}[]:,"); i >= 0 {
				n = i
			}
		}
		all, text = append(all, text[:n]), text[n:]
	}
	return all
}
