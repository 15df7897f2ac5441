package native

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
)

// loop repeats a statement as often as a template can, through nested ranges.
func loop(setup, body string) string {
	return "{% set ns = namespace(" + setup + ") %}{% for i in range(100000) %}{% for j in range(1000) %}" +
		body + "{% endfor %}{% endfor %}"
}

// hostileTemplates ask for endless work, memory or depth, or for what is
// outside. None may render.
func hostileTemplates() []string {
	return []string{
		// Work.
		loop("x=0", "{% set ns.x = ns.x + 1 %}"),
		"{% for i in range(10**9) %}x{% endfor %}",
		"{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
		loop("l=range(50000)|list", "{% set ns.x = ns.l.count(3) %}"),
		loop("l=range(50000)|list", "{% set ns.x = 7 in ns.l %}"),
		loop("l=range(50000)|list", "{% set ns.x = ns.l == ns.l %}"),
		loop("l=range(50000)|list", "{% set ns.x = ns.l | sum %}"),
		loop("l=range(50000)|list", "{% set ns.x = ns.l | sort | first %}"),
		loop("l=range(50000)|list", "{% set ns.x = ns.l | tojson | length %}"),
		loop("l=range(50000)|list", "{% set ns.x = ns.l | string | length %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s.find('b') %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s.isalpha() %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s.count('b') %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s.startswith(ns.s) %}"),
		loop("s='a'*1000000", "{% set ns.x = 'b' in ns.s %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s[::-1] %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s[999999] %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s | length %}{% set ns.y = ns.s | upper %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s | indent(4) %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s < ns.s %}"),
		loop("s='a'*1000000", "{% set ns.x = {ns.s: 1} %}"),
		loop("s='a'*1000000", "{% set ns.x = ns.s.strip('b') %}"),
		loop("s='a'*1000000", "{% set ns.x = strftime_now(ns.s) %}"),
		// Memory.
		loop("s='ab'", "{% set ns.s = ns.s ~ ns.s %}"),
		loop("s='ab'", "{% set ns.s = ns.s + ns.s %}"),
		loop("l=[1]", "{% set ns.l = ns.l + ns.l %}"),
		loop("s='aa'", "{% set ns.s = ns.s | replace('a', ns.s) %}"),
		loop("s='aa'", "{% set ns.s = ns.s.replace('a', ns.s) %}"),
		loop("s='a'", "{% set ns.s = ns.s.join([ns.s, ns.s, ns.s]) %}"),
		loop("s='a'", "{% set ns.s = [ns.s, ns.s, ns.s] | join(ns.s) %}"),
		loop("s='a'", "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}"),
		loop("s='a'", "{% set ns.s = '%s%s' | format(ns.s, ns.s) %}"),
		loop("s='a'", "{% set ns.s = '{}{}'.format(ns.s, ns.s) %}"),
		loop("l=[]", "{% set ns.l = [ns.l, ns.l] %}{% set ns.x = ns.l | string %}"),
		"{{ 'x' * 10**12 }}", "{{ [1] * 10**12 }}", "{{ ('x' * 99999999) * 99999999 }}",
		"{{ 'x' | indent(10**12, true) }}", "{{ 'x' | indent('y' * 100000, true) }}",
		"{{ {'a': 1} | tojson(indent=10**9) }}", "{{ [1, 2] | tojson(separators=['x' * 9999, '']) }}",
		"{{ '%1000000000d' | format(1) }}", "{{ '%*d' | format(1000000000, 1) }}", "{{ '%.1000000000f' | format(1.5) }}",
		"{{ '{:1000000000}'.format(1) }}", "{{ '{:>{}}'.format('x', 10**9) }}", "{{ '{:.999999999f}'.format(1.5) }}",
		"{{ ('a' * 50000000).split('') }}", "{{ ('a\n' * 25000000).splitlines() }}", "{{ ('a' * 60000000) | list }}",
		"{{ 'a' | replace('', 'b' * 100000000) }}", "{{ range(100000) | batch(1, 'x' * 1000) | list }}{{ 1/0 }}",
		"{{ range(3) | slice(10**9) | list }}", "{{ [1] | batch(10**12, 0) | list }}",
		"{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "{{ 'x' * 9000000 }}", "{{ 9 ** 9 ** 9 }}",
		// Depth.
		"{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
		"{% macro f(x) %}{% call f(x) %}{{ caller() }}{% endcall %}{% endmacro %}{{ f(1) }}",
		"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
		"{{ " + strings.Repeat("(", 20000) + "1" + strings.Repeat(")", 20000) + " }}",
		"{{ " + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + " }}",
		"{{ " + strings.Repeat("not ", 20000) + "1 }}{{ 1/0 }}", "{{ " + strings.Repeat("-", 20000) + "1 }}{{ 1/0 }}",
		strings.Repeat("{% if 1 %}", 20000) + strings.Repeat("{% endif %}", 20000),
		"{{ x" + strings.Repeat(".a", 100000) + " }}", "{{ x" + strings.Repeat("|upper", 100000) + " }}{{ 1/0 }}",
		"{{ 1" + strings.Repeat("+1", 100000) + " }}{{ 1/0 }}", "{{ 1" + strings.Repeat(" if 1 else 1", 20000) + " }}{{ 1/0 }}",
		loop("l=[]", "{% set ns.l = [ns.l] %}"),
		loop("l=[]", "{% set ns.l = {'a': ns.l} %}"),
		"{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
		"{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | tojson }}",
		"{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l ~ '' }}{{ 1/0 }}",
		"{% set ns = namespace(l=[], m=[]) %}{% for i in range(50000) %}{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}{{ {ns.l: 1} }}{{ 1/0 }}",
		"{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}{{ ns | tojson }}",
		// What is outside.
		"{% include 'chat_template' %}", "{% include '/etc/passwd' %}", "{% import 'chat_template' as c %}{{ 1/0 }}",
		"{% extends 'chat_template' %}", "{{ debug() }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
		"{{ [].append(1) }}", "{{ self.__init__.__globals__ }}", "{{ lipsum.__globals__['os'].popen('id').read() }}",
		"{{ cycler.__init__ }}", "{{ namespace.__init__.__globals__ }}", "{{ open('/etc/passwd').read() }}",
		"{{ 'x'.encode('utf-8') }}", "{{ strftime_now('%Q') }}", "{{ 1/0 }}", "{{ raise_exception() }}",
	}
}

