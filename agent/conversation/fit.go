package conversation

import (
	"fmt"
	"slices"
	"sort"

	"harmonyd/schema"
)

// OverflowError says that messages do not fit, whatever is left out.
type OverflowError struct {
	// Tokens is the length of the shortest prompt that the policy allows, Budget what
	// there is room for.
	Tokens, Budget int
	// All is the length of the prompt with nothing left out.
	All    int
	Policy schema.ContextOverflow
}

func (e *OverflowError) Error() string {
	if e.Policy == schema.OverflowError {
		return fmt.Sprintf("the messages need %d tokens, and there is room for %d", e.All, e.Budget)
	}
	return fmt.Sprintf("the system message, the last user message and what belongs to it need %d tokens, and there is room for %d (%d with all messages)",
		e.Tokens, e.Budget, e.All)
}

// Fit leaves messages out until the rest has at most budget tokens. It returns the indices
// of those that stay, in order. Count counts the tokens of a prompt of some messages,
// everything that a template adds included; it must not give a shorter prompt more tokens.
// Fit calls it for a number of prompts that grows with the logarithm of len(messages), and
// changes nothing.
//
// A message stays whole or goes whole, and a call goes with its results. System and
// developer messages, the last user message and the end of the conversation, which the
// model is to go on from, always stay. The policies differ in what goes first:
//
//   - OverflowError, or none: nothing goes, it is an error.
//   - OverflowRollingWindow: the oldest.
//   - OverflowTruncateMiddle: the oldest but for the first user message and what followed
//     it, which go last.
//
// A user message goes with all that followed it, so that roles still alternate as
// templates demand. Only of the last one's are calls left out one by one, with their
// results, once nothing else is left.
//
// Where the rest is too long the error is *OverflowError.
func Fit(messages []schema.Message, policy schema.ContextOverflow, budget int, count func([]schema.Message) (int, error)) ([]int, error) {
	all := make([]int, len(messages))
	for i := range all {
		all[i] = i
	}
	total, err := count(messages)
	if err != nil || total <= budget {
		return all, err
	}
	var order [][]int
	switch policy {
	case schema.OverflowError, "":
		return nil, &OverflowError{Tokens: total, Budget: budget, All: total, Policy: schema.OverflowError}
	case schema.OverflowRollingWindow, schema.OverflowTruncateMiddle:
		order = removable(messages, policy == schema.OverflowTruncateMiddle)
	default:
		return nil, fmt.Errorf("context overflow %q: want %s, %s or %s", policy,
			schema.OverflowError, schema.OverflowTruncateMiddle, schema.OverflowRollingWindow)
	}
	without := func(n int) []int {
		gone := make([]bool, len(messages))
		for _, i := range slices.Concat(order[:n]...) {
			gone[i] = true
		}
		return slices.DeleteFunc(slices.Clone(all), func(i int) bool { return gone[i] })
	}
	least := total
	n := 1 + sort.Search(len(order), func(i int) bool {
		if err != nil {
			return true
		}
		var tokens int
		if tokens, err = count(pick(messages, without(i+1))); err != nil {
			return true
		}
		least = min(least, tokens)
		return tokens <= budget
	})
	if err != nil {
		return nil, err
	}
	if n > len(order) {
		return nil, &OverflowError{Tokens: least, Budget: budget, All: total, Policy: policy}
	}
	return without(n), nil
}

func pick(messages []schema.Message, indices []int) []schema.Message {
	some := make([]schema.Message, len(indices))
	for n, i := range indices {
		some[n] = messages[i]
	}
	return some
}

// removable are the groups of messages that may go, in the order in which they do.
func removable(messages []schema.Message, keepFirst bool) [][]int {
	groups := together(messages)
	isUser := func(g []int) bool {
		return slices.ContainsFunc(g, func(i int) bool { return messages[i].Role == schema.RoleUser })
	}
	// The last turn begins with the group of the last user message, which stays, as does
	// the last group.
	last := len(groups) - 1
	for last >= 0 && !isUser(groups[last]) {
		last--
	}
	var turns [][]int
	begun := false
	for _, g := range groups[:max(0, last)] {
		// What precedes the first user message, such as a greeting, belongs to its turn,
		// and a call that was answered after another question to the turn of the call.
		if len(turns) == 0 || begun && messages[g[0]].Role == schema.RoleUser {
			turns = append(turns, nil)
		}
		begun = begun || isUser(g)
		turns[len(turns)-1] = append(turns[len(turns)-1], g...)
	}
	var first [][]int
	if keepFirst && len(turns) > 0 {
		first, turns = turns[:1:1], turns[1:]
	}
	order := turns
	if from := last + 1; from < len(groups)-1 {
		order = append(slices.Clone(order), groups[from:len(groups)-1]...)
	}
	return append(slices.Clone(order), first...)
}

// together groups the messages that are no instructions: neighbours, as small as may be,
// with each call in the group of its results.
func together(messages []schema.Message) [][]int {
	caller := map[string]int{} // by the call's id, the newest message that makes it
	reach := make([]int, len(messages))
	for i, m := range messages {
		reach[i] = i
		for _, c := range m.ToolCalls {
			caller[c.CallID] = i
		}
		if from, ok := caller[m.ToolCallID]; ok && m.ToolCallID != "" && m.Role == schema.RoleTool {
			reach[from] = i
		}
	}
	var groups [][]int
	var group []int
	end := 0
	for i, m := range messages {
		end = max(end, reach[i])
		if m.Role != schema.RoleSystem && m.Role != schema.RoleDeveloper {
			group = append(group, i)
		}
		// An orphaned result follows what it came after.
		next := i+1 < len(messages) && messages[i+1].Role == schema.RoleTool && len(group) > 0 && messages[i].Role != schema.RoleUser
		if end <= i && !next && len(group) > 0 {
			groups, group = append(groups, group), nil
		}
	}
	return groups
}
