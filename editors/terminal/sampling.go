package terminal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"harmonyd/schema"
)

// addSamplingFlags lets flags set s. A flag that is not given leaves its member
// absent. Each is named after its member, so that checkFlags can name it.
func addSamplingFlags(cmd *cobra.Command, s *schema.Sampling) {
	fl := cmd.Flags()
	fl.VarP(optional[float64]{&s.Temperature}, "temperature", "t", "0 is the most likely answer, higher is more varied")
	fl.Var(optional[float64]{&s.TopP}, "top-p", "keep the most likely tokens that together reach this probability; 1 is off")
	fl.Var(optional[float64]{&s.MinP}, "min-p", "drop tokens less likely than this share of the best; 0 is off")
	fl.Var(optional[int]{&s.MinTokensToKeep}, "min-tokens-to-keep", "so many tokens --min-p never drops")
	fl.Var(optional[int]{&s.TopK}, "top-k", "keep this many of the most likely tokens; 0 is off")
	fl.Var(optional[float64]{&s.XTCProbability}, "xtc-probability", "how often to exclude all but the least of the likely tokens; 0 is off")
	fl.Var(optional[float64]{&s.XTCThreshold}, "xtc-threshold", "the probability of a likely token (default 0.1)")
	fl.Var(optional[float64]{&s.RepetitionPenalty}, "repetition-penalty", "divide the scores of tokens seen lately; 1 is off")
	fl.Var(optional[int]{&s.RepetitionContextSize}, "repetition-context-size", "tokens that are lately; 0 is all (default 20)")
	fl.Var(optional[float64]{&s.PresencePenalty}, "presence-penalty", "lower the scores of tokens seen lately; 0 is off")
	fl.Var(optional[int]{&s.PresenceContextSize}, "presence-context-size", "tokens that are lately; 0 is all (default 20)")
	fl.Var(optional[float64]{&s.FrequencyPenalty}, "frequency-penalty", "lower the scores of tokens as often as they were seen lately; 0 is off")
	fl.Var(optional[int]{&s.FrequencyContextSize}, "frequency-context-size", "tokens that are lately; 0 is all (default 20)")
	fl.Var((*biases)(&s.LogitBias), "logit-bias", "add to the score of a token, as in 42=-100 by id or ' yes'=5 by text; may be repeated")
	fl.Var(optional[int64]{&s.Seed}, "seed", "repeat an answer at a temperature above 0")
	// The names in mlx-lm and llama.cpp.
	for _, alias := range [][2]string{
		{"temp", "temperature"}, {"repeat-penalty", "repetition-penalty"}, {"repeat-last-n", "repetition-context-size"},
	} {
		fl.Var(fl.Lookup(alias[1]).Value, alias[0], "")
		_ = fl.MarkHidden(alias[0]) // it is there
	}
}

// optional is a flag whose target stays nil where the flag is not given.
type optional[T int | int64 | float64] struct{ to **T }

func (o optional[T]) Set(text string) error {
	v := new(T)
	switch v := any(v).(type) {
	case *float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return errors.New("want a finite number")
		}
		*v = f
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("want an integer")
		}
		*v = n
	case *int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return errors.New("want an integer")
		}
		*v = n
	}
	*o.to = v
	return nil
}

func (o optional[T]) String() string {
	if o.to == nil || *o.to == nil {
		return ""
	}
	return fmt.Sprint(**o.to)
}

// Type is what the help calls the value.
func (o optional[T]) Type() string {
	if _, ok := any(o).(optional[float64]); ok {
		return "float"
	}
	return "int"
}

// biases is a flag that adds a bias each time.
type biases []schema.LogitBias

func (b *biases) Set(text string) error {
	i := strings.LastIndexByte(text, '=')
	if i < 1 {
		return errors.New("want TOKEN=BIAS")
	}
	bias, err := strconv.ParseFloat(text[i+1:], 64)
	if err != nil || math.IsNaN(bias) || math.IsInf(bias, 0) {
		return errors.New("want a finite number behind the =")
	}
	entry := schema.LogitBias{Text: text[:i], Bias: bias}
	if id, err := strconv.Atoi(entry.Text); err == nil {
		entry.Text, entry.Token = "", &id
	}
	*b = append(*b, entry)
	return nil
}

func (*biases) String() string { return "" }

// Type is what the help calls the value.
func (*biases) Type() string { return "token=bias" }

// flagOf is the flag that sets what a JSON Pointer into generate's params points
// at: the name of the member, or of sampling's, with its words apart.
func flagOf(pointer string) string {
	name, rest, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	if name == "sampling" {
		name, _, _ = strings.Cut(rest, "/")
	}
	var flag strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			flag.WriteByte('-')
		}
		flag.WriteRune(unicode.ToLower(r))
	}
	return flag.String()
}

// printLogprobs writes a line for each token: its text and probability, then the
// most probable tokens in its place.
func printLogprobs(w io.Writer, all []schema.TokenLogprobs) {
	share := func(logprob float64) float64 { return 100 * math.Exp(logprob) }
	for _, l := range all {
		var line strings.Builder
		fmt.Fprintf(&line, "%-16q %8.4f %6.2f%%", l.Text, l.Logprob, share(l.Logprob))
		for _, t := range l.Top {
			fmt.Fprintf(&line, "  %q %.2f%%", t.Text, share(t.Logprob))
		}
		fmt.Fprintln(w, line.String())
	}
}
