package parse

import "strings"

// functools is the format of FireFunction and Phi 4 mini: a list of objects behind a
// word.
//
//	functools[{"name": "f", "arguments": {}}, …]
type functools struct{ objects }

const functoolsOpen = "functools"

func newFunctools(*tagger, *toolbox) dialect {
	return &functools{objects{open: []*tag{textTag(functoolsOpen)}}}
}

// begins takes the word for a call only where a list of objects follows: it is also that
// of a module of Python's.
func (f *functools) begins(text []byte, at *tag, final bool) verdict {
	if at == nil {
		return no
	}
	for _, want := range []byte("[{") {
		n := spaceAfter(text, len(functoolsOpen))
		if want == '{' {
			n = spaceAfter(text, n+1)
		}
		switch {
		case n >= len(text) && !final:
			return undecided
		case n >= len(text) || text[n] != want:
			return no
		}
	}
	return yes
}

// writeFunctools takes more than the word for the mark, which people who write Python say.
func writeFunctools(w *writer) form {
	call := w.objects(`"name": "`, `", "arguments": `, "}")
	return form{
		open: functoolsOpen + "[{",
		body: strings.TrimSpace(call+" "+w.several(", {", call)) + ` "]"`,
		like: functoolsOpen + `[ \t\r\n]*\[[ \t\r\n]*\{`,
	}
}
