package weights

import (
	"encoding/binary"
	"slices"
	"strconv"

	"harmonyd/engine/enginetest/mutate"
)

// headerWords is what a token of a safetensors header may become.
var headerWords = []string{`{`, `}`, `[`, `]`, `,`, `:`, `"dtype"`, `"shape"`, `"data_offsets"`, `"__metadata__"`, `"F32"`, `"BF16"`,
	`"F4"`, `"Q4"`, `"i8"`, `""`, `"a"`, `"\u0061"`, `"\ud83d\ude00"`, `"\ud800"`, `"\u0000"`, "\"\x01\"", "\"\xff\"", `"\x"`, `null`,
	`true`, `0`, `-0`, `-1`, `1.0`, `1e3`, `01`, `18446744073709551616`, ` `, "\n", "\ufeff", "\x00", `{}`, `[]`, `[0,0]`, `"e":{}`,
	`"x":1`, `"d\u0074ype"`, `"\"`, `"`, `/**/`, `NaN`}

// safetensorsMutant makes a small file that is valid but for up to three changes
// of its header and one of its size.
func safetensorsMutant(c *mutate.Choices) []byte {
	var d mutate.Document
	add := func(tokens ...string) {
		for _, t := range tokens {
			d = append(d, []byte(t))
		}
	}
	add(`{`)
	if c.OneIn(4) {
		add(`"__metadata__"`, `:`, `{`)
		for i := range c.Below(3) {
			if i > 0 {
				add(`,`)
			}
			add(strconv.Quote(string(rune('k'+i))), `:`, `"v"`)
		}
		add(`}`)
	}
	tensors, data := mutantTensors(c)
	for _, t := range tensors {
		if len(d) > 1 {
			add(`,`)
		}
		add(strconv.Quote(t.Name), `:`, `{`)
		for i, field := range [][]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}}[c.Below(3)] {
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
	header := d.Mutate(c, headerWords).Bytes()
	for c.OneIn(8) {
		header = append(header, ' ')
	}
	file := safetensors(string(header), data)
	switch c.Below(16) {
	case 13:
		file = append(file, make([]byte, 1+c.Below(8))...)
	case 14:
		file = file[:max(0, len(file)-1-c.Below(16))]
	case 15:
		binary.LittleEndian.PutUint64(file, c.Number(uint64(len(header))))
	}
	return file
}

// mutantTensors decides for up to five tensors, one behind the other but in any order
// of the list, and returns the bytes that they take.
func mutantTensors(c *mutate.Choices) ([]Tensor, int) {
	var all []Tensor
	next := int64(0)
	for i := range c.Below(6) {
		t := Tensor{Name: string(rune('a' + i)), Dtype: dtypes[c.Below(len(dtypes))].dtype, Offset: next}
		for range c.Below(4) {
			t.Shape = append(t.Shape, [...]int{1, 2, 3, 4, 8, 0}[c.Below(6)])
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
		if c.OneIn(3) {
			k := c.Below(len(all))
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
func ggufMutant(c *mutate.Choices) []byte {
	d := mutate.Document{[]byte("GGUF"), u32(uint32(3 - c.Below(2))), nil, nil}
	alignment := 32
	keys := c.Below(5)
	for i := range keys {
		d = append(d, mutantKey(c, i)...)
	}
	if c.OneIn(4) {
		alignment = 8 << c.Below(5)
		keys++
		d = append(d, u64(17), []byte("general.alignment"), u32(ggufUint32), u32(uint32(alignment)))
	}
	infos, data := mutantInfos(c, alignment)
	for _, i := range infos {
		d = append(d, i...)
	}
	d[2], d[3] = u64(uint64(len(infos))), u64(uint64(keys))
	d = d.Mutate(c, fieldWords)
	file := d.Bytes()
	for len(file)%alignment != 0 {
		file = append(file, 0)
	}
	file = append(file, make([]byte, data)...)
	switch c.Below(16) {
	case 14:
		file = append(file, make([]byte, 1+c.Below(64))...)
	case 15:
		file = file[:c.Below(len(file)+1)]
	}
	return file
}

// mutantKey is a key of any type, an array or an array of arrays.
func mutantKey(c *mutate.Choices, i int) mutate.Document {
	d := mutate.Document{u64(2), {'k', byte('0' + i)}}
	kind := uint32(c.Below(14))
	d = append(d, u32(kind))
	if kind != ggufArray {
		return append(d, mutantScalar(c, kind)...)
	}
	kind = uint32(c.Below(14))
	n := c.Below(4)
	d = append(d, u32(kind), u64(uint64(n)))
	for range n {
		d = append(d, mutantScalar(c, kind)...)
	}
	return d
}

func mutantScalar(c *mutate.Choices, kind uint32) mutate.Document {
	switch kind {
	case ggufString:
		n := c.Below(5)
		return mutate.Document{u64(uint64(n)), []byte("text é"[:n])}
	case ggufArray:
		return mutate.Document{u32(ggufUint8), u64(1), {1}}
	case ggufBool:
		return mutate.Document{{byte(c.Below(2))}}
	}
	value := u64(mutate.Edges[c.Below(len(mutate.Edges))])
	return mutate.Document{value[:ggufWidths[kind]]}
}

// mutantInfos decides for up to four tensors and returns the bytes of their data.
func mutantInfos(c *mutate.Choices, alignment int) (all []mutate.Document, data int) {
	kinds := slices.Sorted(func(yield func(uint32) bool) {
		for k := range ggmlTypes {
			if !yield(k) {
				return
			}
		}
	})
	for i := range c.Below(5) {
		id := kinds[c.Below(len(kinds))]
		kind := ggmlTypes[id]
		shape := []int{1 + c.Below(3)}
		for range c.Below(3) {
			shape = append(shape, 1+c.Below(3))
		}
		shape = append(shape, kind.block*(1+c.Below(2)))
		d := mutate.Document{u64(1), {byte('a' + i)}, u32(uint32(len(shape)))}
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
func configMutant(c *mutate.Choices) string {
	var d mutate.Document
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
	for range c.Below(5) {
		add(`,`)
		d = append(d, mutate.JSON([]byte(members[c.Below(len(members))]))...)
	}
	add(`}`)
	return string(d.Mutate(c, configWords).Bytes())
}
