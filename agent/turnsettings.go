package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"harmonyd/agent/profile"
	"harmonyd/agent/prompt"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// tuned is what settings make of a turn.
type tuned struct {
	settings profile.Settings
	seed     *int64  // that the request itself gives, which counts as it is
	ends     []int32 // tokens that end an answer
	// opening comes before the conversation: what the developer says, and examples.
	opening  []schema.Message
	examples []schema.Message
	number   int // of the turn in its conversation, from 0
}

// tune takes the settings that the turn's session and request have, if they have any,
// once the model is known that they are for.
func (t *turn) tune() error {
	p := t.params
	c := t.session.configured(p.Settings, t.start)
	if c == nil {
		return nil
	}
	s, err := c.resolve(t.model, t.own.Merge(membersOf(p)))
	if err != nil {
		return err
	}
	u := &tuned{settings: s, seed: p.Sampling.Seed}
	if u.ends, err = t.endTokens(&s); err != nil {
		return err
	}
	t.tuned = u
	p.Sampling, p.Stop = s.Sampling, s.Stop
	t.answer = newAnswer(0, p.Stop)
	if p.MaxRounds == 0 {
		p.MaxRounds = s.MaxToolRounds + 1
	}
	if p.Messages == nil {
		return nil
	}
	p.ContextOverflow = s.Context.Overflow
	if s.Prompt.Developer != "" {
		u.opening = []schema.Message{{Role: schema.RoleDeveloper, Content: schema.TextContent(s.Prompt.Developer)}}
	}
	u.examples = examples(s.Prompt.Examples)
	p.Messages = expanded(p.Messages, s.Prompt.Placeholders)
	for _, m := range t.session.conversation(nil) {
		if m.Role == schema.RoleUser {
			u.number++
		}
	}
	return nil
}

// endTokens are the ids of the control tokens that end an answer. One that a request names
// has to be there; others are of files that serve several models.
func (t *turn) endTokens(s *profile.Settings) ([]int32, error) {
	var ids []int32
	for _, text := range s.EndTokens {
		id, known, err := t.model.controlToken(text)
		if err != nil {
			return nil, err
		}
		if known {
			ids = append(ids, id)
		} else if s.Origin("end_token_strings").Source == schema.FromRequest {
			return nil, schema.InvalidParam("/settings/end_token_strings",
				"%q is no control token of the model %s; texts that end an answer belong to stop", text, t.model.Info.ID)
		}
	}
	return ids, nil
}

// expanded is messages with the placeholders in what the user says replaced. It stands in
// the conversation so: that is what the model reads, also another day.
func expanded(messages []schema.Message, p profile.Placeholders) []schema.Message {
	messages = slices.Clone(messages)
	for i := range messages {
		if messages[i].Role != schema.RoleUser {
			continue
		}
		content := slices.Clone(messages[i].Content)
		for k := range content {
			if content[k].Type == schema.PartText {
				content[k].Text = p.Expand(content[k].Text)
			}
		}
		messages[i].Content = content
	}
	return messages
}

// examples are example dialogues as messages. What is for a tool is a call of it, where it
// is an object.
func examples(dialogues [][]profile.ExampleTurn) []schema.Message {
	var all []schema.Message
	called := map[string]string{} // the last call of each tool
	for _, turn := range slices.Concat(dialogues...) {
		m := schema.Message{Role: schema.Role(turn.Role), Content: schema.TextContent(turn.Content), Name: turn.Name}
		var object map[string]json.RawMessage
		switch {
		case m.Role == schema.RoleAssistant && turn.Recipient != "" && json.Unmarshal([]byte(turn.Content), &object) == nil && object != nil:
			name := strings.TrimPrefix(turn.Recipient, "functions.")
			called[name] = fmt.Sprintf("example.%d", len(all))
			m = schema.Message{Role: m.Role, ToolCalls: []schema.ToolCall{{CallID: called[name], Name: name, Arguments: json.RawMessage(turn.Content)}}}
		case m.Role == schema.RoleTool:
			m.Name = strings.TrimPrefix(turn.Name, "functions.")
			m.ToolCallID = called[m.Name]
		}
		all = append(all, m)
	}
	return all
}

