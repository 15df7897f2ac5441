package job

import (
	"fmt"
	"math"
)

// Sampling chooses a token from the model's scores. The zero value is greedy
// decoding. Names, order and meaning are mlx-lm's: bias and penalties change the
// scores, also of greedy decoding; then the filters top-p, min-p, XTC and top-k
// drop tokens by their probability at temperature 1; then the temperature applies.
type Sampling struct {
	// Temperature divides the log-probabilities; 0 is greedy.
	Temperature float32
	// TopP keeps the smallest set of tokens whose probability reaches it.
	// 0 and 1 both mean off.
	TopP float32
	// TopK keeps the k most probable tokens. 0 means off.
	TopK int
	// MinP drops tokens less probable than MinP times the most probable one.
	// 0 means off.
	MinP float32
	// MinTokensToKeep is the number of tokens that MinP leaves. 0 means 1.
	MinTokensToKeep int
	// XTCProbability is the share of positions at which all tokens more probable
	// than XTCThreshold are dropped but the least probable of them. 0 means off.
	XTCProbability, XTCThreshold float32
	// XTCSpared are tokens that XTC never drops, besides those that end a
	// generation.
	XTCSpared []int32

	// LogitBias is added to scores; of a token that is there twice, the sum.
	LogitBias []LogitBias
	// RepetitionPenalty divides the positive and multiplies the negative scores
	// of tokens seen lately. 0 and 1 both mean off.
	RepetitionPenalty float32
	// PresencePenalty is taken from the scores of tokens seen lately, and
	// FrequencyPenalty as often as they were seen. 0 means off.
	PresencePenalty, FrequencyPenalty float32
	// The contexts say how many of the last tokens of prompt and output are
	// lately. 0 means DefaultPenaltyContext, WholeContext all of them.
	RepetitionContext, PresenceContext, FrequencyContext int

	// Seed makes sampling repeatable where HasSeed is set; otherwise the engine
	// draws one. Gob omits zero values behind pointers, hence the second field.
	Seed    uint64
	HasSeed bool
}

// The contexts of penalties that are not numbers of tokens.
const (
	DefaultPenaltyContext = 20
	WholeContext          = -1
)

// LogitBias is added to the score of a token.
type LogitBias struct {
	ID    int32
	Value float32
}

// maxBias bounds what is added to scores, so that no sum overflows.
const maxBias = 1e6

// Validate reports the first parameter that is out of its range, for a model of
// that many tokens.
func (s *Sampling) Validate(vocab int) error {
	for _, p := range []struct {
		name      string
		v         float32
		low, high float32
	}{
		{"temperature", s.Temperature, 0, 100},
		{"topP", s.TopP, 0, 1},
		{"minP", s.MinP, 0, 1},
		{"xtcProbability", s.XTCProbability, 0, 1},
		{"xtcThreshold", s.XTCThreshold, 0, 0.5},
		{"repetitionPenalty", s.RepetitionPenalty, 0, 100},
		{"presencePenalty", s.PresencePenalty, -100, 100},
		{"frequencyPenalty", s.FrequencyPenalty, -100, 100},
	} {
		if !(p.v >= p.low && p.v <= p.high) {
			return fmt.Errorf("%s: got %v, want %v to %v", p.name, p.v, p.low, p.high)
		}
	}
	if p := s.RepetitionPenalty; p > 0 && p < 0.01 { // scores would overflow
		return fmt.Errorf("repetitionPenalty: got %v, want 0 or 0.01 to 100", p)
	}
	for _, n := range []struct {
		name   string
		v, low int
	}{
		{"topK", s.TopK, 0},
		{"minTokensToKeep", s.MinTokensToKeep, 0},
		{"repetitionContext", s.RepetitionContext, WholeContext},
		{"presenceContext", s.PresenceContext, WholeContext},
		{"frequencyContext", s.FrequencyContext, WholeContext},
	} {
		if n.v < n.low || n.v > math.MaxInt32 {
			return fmt.Errorf("%s: got %d, want %d to %d", n.name, n.v, n.low, math.MaxInt32)
		}
	}
	return s.validateIDs(vocab)
}

// validateIDs must refuse every id that no score belongs to: nothing on the device
// checks them.
func (s *Sampling) validateIDs(vocab int) error {
	for i, b := range s.LogitBias {
		switch {
		case b.ID < 0 || int(b.ID) >= vocab:
			return fmt.Errorf("logitBias: entry %d is for token %d, want 0 to %d", i, b.ID, vocab-1)
		case !(math.Abs(float64(b.Value)) <= maxBias):
			return fmt.Errorf("logitBias: entry %d: got %v, want %v to %v", i, b.Value, -maxBias, maxBias)
		}
	}
	for i, id := range s.XTCSpared {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("xtcSpared: entry %d is token %d, want 0 to %d", i, id, vocab-1)
		}
	}
	return nil
}
