package parse

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// harmonyIDs are the ids that GPT-OSS has for the marks of gptOSS.
var harmonyIDs = []int32{200006, 200007, 200008, 200005, 200003, 200002, 200012}

// theirs are the messages that openai-harmony finds in a completion, or why it
// refuses it.
type theirs struct {
	Error    string
	Messages []struct{ Role, Name, Recipient, Channel, Text string }
}

// parts are the messages as this package shows them: text, reasoning and calls.
func (m *theirs) parts() string {
	var out []string
	for _, m := range m.Messages {
		switch {
		case m.Role != "assistant", m.Recipient == "assistant":
		case m.Recipient != "" && m.Recipient != "user" && m.Recipient != "all":
			out = append(out, fmt.Sprintf("C[%s]", m.Text))
		case m.Text == "":
		case strings.HasPrefix(m.Channel, "analysis"):
			out = append(out, fmt.Sprintf("R[%s]", m.Text))
		default:
			out = append(out, fmt.Sprintf("T[%s]", m.Text))
		}
	}
	return strings.Join(out, " ")
}

// ours are the parts of a completion in the same form.
func ours(parts []Part) string {
	var out []string
	for _, p := range parts {
		switch p.Kind {
		case Text, Reasoning:
			out = append(out, fmt.Sprintf("%c[%s]", "TR"[p.Kind], p.Text))
		case CallFinished:
			out = append(out, fmt.Sprintf("C[%s]", p.Call.Raw))
		}
	}
	return strings.Join(out, " ")
}

// irregular says what in a completion is not of the format as it is specified. Those
// are the cases in which this package understands more than openai-harmony does.
func irregular(said string) string {
	content, header, opened := false, "", false
	for said != "" || !content && header != "" {
		at, mark := len(said), ""
		for _, m := range gptOSS {
			if i := strings.Index(said, m); i >= 0 && i < at {
				at, mark = i, m
			}
		}
		text := said[:at]
		said = said[at+len(mark):]
		switch {
		case content && (mark == "<|message|>" || mark == "<|channel|>" || mark == "<|constrain|>"):
			return "a header's mark in a content"
		case content && mark == "<|start|>":
			return "a message without an end"
		case content:
			content, header = false, ""
			if rest, ok := strings.CutPrefix(said, "<|start|>"); ok && rest == "" {
				return "a header without <|message|>"
			} else if ok {
				said, opened = rest, true
			} else if said != "" {
				return "a message without <|start|>"
			}
		case mark == "<|channel|>" || mark == "<|constrain|>":
			header += text + mark
		case mark != "<|message|>":
			return "a header without <|message|>"
		case !regular.MatchString(header + text), opened && !strings.HasPrefix(header+text, "assistant"):
			return "a header that is none"
		default:
			content = true
		}
	}
	return ""
}

var regular = regexp.MustCompile(`^(?:assistant)?(?: to=[\w.]+)? ?(?:<\|channel\|>(?:analysis|commentary|final)(?: to=[\w.]+)?)? ?(?:<\|constrain\|>)?(?:json|code)?$`)

// TestHarmonyParsesAsOpenAI: what openai-harmony reads in a completion of the
// format, this package does too. Of irregular ones it reads at least as much; each
// such case is one of irregular's.
func TestHarmonyParsesAsOpenAI(t *testing.T) {
	var goldens struct {
		Tokens map[string]string
		Cases  []struct {
			IDs             []int32
			Strict, Lenient theirs
		}
	}
	f, err := os.Open("testdata/harmony.json.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(z).Decode(&goldens))
	counts := map[string]int{}
	for _, c := range goldens.Cases {
		var tokens []token
		var said strings.Builder
	next:
		for _, id := range c.IDs {
			for i, special := range harmonyIDs {
				if id == special {
					tokens = append(tokens, token{256 + int32(i), ""})
					said.WriteString(gptOSS[i])
					continue next
				}
			}
			b, err := base64.StdEncoding.DecodeString(goldens.Tokens[strconv.Itoa(int(id))])
			require.NoError(t, err)
			tokens = append(tokens, token{1 << 20, string(b)})
			said.Write(b)
		}
		e := example{format: "harmony", vocabulary: gptOSS, prompt: begins}
		got := ours(parse(t, e.parser(t), tokens, said.String()))
		reason := irregular(said.String())
		same := c.Strict.Error == "" && strings.ToValidUTF8(got, "\uFFFD") == c.Strict.parts()
		switch {
		case reason == "":
			require.Empty(t, c.Strict.Error, "%q", said.String())
			require.True(t, same, "%q\ntheirs %s\nours   %s", said.String(), c.Strict.parts(), got)
			counts["regular"]++
		case same:
			counts["irregular, the same"]++
		default:
			counts[reason]++
		}
		if c.Strict.Error != "" {
			counts["refused there"]++
		}
	}
	t.Log(counts)
	require.GreaterOrEqual(t, counts["regular"], 100)
	for _, kind := range []string{
		"irregular, the same", "refused there", "a header's mark in a content", "a message without an end", "a message without <|start|>",
		"a header without <|message|>", "a header that is none",
	} {
		require.Positive(t, counts[kind], kind)
	}
}

// TestALongHeader: a header that is too long is read the same wherever its bound lies, and
// however it is cut.
func TestALongHeader(t *testing.T) {
	for n := range 2 * maxHeader {
		filler := strings.Repeat("x", n)
		for _, answer := range []string{
			"<|start|>assistant" + filler + "<|channel|>final<|message|>hello<|end|>",
			"<|start|>assistant<|channel|>commentary to=functions.f" + filler + "<|constrain|>json<|message|>{}<|call|>",
			"<|channel|>final " + filler,
		} {
			e := example{format: "harmony", answer: answer, vocabulary: gptOSS}
			tokens := e.vocabulary.tokens(answer)
			want := show(parse(t, e.parser(t), tokens, answer))
			for _, k := range []int{1, 7, maxHeader} {
				got := show(parse(t, e.parser(t), cut(tokens, func(place int) bool { return place%k == 0 }), answer))
				require.Equal(t, want, got, "%q", answer)
			}
		}
	}
}
