package native

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clock is the time that testdata/goldens.py renders at.
func clock() time.Time { return time.Date(2024, 7, 5, 15, 4, 9, 0, time.UTC) }

func compile(t testing.TB, source string) *Template {
	t.Helper()
	tmpl, err := CompileTemplate(source, TemplateOptions{
		BOS: "<s>", EOS: "</s>", PAD: "<pad>", UNK: "<unk>", Now: clock,
	})
	require.NoError(t, err)
	t.Cleanup(tmpl.Close)
	return tmpl
}

func render(t testing.TB, source, context string) string {
	t.Helper()
	text, err := compile(t, source).Render([]byte(context), time.Time{})
	require.NoError(t, err)
	return text
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", path))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, v))
}

func TestTemplatesRenderAsTransformersDoes(t *testing.T) {
	var contexts map[string]json.RawMessage
	var goldens struct {
		Renders map[string]map[string]struct {
			Text          *string
			Raised, Error string
		}
	}
	readJSON(t, "contexts.json", &contexts)
	readJSON(t, "goldens.json", &goldens)
	compared := 0
	for name, renders := range goldens.Renders {
		source, err := os.ReadFile(filepath.Join("testdata", "templates", name+".jinja"))
		require.NoError(t, err)
		tmpl := compile(t, string(source))
		for context, want := range renders {
			key := name + ": " + context
			got, err := tmpl.Render(contexts[context], time.Time{})
			compared++
			var failure *TemplateError
			switch {
			case want.Text != nil:
				require.NoError(t, err, key)
				require.Equal(t, *want.Text, got, key)
			case want.Raised != "":
				require.ErrorAs(t, err, &failure, key)
				require.True(t, failure.Raised, key)
				require.Equal(t, want.Raised, failure.Message, key)
			default:
				require.ErrorAs(t, err, &failure, "%s: Python says %s", key, want.Error)
				require.False(t, failure.Raised, key)
			}
		}
	}
	require.Greater(t, compared, 80)
}

func TestTimeIsTheCallers(t *testing.T) {
	for format, want := range map[string]string{
		"%Y-%m-%d %H:%M:%S": "2024-07-05 15:04:09", "%d %b %Y": "05 Jul 2024", "%A, %B %-d": "Friday, July 5",
		"%j %y %I %p %e %a": "187 24 03 PM  5 Fri", "%F %T %%": "2024-07-05 15:04:09 %", "%z": "+0000", "%-I:%M": "3:04",
	} {
		require.Equal(t, want, render(t, "{{ strftime_now(fmt) }}", fmt.Sprintf(`{"fmt": %q}`, format)))
	}
}

func TestKeyOrderAndNumbersAreKept(t *testing.T) {
	require.Equal(t, `{"z": 1, "a": 2, "m": 1.0, "e": 1e+22, "i": 9007199254740993}`,
		render(t, "{{ x | tojson }}", `{"x": {"z":1,"a":2,"m":1.0,"e":1e22,"i":9007199254740993}}`))
}

func TestDefaultsOfTheContext(t *testing.T) {
	source := "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} {{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}"
	require.Equal(t, "True True False <s></s><pad><unk>", render(t, source, `{}`))
	require.Equal(t, "False False True b</s><pad><unk>",
		render(t, source, `{"tools": [], "documents": [], "add_generation_prompt": true, "bos_token": "b"}`))
	tmpl, err := CompileTemplate("{{ bos_token is defined }}{{ bos_token }}", TemplateOptions{})
	require.NoError(t, err)
	defer tmpl.Close()
	text, err := tmpl.Render([]byte(`{}`), time.Time{})
	require.NoError(t, err)
	require.Equal(t, "False", text)
}

func TestReasoningIsFoundUnderEachName(t *testing.T) {
	source := "{% for m in messages %}{{ m.keys() | list | join(',') }}={{ m.reasoning_content }}/{{ m.thinking }};{% endfor %}"
	for message, want := range map[string]string{
		`{"role":"a","reasoning":"r"}`:                           "thinking,role,reasoning,reasoning_content=r/r;",
		`{"role":"a","thinking":"t"}`:                            "role,thinking,reasoning_content=t/t;",
		`{"reasoning_content":"c","role":"a"}`:                   "thinking,reasoning_content,role=c/c;",
		`{"thinking":"t","reasoning_content":"c"}`:               "thinking,reasoning_content=c/t;",
		`{"reasoning_content":null,"role":"a","reasoning":null}`: "reasoning_content,role,reasoning=None/;",
	} {
		require.Equal(t, want, render(t, source, `{"messages":[`+message+`]}`))
	}
}

func TestLineEndsOfTheSource(t *testing.T) {
	require.Equal(t, "a\nb\nc", render(t, "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc\r\n", `{}`))
	require.Equal(t, "{% generation", render(t, "{{ '{% generation' }}", `{}`))
}

func TestBadContexts(t *testing.T) {
	tmpl := compile(t, "{{ messages }}")
	for name, context := range map[string]string{
		"empty": ``, "list": `[]`, "half": `{"a":`, "deep": `{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}",
		"large": `{"a":"` + strings.Repeat("x", 32<<20) + `"}`,
	} {
		_, err := tmpl.Render([]byte(context), time.Time{})
		var failure *TemplateError
		require.ErrorAs(t, err, &failure, name)
		require.False(t, failure.Raised)
	}
	_, err := CompileTemplate("{% if %}", TemplateOptions{})
	require.ErrorContains(t, err, "line 1")
	_, err = CompileTemplate("a\xff", TemplateOptions{})
	require.ErrorContains(t, err, "UTF-8")
}

func TestTemplateAfterClose(t *testing.T) {
	tmpl, err := CompileTemplate("x", TemplateOptions{})
	require.NoError(t, err)
	tmpl.Close()
	tmpl.Close()
	_, err = tmpl.Render([]byte(`{}`), time.Time{})
	require.ErrorIs(t, err, ErrClosed)
}

func FuzzTemplate(f *testing.F) {
	paths, err := filepath.Glob("testdata/templates/*.jinja")
	require.NoError(f, err)
	for _, path := range paths {
		source, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(string(source), `{"messages": [{"role": "user", "content": "hi"}]}`)
	}
	for _, h := range hostileTemplates() {
		f.Add(h, `{}`)
	}
	f.Fuzz(func(t *testing.T, source, context string) {
		tmpl, err := CompileTemplate(source, TemplateOptions{Now: clock})
		if err != nil {
			return
		}
		defer tmpl.Close()
		text, err := tmpl.Render([]byte(context), time.Time{})
		require.LessOrEqual(t, len(text), 8<<20)
		if err != nil {
			require.NotContains(t, err.Error(), "internal error")
		}
	})
}
