package enginetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Script says what a scripted engine does. As a file it is one JSON object,
// every member of which is optional; unknown members are an error, so that a
// misspelt one does not go unnoticed:
//
//	{
//	  "ring": 256,                    events buffered per generation
//	  "models": [{
//	    "id": "scripted",
//	    "contextLength": 4096,
//	    "sizeBytes": 1000000,
//	    "loadMs": 200,                time a load takes
//	    "failLoad": "no such tensor", every load fails with this cause
//	    "neededBytes": 9, "availableBytes": 5,   ... for want of memory
//	    "panic": "planted",           opening it is a fault of the program
//	    "noTemplate": true,           the model has no chat template
//	    "vocabulary": ["the ", "ing"],  tokens of more than one byte
//	    "prefillTokensPerSecond": 0,  0 is as fast as possible
//	    "prefillChunk": 256,          tokens between two chances to cancel
//	    "tokensPerSecond": 100,       0 is as fast as possible
//	    "runAhead": 1,                see Model.RunAhead
//	    "replies": [{
//	      "contains": "weather",      the prompt has this text in it
//	      "text": "It rains.<|im_end|>",
//	      "tokens": [195],            ids to follow the text
//	      "endless": true,            starts over instead of ending
//	      "tokensPerSecond": 5,       instead of the model's
//	      "failAt": 3, "fail": "lost", breaks instead of the fourth token
//	      "panic": "planted"          starting it is a fault of the program
//	    }]
//	  }]
//	}
//
// The first model is the default model. The first reply whose "contains" is in
// the prompt is given; where there is none, the model echoes the last user
// message, or a raw prompt as it is.
type Script struct {
	Models []Model `json:"models"`
	Ring   int     `json:"ring"`
}

// Model is one model of a Script.
type Model struct {
	ID             string   `json:"id"`
	ContextLength  int      `json:"contextLength"`
	SizeBytes      int64    `json:"sizeBytes"`
	LoadMS         int      `json:"loadMs"`
	FailLoad       string   `json:"failLoad"`
	NeededBytes    int64    `json:"neededBytes"`
	AvailableBytes int64    `json:"availableBytes"`
	Panic          string   `json:"panic"`
	NoTemplate     bool     `json:"noTemplate"`
	Vocabulary     []string `json:"vocabulary"`

	PrefillTokensPerSecond float64 `json:"prefillTokensPerSecond"`
	PrefillChunk           int     `json:"prefillChunk"`
	TokensPerSecond        float64 `json:"tokensPerSecond"`
	// RunAhead fixes how many tokens the loop is ahead of its consumer: each
	// token is handed over alone, at the moment when exactly this many later
	// ones have been made. Where it is absent, the loop runs ahead as far as
	// the ring allows, as fast as the clock allows.
	RunAhead *int    `json:"runAhead"`
	Replies  []Reply `json:"replies"`
}

// Reply is what a model writes to the prompts that it fits.
type Reply struct {
	Contains        string  `json:"contains"`
	Text            string  `json:"text"`
	Tokens          []int32 `json:"tokens"`
	Endless         bool    `json:"endless"`
	TokensPerSecond float64 `json:"tokensPerSecond"`
	FailAt          int     `json:"failAt"`
	Fail            string  `json:"fail"`
	Panic           string  `json:"panic"`
}

// ReadScript reads a script to its end. An empty one gives a model named
// "scripted" that echoes.
func ReadScript(r io.Reader) (Script, error) {
	var s Script
	text, err := io.ReadAll(r)
	if err != nil {
		return Script{}, fmt.Errorf("script: %w", err)
	}
	if len(bytes.TrimSpace(text)) > 0 {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return Script{}, fmt.Errorf("script: %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return Script{}, errors.New("script: text after the JSON object")
		}
	}
	return s, s.fill()
}

// fill sets the defaults and reports the first thing that makes no sense.
func (s *Script) fill() error {
	if len(s.Models) == 0 {
		s.Models = []Model{{}}
	}
	if s.Ring == 0 {
		s.Ring = 256
	}
	if s.Ring < 4 {
		return fmt.Errorf("script: ring: got %d, want at least 4", s.Ring)
	}
	seen := map[string]bool{}
	for i := range s.Models {
		m := &s.Models[i]
		if m.ID == "" {
			m.ID = "scripted"
		}
		if seen[m.ID] {
			return fmt.Errorf("script: model %q: appears twice", m.ID)
		}
		seen[m.ID] = true
		if err := m.fill(s.Ring); err != nil {
			return fmt.Errorf("script: model %q: %w", m.ID, err)
		}
	}
	return nil
}

func (m *Model) fill(ring int) error {
	if m.ContextLength == 0 {
		m.ContextLength = 4096
	}
	if m.SizeBytes == 0 {
		m.SizeBytes = 1_000_000
	}
	if m.PrefillChunk == 0 {
		m.PrefillChunk = 256
	}
	switch {
	case m.ContextLength < 2:
		return fmt.Errorf("contextLength: got %d, want at least 2", m.ContextLength)
	case m.LoadMS < 0 || m.SizeBytes < 0 || m.NeededBytes < 0 || m.AvailableBytes < 0 || m.PrefillChunk < 0:
		return errors.New("a negative size or time")
	case !(m.TokensPerSecond >= 0) || !(m.PrefillTokensPerSecond >= 0):
		return errors.New("tokens per second: want 0 or more")
	// Two slots are kept for what is no token.
	case m.RunAhead != nil && (*m.RunAhead < 0 || *m.RunAhead > ring-3):
		return fmt.Errorf("runAhead: got %d, want 0 to %d (the ring less 3)", *m.RunAhead, ring-3)
	}
	vocabulary := newTokenizer(m.Vocabulary)
	if len(vocabulary.words) != len(m.Vocabulary) {
		return errors.New("vocabulary: an entry is empty, appears twice, or is a special token")
	}
	for i, r := range m.Replies {
		for _, id := range r.Tokens {
			if id < 0 || int(id) >= vocabulary.size() {
				return fmt.Errorf("reply %d: token %d: want 0 to %d", i, id, vocabulary.size()-1)
			}
		}
		if r.FailAt < 0 || !(r.TokensPerSecond >= 0) || (r.FailAt > 0 && r.Fail == "") {
			return fmt.Errorf("reply %d: failAt and tokensPerSecond want 0 or more, failAt wants fail", i)
		}
	}
	return nil
}

// pace is the time of n tokens at a rate where 0 is as fast as possible.
func pace(n int, perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return time.Duration(float64(n) / perSecond * float64(time.Second))
}
