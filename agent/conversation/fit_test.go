package conversation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// script makes messages of words: s system, d developer, u user, a answer, c… a call with
// the ids that follow, r… the result of one.
func script(text string) (all []schema.Message) {
	for i, w := range strings.Fields(text) {
		m := schema.Message{Content: schema.TextContent(fmt.Sprint(i))}
		switch w[0] {
		case 's':
			m.Role = schema.RoleSystem
		case 'd':
			m.Role = schema.RoleDeveloper
		case 'u':
			m.Role = schema.RoleUser
		case 'a':
			m.Role = schema.RoleAssistant
		case 'c':
			m.Role = schema.RoleAssistant
			for _, id := range w[1:] {
				m.ToolCalls = append(m.ToolCalls, schema.ToolCall{CallID: string(id)})
			}
		case 'r':
			m.Role, m.ToolCallID = schema.RoleTool, w[1:]
		}
		all = append(all, m)
	}
	return all
}

// tens counts ten tokens a message.
func tens(m []schema.Message) (int, error) { return 10 * len(m), nil }

func TestFit(t *testing.T) {
	const window, middle = schema.OverflowRollingWindow, schema.OverflowTruncateMiddle
	for _, c := range []struct {
		messages string
		policy   schema.ContextOverflow
		room     int // in messages
		want     string
	}{
		{"s u a u a u", window, 6, "0 1 2 3 4 5"},
		{"s u a u a u", "", 6, "0 1 2 3 4 5"},
		{"s u a u a u", window, 5, "0 3 4 5"},
		{"s u a u a u", window, 4, "0 3 4 5"},
		{"s u a u a u", window, 3, "0 5"},
		{"s u a u a u", window, 2, "0 5"},
		{"s u a u a u", middle, 5, "0 1 2 5"},
		{"s u a u a u", middle, 3, "0 5"},
		{"u a u a s u a u d", middle, 7, "0 1 4 5 6 7 8"},
		{"u a u a s u a u d", middle, 5, "0 1 4 7 8"},
		{"a u a u a u", window, 3, "3 4 5"}, // a greeting goes with the first turn
		{"a u a u a u", middle, 4, "0 1 2 5"},
		{"s u cab ra rb a u", window, 5, "0 6"}, // the calls go with their results
		{"s u cab ra rb a u cc rc cd rd", window, 8, "0 6 7 8 9 10"},
		{"s u ca ra cb rb cc rc", window, 7, "0 1 4 5 6 7"}, // within the last turn
		{"s u ca ra cb rb cc rc", middle, 4, "0 1 6 7"},
		{"s u ca ra ca ra", window, 4, "0 1 4 5"}, // ids that come again
		{"s u a u ca ra cb rb", middle, 7, "0 1 2 3 6 7"},
		{"s u ca u ra u", window, 4, "0 5"}, // a result after another question
		{"s u ca u ra u", window, 5, "0 5"},
		{"s u r u", window, 3, "0 3"}, // results without calls, as imported ones are
		{"s u r r u", window, 3, "0 4"},
		{"s a r a r a", window, 3, "0 5"}, // no user at all
	} {
		got, err := Fit(script(c.messages), c.policy, 10*c.room, tens)
		require.NoError(t, err, c.messages)
		require.Equal(t, "["+c.want+"]", fmt.Sprint(got), "%s, %s, %d", c.messages, c.policy, c.room)
	}
}