// chat is what the model is to answer, of some of the messages of the conversation.
func (t *turn) chat(messages []schema.Message) prompt.Chat {
	c := prompt.Chat{Messages: messages, Tools: t.specs()}
	if t.tuned == nil {
		return c
	}
	u, s := t.tuned, &t.tuned.settings
	// Instructions stand before all else, whoever gives them.
	n := 0
	for n < len(messages) && (messages[n].Role == schema.RoleSystem || messages[n].Role == schema.RoleDeveloper) {
		n++
	}
	c.Messages = slices.Concat(u.opening, messages[:n], u.examples, messages[n:])
	if t.attempt > 0 {
		c.Messages = append(c.Messages, schema.Message{Role: schema.RoleUser, Content: schema.TextContent(askAgain[t.retry])})
	}
	if s.Origin("reasoning_effort").Source != schema.FromDefault {
		c.Effort = prompt.Effort(s.Reasoning.Effort)
	}
	c.Identity, c.KnowledgeCutoff, c.Date, c.Now = s.Prompt.Identity, s.Prompt.KnowledgeCutoff, s.Prompt.Date, s.Prompt.Now
	return c
}

// contextLength is how many tokens prompt and answer may have together.
func (t *turn) contextLength() int {
	n := t.model.Info.ContextLength
	if t.tuned != nil && t.tuned.settings.Context.MaxKVSize > 0 {
		n = min(n, t.tuned.settings.Context.MaxKVSize)
	}
	return n
}

// promptBudget is how many tokens a prompt may have where messages are left out for it,
// so that an answer has room.
func (t *turn) promptBudget() int {
	n := t.contextLength()
	answer := t.params.MaxTokens - t.generated
	if t.params.MaxTokens == 0 {
		answer = n / roomShare
	}
	if t.tuned == nil {
		return n - max(answer, 1)
	}
	s := &t.tuned.settings
	if t.params.MaxTokens == 0 {
		// A bound that most answers do not reach is not worth more than half of the context.
		answer = min(s.MaxTokens, n/2)
	}
	return min(n-max(answer, 1), s.Context.MaxTokens)
}

// bound is how many more tokens the answer may have behind a prompt, and why no more;
// 0 is what the context holds.
func (t *turn) bound(prompt int) (most int, why schema.StopReason) {
	why = schema.StopMaxTokens
	lower := func(n int, reason schema.StopReason) {
		if most == 0 || n < most {
			most, why = max(n, 1), reason
		}
	}
	if t.params.MaxTokens > 0 {
		lower(t.params.MaxTokens-t.generated-t.tokens, schema.StopMaxTokens)
	}
	if t.tuned != nil {
		lower(t.tuned.settings.MaxTokens-t.tokens, schema.StopMaxTokens)
		if t.contextLength() < t.model.Info.ContextLength {
			lower(t.contextLength()-prompt, schema.StopContextFull)
		}
	}
	return most, why
}

// request is what the engine is asked for the next part of the answer.
func (t *turn) request(ids []int32) (job.Request, error) {
	if t.tuned == nil {
		return jobRequest(t.params, t.model.Model, ids)
	}
	p, s := *t.params, &t.tuned.settings
	seed := s.Seed
	if t.tuned.seed != nil {
		seed = profile.Seed{Value: *t.tuned.seed, EachTurn: true}
	}
	attempt := t.round
	if t.before > 0 { // other draws than those of the part before
		attempt += 1 << 10
	}
	p.Sampling.Seed = seed.For(t.tuned.number, attempt)
	if t.attempt > 0 {
		p.Sampling = firmer(p.Sampling, t.retry)
	}
	req, err := jobRequest(&p, t.model.Model, ids)
	if s.XTCSpecialTokens != nil && req.Sampling.XTCProbability > 0 {
		req.Sampling.XTCSpared = nil
		for _, id := range s.XTCSpecialTokens {
			req.Sampling.XTCSpared = append(req.Sampling.XTCSpared, int32(id))
		}
	}
	req.StopIDs = t.tuned.ends
	if err == nil && t.before > 0 {
		err = t.forbidReasoning(&req)
	}
	return req, err
}

// hyperparameters are what somebody gave a value of, under the names of prompt configs.
func (t *turn) hyperparameters() json.RawMessage {
	if t.tuned != nil {
		return t.tuned.settings.Hyperparameters()
	}
	text, err := schema.Encode(membersOf(t.params))
	if err != nil {
		return nil
	}
	return text
}

// measures are what the settings add to the record of a turn.
func (t *turn) measures() []slog.Attr {
	if t.tuned == nil {
		return nil
	}
	var attrs []slog.Attr
	if t.tuned.settings.Log.Timing {
		u := &t.usage
		attrs = append(attrs, slog.Float64("queueMs", u.QueueMS), slog.Float64("loadMs", u.LoadMS),
			slog.Float64("prefillMs", u.PrefillMS), slog.Float64("decodeMs", u.DecodeMS))
	}
	if t.tuned.settings.Log.Memory {
		attrs = append(attrs, slog.Int64("activeBytes", t.stats.ActiveBytes), slog.Int64("peakBytes", t.stats.PeakBytes))
	}
	return attrs
}
