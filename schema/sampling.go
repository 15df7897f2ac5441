package schema

import "github.com/invopop/jsonschema"

// Sampling chooses tokens from a model's scores. LogitBias and the penalties
// change the scores, also where Temperature is 0. Then TopP, MinP, XTC and TopK
// drop tokens, in this order and by their probability before the temperature. All
// of them mean what they mean in mlx-lm.
type Sampling struct {
	// Temperature divides the scores; higher is more varied. Absent or 0 always
	// takes the most probable token.
	Temperature *float64 `json:"temperature,omitempty" jsonschema:"minimum=0,maximum=100"`
	// TopP keeps the most probable tokens that together reach it; 0 and 1 are off.
	TopP *float64 `json:"topP,omitempty" jsonschema:"minimum=0,maximum=1"`
	// TopK keeps the k most probable tokens; 0 is off.
	TopK *int `json:"topK,omitempty" jsonschema:"minimum=0,maximum=2147483647"`
	// MinP drops tokens less probable than this share of the best; 0 is off.
	MinP *float64 `json:"minP,omitempty" jsonschema:"minimum=0,maximum=1"`
	// MinTokensToKeep is how many of the most probable tokens MinP never drops;
	// absent means 1.
	MinTokensToKeep *int `json:"minTokensToKeep,omitempty" jsonschema:"minimum=1,maximum=2147483647"`
	// XTCProbability is the share of tokens for which XTC acts, exclude top choices:
	// of the tokens more probable than XTCThreshold it keeps the least probable.
	// 0 is off. Line ends and the tokens that end an answer are never dropped.
	XTCProbability *float64 `json:"xtcProbability,omitempty" jsonschema:"minimum=0,maximum=1"`
	// XTCThreshold is a probability; absent means 0.1.
	XTCThreshold *float64 `json:"xtcThreshold,omitempty" jsonschema:"minimum=0,maximum=0.5"`
	// Seed makes sampling repeatable.
	Seed *int64 `json:"seed,omitempty" jsonschema:"minimum=0,maximum=9007199254740991"`
	// LogitBias is added to the scores of tokens.
	LogitBias []LogitBias `json:"logitBias,omitempty" jsonschema:"maxItems=1024"`
	// RepetitionPenalty divides the positive scores of tokens seen lately and
	// multiplies the negative ones; 1 is off.
	RepetitionPenalty *float64 `json:"repetitionPenalty,omitempty" jsonschema:"minimum=0.01,maximum=100"`
	// RepetitionContextSize is how many of the last tokens, of prompt and answer,
	// RepetitionPenalty looks at; absent means 20, and 0 all.
	RepetitionContextSize *int `json:"repetitionContextSize,omitempty" jsonschema:"minimum=0,maximum=2147483647"`
	// PresencePenalty is taken from the scores of tokens seen lately; 0 is off.
	PresencePenalty *float64 `json:"presencePenalty,omitempty" jsonschema:"minimum=-100,maximum=100"`
	// PresenceContextSize is how many of the last tokens, of prompt and answer,
	// PresencePenalty looks at; absent means 20, and 0 all.
	PresenceContextSize *int `json:"presenceContextSize,omitempty" jsonschema:"minimum=0,maximum=2147483647"`
	// FrequencyPenalty is taken from the scores of tokens as often as they were
	// seen lately; 0 is off.
	FrequencyPenalty *float64 `json:"frequencyPenalty,omitempty" jsonschema:"minimum=-100,maximum=100"`
	// FrequencyContextSize is how many of the last tokens, of prompt and answer,
	// FrequencyPenalty looks at; absent means 20, and 0 all.
	FrequencyContextSize *int `json:"frequencyContextSize,omitempty" jsonschema:"minimum=0,maximum=2147483647"`
}

// LogitBias is added to the score of a token. Exactly one of Token and Text is
// given.
type LogitBias struct {
	// Token is the id of the token.
	Token *int `json:"token,omitempty" jsonschema:"minimum=0,maximum=2147483647"`
	// Text stands for all tokens that it is made of.
	Text string `json:"text,omitempty" jsonschema:"minLength=1,maxLength=1024"`
	// Bias is what is added; -100 makes a token all but impossible.
	Bias float64 `json:"bias" jsonschema:"minimum=-1000,maximum=1000"`
}

func (b *LogitBias) broken() string {
	switch {
	case b.Token == nil && b.Text == "":
		return "neither token nor text is given"
	case b.Token != nil && b.Text != "":
		return "token and text are both given, want one"
	}
	return ""
}

// JSONSchemaExtend publishes that exactly one of token and text is given.
func (LogitBias) JSONSchemaExtend(s *jsonschema.Schema) {
	s.OneOf = []*jsonschema.Schema{{Required: []string{"token"}}, {Required: []string{"text"}}}
}

// TokenLogprobs says how probable a generated token was. The probabilities are
// those after bias and penalties, before all else.
type TokenLogprobs struct {
	// Token is the id of the token.
	Token int `json:"token"`
	// Text is what the token adds to a text.
	Text string `json:"text"`
	// Bytes is Text in base64, where the token is no whole characters and Text
	// therefore not all of it.
	Bytes []byte `json:"bytes,omitempty"`
	// Logprob is the natural logarithm of the probability.
	Logprob float64 `json:"logprob"`
	// Top are the most probable tokens in this place, the best first. There are
	// fewer than were asked for where others are impossible.
	Top []TokenLogprob `json:"top"`
}

// TokenLogprob is a token that was possible.
type TokenLogprob struct {
	// Token is the id of the token.
	Token int `json:"token"`
	// Text is what the token adds to a text.
	Text string `json:"text"`
	// Bytes is Text in base64, where the token is no whole characters and Text
	// therefore not all of it.
	Bytes []byte `json:"bytes,omitempty"`
	// Logprob is the natural logarithm of the probability.
	Logprob float64 `json:"logprob"`
}