func TestFitRefusesWithNumbers(t *testing.T) {
	for _, c := range []struct {
		messages string
		policy   schema.ContextOverflow
		room     int
		want     string
	}{
		{"s u a u", "", 3, "the messages need 40 tokens, and there is room for 30"},
		{"s u a u", schema.OverflowError, 3, "the messages need 40 tokens, and there is room for 30"},
		{"s u a u", schema.OverflowRollingWindow, 1, "the system message, the last user message and what belongs to it need 20 tokens, and there is room for 10 (40 with all messages)"},
		{"s u ca ra cb rb", schema.OverflowTruncateMiddle, 3, "need 40 tokens, and there is room for 30 (60 with all messages)"},
		{"s u ca u ra u", schema.OverflowRollingWindow, 0, "need 20 tokens"},
		{"s ca u ra", schema.OverflowRollingWindow, 3, "need 40 tokens"},
		{"u", schema.OverflowRollingWindow, 0, "need 10 tokens"},
	} {
		_, err := Fit(script(c.messages), c.policy, 10*c.room, tens)
		var over *OverflowError
		require.ErrorAs(t, err, &over, c.messages)
		require.ErrorContains(t, err, c.want)
	}
	_, err := Fit(script("u a u"), "shrink", 10, tens)
	require.ErrorContains(t, err, `context overflow "shrink": want error, truncateMiddle or rollingWindow`)
	broken := errors.New("broken")
	_, err = Fit(script("u a u"), schema.OverflowRollingWindow, 10, func(m []schema.Message) (int, error) { return 0, broken })
	require.ErrorIs(t, err, broken)
	n := 0
	_, err = Fit(script("u a u a u"), schema.OverflowRollingWindow, 10, func(m []schema.Message) (int, error) {
		if n++; n > 1 {
			return 0, broken
		}
		return 100, nil
	})
	require.ErrorIs(t, err, broken)
}

// TestFitKeepsItsPromises goes through 20,000 random conversations, policies and budgets.
func TestFitKeepsItsPromises(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	fitted, refused, rounds := 0, 0, 20_000
	if raceEnabled {
		rounds /= 20
	}
	for range rounds {
		var words []string
		var open []string
		for range 1 + r.IntN(30) {
			w := []string{"s", "u", "u", "a", "c", "r", "r"}[r.IntN(7)]
			switch {
			case w == "c":
				for range 1 + r.IntN(3) {
					id := string(rune('a' + r.IntN(6)))
					w, open = w+id, append(open, id)
				}
			case w == "r" && len(open) > 0:
				i := r.IntN(len(open))
				w, open = w+open[i], slices.Delete(open, i, i+1)
			}
			words = append(words, w)
		}
		messages := script(strings.Join(words, " "))
		weight := make([]int, len(messages))
		for i := range weight {
			weight[i] = 1 + r.IntN(50)
		}
		calls := 0
		count := func(some []schema.Message) (int, error) {
			calls++
			total := 3
			for _, m := range some {
				var i int
				_, _ = fmt.Sscan(m.Content.Text(), &i)
				total += weight[i]
			}
			return total, nil
		}
		policy := []schema.ContextOverflow{schema.OverflowRollingWindow, schema.OverflowTruncateMiddle}[r.IntN(2)]
		budget := r.IntN(600)
		kept, err := Fit(messages, policy, budget, count)
		require.LessOrEqual(t, calls, 8)
		last := -1
		for i, m := range messages {
			if m.Role == schema.RoleUser {
				last = i
			}
		}
		if err != nil {
			var over *OverflowError
			require.ErrorAs(t, err, &over)
			require.Greater(t, over.Tokens, budget)
			refused++
			continue
		}
		tokens, _ := count(pick(messages, kept))
		require.LessOrEqual(t, tokens, budget)
		require.True(t, slices.IsSorted(kept))
		in := map[int]bool{}
		for _, i := range kept {
			in[i] = true
		}
		caller := map[string]int{}
		for i, m := range messages {
			if m.Role == schema.RoleSystem || i == last {
				require.True(t, in[i], "%v: %d", words, i)
			}
			for _, c := range m.ToolCalls {
				caller[c.CallID] = i
			}
			if from, ok := caller[m.ToolCallID]; ok && m.Role == schema.RoleTool {
				require.Equal(t, in[from], in[i], "%v: the call %d and its result %d, kept %v", words, from, i, kept)
			}
		}
		if len(kept) < len(messages) {
			fitted++
		}
	}
	t.Logf("%d fitted, %d refused", fitted, refused)
	require.Greater(t, fitted, rounds/10)
	require.Greater(t, refused, rounds/20)
}

func TestFitIsFastForLongConversations(t *testing.T) {
	messages := script(strings.Repeat("u ca ra a ", 4000) + "u")
	calls := 0
	kept, err := Fit(messages, schema.OverflowRollingWindow, 10*41, func(m []schema.Message) (int, error) {
		calls++
		return tens(m)
	})
	require.NoError(t, err)
	require.Len(t, kept, 41)
	require.LessOrEqual(t, calls, 15)
}
