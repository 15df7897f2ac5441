package agent

import (
	"errors"
	"slices"

	"harmonyd/agent/conversation"
	"harmonyd/schema"
)

// roomShare is the part of a context that is kept free for an answer whose length
// nobody bounds, where messages are left out for it.
const roomShare = 8

// encode returns the ids of the prompt.
func (t *turn) encode() ([]int32, error) {
	if t.params.Messages == nil {
		ids, err := t.model.Tokenizer.Encode(*t.params.Prompt, true)
		if err == nil && len(ids) == 0 {
			err = schema.InvalidParam("/prompt", "is empty")
		}
		return ids, err
	}
	all := slices.Concat(t.history, t.added)
	if p := t.params.ContextOverflow; p == "" || p == schema.OverflowError {
		ids, err := t.model.renderer.RenderChat(t.chat(all))
		if err == nil && t.tuned != nil && len(ids) > t.tuned.settings.Context.MaxTokens {
			err = schema.ContextOverflowed(len(ids), t.tuned.settings.Context.MaxTokens)
		}
		return ids, err
	}
	return t.fit(all)
}

// specs are the turn's tools as the model is told of them.
func (t *turn) specs() []schema.ToolSpec {
	specs := make([]schema.ToolSpec, len(t.tools))
	for i := range t.tools {
		specs[i] = t.tools[i].ToolSpec
	}
	return specs
}

// fit leaves messages out until the rest and an answer have room in the context. A
// turn's later answers may have to leave out more.
func (t *turn) fit(all []schema.Message) ([]int32, error) {
	budget := t.promptBudget()
	var ids []int32
	fitting := -1 // messages of the prompt in ids
	kept, err := conversation.Fit(all, t.params.ContextOverflow, budget, func(some []schema.Message) (int, error) {
		got, err := t.model.renderer.RenderChat(t.chat(some))
		ids, fitting = got, len(some)
		return len(got), err
	})
	var overflow *conversation.OverflowError
	if errors.As(err, &overflow) {
		return nil, schema.ContextOverflowed(overflow.Tokens, max(budget, 0))
	}
	if err != nil {
		return nil, err
	}
	t.usage.OmittedMessages = len(all) - len(kept)
	if fitting == len(kept) { // the prompt that was counted last
		return ids, nil
	}
	some := make([]schema.Message, len(kept))
	for i, at := range kept {
		some[i] = all[at]
	}
	return t.model.renderer.RenderChat(t.chat(some))
}
