package rpc

import (
	"strconv"

	"harmonyd/schema"
)

// delta is text by channel. Its memory is used again.
type delta struct {
	parts    []part
	logprobs []byte // members of an array
	round    int
	tokens   int
	bytes    int
}

type part struct {
	label
	text []byte
}

// label says what text is: that of a channel, or the arguments of a call, whose
// beginning has the tool's name.
type label struct {
	channel    schema.Channel
	call, name string
}

// continues reports whether text of l belongs to what text of before began.
func (l label) continues(before label) bool {
	return l.channel == before.channel && l.call == before.call && l.name == ""
}

func (d *delta) addLogprobs(members []byte) {
	if len(members) == 0 {
		return
	}
	d.bytes += len(members)
	if len(d.logprobs) > 0 {
		d.logprobs = append(d.logprobs, ',')
	}
	d.logprobs = append(d.logprobs, members...)
}

func (d *delta) add(l label, text string, tokens int) {
	d.tokens += tokens
	if text == "" && l.name == "" {
		return
	}
	d.bytes += len(l.name) + len(text)
	n := len(d.parts)
	if n == 0 || !l.continues(d.parts[n-1].label) {
		if n < cap(d.parts) {
			d.parts = d.parts[:n+1] // with the memory of its text
		} else {
			d.parts = append(d.parts, part{})
		}
		d.parts[n].label = l
		d.parts[n].text = d.parts[n].text[:0]
		n++
	}
	p := &d.parts[n-1]
	p.text = append(p.text, text...)
}

// appendDelta is schema.GenerateDelta in a notification, written by hand: it
// is the one message that is sent thousands of times.
func (g *generation) appendDelta(dst []byte, d *delta) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":"generate/delta","params":{"generationId":`...)
	dst = schema.AppendString(dst, g.id)
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendInt(dst, g.seq, 10)
	dst = append(dst, `,"round":`...)
	dst = strconv.AppendInt(dst, int64(d.round), 10)
	dst = append(dst, `,"parts":[`...)
	for i := range d.parts {
		p := &d.parts[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"channel":`...)
		dst = schema.AppendString(dst, string(p.channel))
		if p.call != "" {
			dst = schema.AppendString(append(dst, `,"callId":`...), p.call)
		}
		if p.name != "" {
			dst = schema.AppendString(append(dst, `,"name":`...), p.name)
		}
		dst = append(dst, `,"text":`...)
		dst = schema.AppendString(dst, p.text)
		dst = append(dst, '}')
	}
	dst = append(dst, `],"tokens":`...)
	dst = strconv.AppendInt(dst, int64(d.tokens), 10)
	if len(d.logprobs) > 0 {
		dst = append(dst, `,"logprobs":[`...)
		dst = append(dst, d.logprobs...)
		dst = append(dst, ']')
	}
	return append(dst, `}}`...)
}
