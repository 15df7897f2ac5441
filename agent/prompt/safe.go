package prompt

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"harmonyd/schema"
)

// A template gives one flat text, in which a control token that it wrote looks
// like the same characters in a message. To tell them apart the conversation
// is rendered a second time with a nonce inside each such text of a message:
// what is a literal in the second rendering as well came from the template.
// The two must be the same but for the nonces; a template that looks into the
// texts and writes something else for the broken ones is caught by that.

// newNonce returns letters that no message can foresee, and that templates
// pass through: they are no white space, and JSON does not escape them.
func newNonce() string { return "x" + strings.ToLower(rand.Text()) + "x" }

// controlSpans returns the places in text, the rendering of v, where the
// template itself wrote a control token. It is false where it cannot tell.
func (r *Renderer) controlSpans(v variables, now time.Time, text string) ([]span, bool) {
	// What only begins like a literal is broken as well, because a template that
	// cuts a piece out of a message could join the rest into one. A template may
	// also ask for such a text itself, say for </think>, and write something else
	// for the broken one: so the next try breaks longer beginnings only. What it
	// leaves whole could have been joined, so a later try counts only where it has
	// the same literals, in the same order, as the one that broke everything.
	var written []string
	for try, least := range []int{1, 2, 4, whole} {
		nonce := newNonce()
		other, changed := r.breakStrings(v, nonce, least)
		broken := text
		if changed {
			var err error
			if broken, err = r.render(other, now); err != nil {
				if try == 0 {
					return nil, false
				}
				continue
			}
		}
		spans := r.literals.find(broken)
		if try == 0 {
			written = cut(broken, spans)
		}
		if strings.ReplaceAll(broken, nonce, "") == text && slices.Equal(written, cut(broken, spans)) {
			return withoutNonce(spans, broken, nonce), true
		}
	}
	return nil, false
}

// cut returns the pieces of text.
func cut(text string, spans []span) []string {
	pieces := make([]string, len(spans))
	for i, s := range spans {
		pieces[i] = text[s.from:s.to]
	}
	return pieces
}

// breakStrings returns v with nonces in its foreign strings, and whether there was a
// need for any.
func (r *Renderer) breakStrings(v variables, nonce string, least int) (variables, bool) {
	changed := false
	other := slices.Clone(v)
	for i := range other {
		if other[i].path == "" {
			continue
		}
		other[i].text = r.literals.breakUp(v[i].text, nonce, least)
		changed = changed || other[i].text != v[i].text
	}
	return other, changed
}

// refuseCharacters refuses texts with a control token of a single character in
// them: nothing can be put inside it.
func (r *Renderer) refuseCharacters(v variables) error {
	for _, s := range r.literals.sorted {
		if firstRune(s) < len(s) {
			continue
		}
		for i := range v {
			if strings.Contains(v[i].text, s) {
				return schema.InvalidParam(v[i].path, "has the character %q in it, which is a control token of the model", s)
			}
		}
	}
	return nil
}

// refusal names the first text in v that makes it unsafe to render.
func (r *Renderer) refusal(v variables) error {
	for i := range v {
		if at := r.literals.find(v[i].text); len(at) > 0 {
			return schema.InvalidParam(v[i].path, "has the control token %q in it, and the model's chat template does not pass it through as text", v[i].text[at[0].from:at[0].to])
		}
	}
	return schema.InvalidParam("/messages", "a text could become part of a control token in the model's chat template")
}

// whole, as the least of breakUp, leaves what only begins like a literal.
const whole = 1 << 30

// breakUp puts nonce into s after the first character of each literal, and of
// what begins like one for least bytes; and around s where its ends could be
// part of a literal. Of white space around s nothing is known: templates trim.
func (l *literals) breakUp(s, nonce string, least int) string {
	var b strings.Builder
	done := 0
	for i := 0; i < len(s); i++ {
		if !l.starts[s[i]] {
			continue
		}
		first := firstRune(s[i:])
		if full, begun := l.at(s[i:]); full == 0 && begun < least {
			continue
		}
		b.WriteString(s[done : i+first])
		b.WriteString(nonce)
		done = i + first
	}
	b.WriteString(s[done:])
	core := strings.TrimSpace(s)
	if !l.touches(core) {
		return b.String()
	}
	broken := b.String()
	lead := len(s) - len(strings.TrimLeft(s, " \t\r\n"))
	tail := len(strings.TrimRight(broken, " \t\r\n"))
	if lead >= tail {
		return broken
	}
	return broken[:lead] + nonce + broken[lead:tail] + nonce + broken[tail:]
}

// withoutNonce gives the places that spans of broken have once the nonces are
// taken out of it.
func withoutNonce(spans []span, broken, nonce string) []span {
	out := make([]span, 0, len(spans))
	at, removed := 0, 0
	for _, s := range spans {
		removed += strings.Count(broken[at:s.from], nonce) * len(nonce)
		at = s.from
		out = append(out, span{s.from - removed, s.to - removed})
	}
	return out
}

// plain returns the places of the literals in text that are none of spans, the
// control tokens of the template: they are to be ordinary text. It is false
// where one of those runs into the control token, so that a tokenizer would
// find neither.
func (r *Renderer) plain(text string, spans []span) (ranges [][2]int, ok bool) {
	for _, s := range r.literals.find(text) {
		if len(spans) > 0 && s == spans[0] {
			spans = spans[1:]
			continue
		}
		ranges = append(ranges, [2]int{s.from, s.to})
	}
	return ranges, len(spans) == 0
}
