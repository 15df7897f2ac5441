// Package mutate makes files that are valid but for a few changes of their
// structure, for tests of readers. A generator takes its decisions from Choices,
// so that a fuzzer's bytes and the numbers of a seed drive it alike, and builds a
// Document, whose parts Mutate changes. It imports nothing of ours, so that every
// package's tests can use it.
package mutate

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
)

// Choices turns bytes into decisions, so that a fuzzer's bytes and the numbers of
// a seed drive the same generators. Where they end, every decision is 0.
type Choices struct{ b []byte }

// Seeded returns the choices of a seed: more than any generator needs.
func Seeded(seed uint64, room []byte) *Choices {
	rng := rand.NewPCG(seed, 1)
	room = room[:0]
	for len(room) < 512 {
		room = binary.LittleEndian.AppendUint64(room, rng.Uint64())
	}
	return &Choices{room}
}

// From returns the choices of a fuzzer.
func From(decisions []byte) *Choices { return &Choices{decisions} }

// Bytes are the decisions that are left, for the corpus of a fuzzer.
func (c *Choices) Bytes() []byte { return c.b }

// Below decides for one of n, at most 65536.
func (c *Choices) Below(n int) int {
	v, take := 0, 1
	if n > 256 {
		take = 2
	}
	for range min(take, len(c.b)) {
		v, c.b = v<<8|int(c.b[0]), c.b[1:]
	}
	return v % n
}

// OneIn decides for yes once in n times.
func (c *Choices) OneIn(n int) bool { return c.Below(n) == n-1 }

// A Document is a file in the parts that mutations work on: the tokens of a JSON
// header, or the fields of a GGUF one.
type Document [][]byte

// Bytes joins the parts.
func (d Document) Bytes() []byte { return slices.Concat(d...) }

// Edges are the numbers at which readers go wrong.
var Edges = []uint64{0, 1, 2, 3, 7, 8, 31, 32, 33, 255, 256, 1 << 16, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32,
	1 << 53, 1<<62 - 1, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 32, 1<<64 - 1}

// Number decides how a number changes.
func (c *Choices) Number(n uint64) uint64 {
	switch c.Below(8) {
	case 0:
		return n + 1
	case 1:
		return n - 1
	case 2:
		return n * 2
	case 3:
		return n / 2
	case 4:
		return n + 1<<(8*uint(c.Below(8)))
	case 5:
		return -n
	}
	return Edges[c.Below(len(Edges))]
}

// Mutate changes d in some places. The dictionary holds what a part may become.
func (d Document) Mutate(c *Choices, dictionary []string) Document {
	d = slices.Clone(d)
	for range c.Below(4) {
		if len(d) == 0 {
			return d
		}
		i := c.Below(len(d))
		switch c.Below(9) {
		case 0, 1, 2:
			d[i] = c.changed(d[i])
		case 3:
			d[i] = []byte(dictionary[c.Below(len(dictionary))])
		case 4:
			d = slices.Delete(d, i, i+1)
		case 5:
			d = slices.Insert(d, c.Below(len(d)+1), d[i])
		case 6:
			k := c.Below(len(d))
			d[i], d[k] = d[k], d[i]
		case 7: // a run of parts, such as a whole member
			n := min(1+c.Below(24), len(d)-i)
			d = slices.Insert(d, c.Below(len(d)+1), slices.Clone(d[i:i+n])...)
		case 8:
			if p := slices.Clone(d[i]); len(p) > 0 {
				p[c.Below(len(p))] ^= 1 << c.Below(8)
				d[i] = p
			}
		}
	}
	return d
}

// changed alters a number, decimal or binary, or cuts or repeats another part.
func (c *Choices) changed(p []byte) []byte {
	if n, err := strconv.ParseUint(string(p), 10, 64); err == nil {
		return strconv.AppendUint(nil, c.Number(n), 10)
	}
	switch len(p) {
	case 4:
		return binary.LittleEndian.AppendUint32(nil, uint32(c.Number(uint64(binary.LittleEndian.Uint32(p)))))
	case 8:
		return binary.LittleEndian.AppendUint64(nil, c.Number(binary.LittleEndian.Uint64(p)))
	}
	if c.OneIn(2) {
		return p[:c.Below(len(p)+1)]
	}
	return slices.Concat(p, p)
}

// JSON cuts valid JSON into its tokens, one a part. White space goes.
func JSON(text []byte) (all Document) {
	const punctuation = "{}[]:, \t\r\n"
	for len(text) > 0 {
		n := 1
		switch {
		case text[0] == '"':
			for text[n] != '"' {
				if text[n] == '\\' {
					n++
				}
				n++
			}
			n++
		case bytes.IndexByte([]byte(punctuation), text[0]) < 0:
			if n = bytes.IndexAny(text, punctuation); n < 0 {
				n = len(text)
			}
		}
		if token := bytes.TrimSpace(text[:n]); len(token) > 0 {
			all = append(all, token)
		}
		text = text[n:]
	}
	return all
}
