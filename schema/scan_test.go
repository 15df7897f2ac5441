package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestScan(t *testing.T) {
	for _, test := range []struct {
		in   string
		kind Kind // "" for sound
	}{
		{`{}`, ""}, {` [1, -0, 0.5, 1e9, -1.5E-3, "a", true, false, null, {}] `, ""}, {`"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d"`, ""},
		{`{"a":{"a":{"a":1}}}`, ""}, {`{"a":1,"b":{"a":1},"A":2}`, ""}, {"\"é漢😀\x7f\"", ""},
		{``, KindParse}, {` `, KindParse}, {`{`, KindParse}, {`[`, KindParse}, {`{}}`, KindParse}, {`{"a"}`, KindParse}, {`{a:1}`, KindParse},
		{`[1,]`, KindParse}, {`{"a":1,}`, KindParse}, {`01`, KindParse}, {`1.`, KindParse}, {`.1`, KindParse}, {`+1`, KindParse}, {`1e`, KindParse}, {`-`, KindParse},
		{`nul`, KindParse}, {`True`, KindParse}, {"\"\x00\"", KindParse}, {"\"\n\"", KindParse}, {`"\a"`, KindParse}, {`"\u00g0"`, KindParse}, {`"\u12"`, KindParse},
		{`"`, KindParse}, {`"\`, KindParse}, {"\"\xff\"", KindParse}, {"\"\xed\xa0\x80\"", KindParse}, {"\"\xc0\xaf\"", KindParse}, {`1 2`, KindParse}, {"\xef\xbb\xbf{}", KindParse},
		{`{"a":1,"a":1}`, KindInvalidRequest}, {`{"a":1,"\u0061":1}`, KindInvalidRequest}, {`[{"x":[{"b":1,"c":2,"b":3}]}]`, KindInvalidRequest}, {`{"":1,"":2}`, KindInvalidRequest},
		{`[[[[]]]]`, ""}, {`[[[[[]]]]]`, KindInvalidRequest}, {`[[[[{}]]]]`, KindInvalidRequest}, {`[[[[[}]]]]`, KindInvalidRequest}, {`[[[[["]"]]]], 1`, KindParse},
		// What is nested too deeply is not looked into, what follows it is.
		{`[[[[[nonsense]]]],"a"]`, KindInvalidRequest}, {`[[[[[]]]],nonsense]`, KindParse}, {`{"a":1,"a":2,nonsense}`, KindParse},
	} {
		err := Scan([]byte(test.in), 4, nil)
		if test.kind == "" {
			require.Nil(t, err, test.in)
			continue
		}
		require.NotNil(t, err, test.in)
		require.Equal(t, test.kind, err.Data.Kind, "%s: %v", test.in, err)
	}
}

// TestScanMembers: the members of the outermost object are told, as bytes.
func TestScanMembers(t *testing.T) {
	var got []string
	require.Nil(t, Scan([]byte(` { "b" : {"z":1, "a":[ 2 ]} , "\u0061":"x"} `), 4, func(name string, value []byte) {
		got = append(got, name, string(value))
	}))
	require.Equal(t, []string{"b", `{"z":1, "a":[ 2 ]}`, "a", `"x"`}, got)
}

// TestScanLinear: what a scan allocates grows with the open objects only.
func TestScanLinear(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("[", 1_000_000), "[" + strings.Repeat(`{},`, 1_000_000) + "1]", `"` + strings.Repeat(`\n`, 1_000_000) + `"`,
		"[" + strings.Repeat(`{"a":{"b":[]}},`, 100_000) + "1]",
	} {
		got := testing.AllocsPerRun(1, func() { Scan([]byte(in), 128, nil) })
		require.Less(t, got, 20.0, "%.20s", in)
	}
	var b strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&b, `,"m%d":0`, i)
	}
	require.Nil(t, Scan([]byte("{"+b.String()[1:]+"}"), 4, nil))
	require.NotNil(t, Scan([]byte("{"+b.String()[1:]+`,"m299999":0}`), 4, nil))
}

func TestUnquote(t *testing.T) {
	for _, in := range []string{
		`""`, `"a"`, `"\""`, `"\\"`, `"\/"`, `"\b\f\n\r\t"`, `"\u0041\u00e9\u6f22"`, `"\ud83d\ude00"`, `"a\ud83d"`, `"\ud83dx\ude00"`, `"\ude00\ud83d"`,
		`"\ud83d\ud83d\ude00"`, `"é漢😀"`, `"\u0000"`, `"\ud83d\u0041"`,
	} {
		var want string
		require.NoError(t, json.Unmarshal([]byte(in), &want))
		require.Equal(t, want, Unquote([]byte(in)), in)
	}
}

func TestAppendString(t *testing.T) {
	for _, in := range []string{"", "a", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "<b>&amp;</b>", "é漢😀\u2028\u2029", "a\xffb\xc0\xaf\xed\xa0\x80c\xe6\xbc", "�"} {
		var got string
		require.NoError(t, json.Unmarshal(AppendString(nil, in), &got), in)
		require.Equal(t, strings.Map(func(r rune) rune { return r }, in), got)
		require.Equal(t, AppendString(nil, in), AppendString(nil, []byte(in)))
	}
	room := make([]byte, 0, 1000)
	require.Zero(t, testing.AllocsPerRun(100, func() { AppendString(room, []byte("é\"漢😀\n plain")) }))
}

// FuzzScan agrees with encoding/json on what is JSON, and with itself on the
// text of strings.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e3,"x\u00e9"],"b":null}`, `[[[]]]`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, `tru`, ` 0 `} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		err := Scan(in, 1<<30, nil)
		malformed := err != nil && err.Data.Kind == KindParse
		if utf8.Valid(in) {
			require.Equal(t, !json.Valid(in), malformed, "%q", in)
		}
		shallow := Scan(in, 3, nil)
		if !malformed && err != nil {
			require.NotNil(t, shallow)
		}
		if !malformed {
			require.Equal(t, len(strings.TrimSpace(string(in))), valueLen([]byte(strings.TrimSpace(string(in)))))
		}
		var want string
		if !malformed && json.Unmarshal(in, &want) == nil && want != "" {
			require.Equal(t, want, Unquote([]byte(strings.TrimSpace(string(in)))))
		}
	})
}