// peak returns the most memory that the process had, in MiB.
func peak(t *testing.T) int {
	t.Helper()
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	if runtime.GOOS == "darwin" {
		return int(usage.Maxrss >> 20)
	}
	return int(usage.Maxrss >> 10)
}

func TestHostileTemplatesAreStopped(t *testing.T) {
	hostile := hostileTemplates()
	require.Greater(t, len(hostile), 50)
	before := peak(t)
	seen := map[string]bool{}
	for _, source := range hostile {
		require.False(t, seen[source])
		seen[source] = true
		tmpl, err := CompileTemplate(source, TemplateOptions{Now: clock})
		if err == nil {
			_, err = tmpl.Render([]byte(`{"messages": []}`), time.Time{})
			tmpl.Close()
		}
		var failure *TemplateError
		short := fmt.Sprintf("%.200s", source)
		require.ErrorAs(t, err, &failure, short)
		require.NotContains(t, failure.Message, "internal error", short)
		require.Less(t, len(failure.Message), 2000, short)
	}
	// One of them is stopped at its 64 MiB; the rest is the stack of others.
	require.Less(t, peak(t)-before, 512)
}

func TestATemplateThatWasStoppedStaysRefused(t *testing.T) {
	tmpl := compile(t, "{% if grow %}{% set ns = namespace(l=[1]) %}{% for i in range(99) %}"+
		"{% set ns.l = ns.l + ns.l %}{% endfor %}{% endif %}fine")
	text, err := tmpl.Render([]byte(`{}`), time.Time{})
	require.NoError(t, err)
	require.Equal(t, "fine", text)
	_, err = tmpl.Render([]byte(`{"grow": true}`), time.Time{})
	require.ErrorContains(t, err, "more than 64 MiB")
	_, err = tmpl.Render([]byte(`{}`), time.Time{})
	require.ErrorContains(t, err, "earlier run")
}

func TestHostileGrammarsAreBounded(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	g, _ := grammarTokenizer(t, tok)
	before := peak(t)
	for _, c := range []struct{ kind, source string }{
		{"regex", "((a{100}){100}){100}"}, {"regex", "(a|b|c){1000000}"}, {"regex", "(.*a){50}"},
		{"regex", "a{1,1000000000}"}, {"regex", "(?:(?:x*)*)*y"},
		{"regex", strings.Repeat("a?", 1000) + strings.Repeat("a", 1000)},
		{"json_schema", `{"type":"string","minLength":1000000000}`},
		{"json_schema", `{"type":"array","minItems":1000000000}`}, {"json_schema", `{"$ref":"#"}`},
		{"json_schema", `{"allOf":[{"$ref":"#"},{"$ref":"#"}]}`},
		{"json_schema", `{"type":"integer","minimum":-1e300,"maximum":1e300}`},
		{"json_schema", `{"enum":[` + strings.Repeat(`"abcdefgh",`, 50000) + `"z"]}`},
		{"json_schema", `{"x-guidance":5}`}, {"json_schema", `{"x-guidance":{"whitespace_pattern":"("}}`},
		{"lark", "start: start start | \"a\""}, {"lark", "start: a{1,100000000}\na: \"x\""},
		{"lark", "start: " + strings.Repeat("a ", 50000) + "\na: \"x\""},
		{"lark", "start: " + strings.Repeat("~", 10000) + "/a/"},
	} {
		grammar, err := g.Compile(c.kind, c.source)
		if err != nil {
			require.NotContains(t, err.Error(), "internal error", c.source)
			continue
		}
		m, err := grammar.NewMatcher()
		require.NoError(t, err)
		mask := make([]uint32, m.MaskWords())
		for i := 0; i < 20 && !m.IsStopped() && m.Mask(mask) == nil; i++ {
			ids := enginetest.MaskTokens(mask)
			if m.Consume(ids[i%len(ids)]) != nil {
				break
			}
		}
		m.Close()
		grammar.Close()
	}
	require.Less(t, peak(t)-before, 1024)
}
