package rpctest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"harmonyd/rpc"
	"harmonyd/schema"
)

// The goals, in milliseconds.
const (
	cancelGoal     = 5  // R10 with the scripted engine
	cancelPastStep = 20 // R10 with a model, beyond one step
	countGoal      = 50 // R11
	firstGoal      = 5  // S2, from the token to its delta
	gapGoal        = 33 // S2, beyond one step
)

// endless asks for text that does not end soon.
const endless = "Write a very long story about a lighthouse keeper and the sea, with many chapters."

// script makes a scripted engine as fast as a small model on a good machine.
const (
	scriptedRate = 400 // tokens per second
	script       = `{"models":[{"tokensPerSecond":400,"replies":[{"contains":"lighthouse","text":"and the sea rose ","endless":true}]}]}`
)

// scripted are the figures of the scripted server.
func (f Figures) scripted(ctx context.Context) ([]figure, error) {
	folder, err := os.MkdirTemp("", "harmonyd-figures")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "script.json")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, f.Scripted, "--log-level", "error")
	cmd.Env = append(os.Environ(), "HARMONYD_SCRIPT="+file)
	cmd.Stderr = os.Stderr
	c, err := SpawnCommand(cmd)
	if err != nil {
		return nil, err
	}
	s := session{client: c}
	cancels, err := s.cancels(f.samples())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Scripted, err)
	}
	return []figure{{"R10", "cancel → result, scripted engine at 400 tokens/s", "ms", cancels, cancelGoal, true}}, s.end()
}

// real are the figures of the real server with its default model.
func (f Figures) real(ctx context.Context) ([]figure, error) {
	c, err := Spawn(ctx, os.Stderr, f.Real, "--log-level", "error")
	if err != nil {
		return nil, err
	}
	s := session{client: c}
	step, gaps, err := s.steps()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Real, err)
	}
	cancels, err := s.cancels(f.samples())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Real, err)
	}
	counts, err := s.counts(5 * f.samples())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Real, err)
	}
	return []figure{
		{"R10", fmt.Sprintf("cancel → result, default model, a step of %s ms", number(step)), "ms", cancels, step + cancelPastStep, true},
		{"R11", "tokens/count while the default model decodes", "ms", counts, countGoal, true},
		{"S2", "between deltas, default model", "ms", gaps, gapGoal + step, true},
	}, s.end()
}

// session is a connection that is measured.
type session struct {
	client *Client
	n      int // generations so far
}

// open initializes a connection, and loads the model.
func (s *session) open() error {
	if s.n > 0 {
		return nil
	}
	s.client.Headers = true
	if _, err := s.client.Initialize(); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	return s.client.Call("model/load", struct{}{}, nil, nil)
}

func (s *session) end() error {
	code, err := s.client.Shutdown()
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return err
}

// generate starts a generation and returns the id of its request.
func (s *session) generate(maxTokens int) (int, error) {
	if err := s.open(); err != nil {
		return 0, err
	}
	s.n++
	none := []schema.ToolRef{}
	return s.client.Request("generate", schema.GenerateParams{
		GenerationID: s.name(), Tools: &none, MaxTokens: maxTokens,
		Messages: []schema.Message{{Role: schema.RoleUser, Content: schema.TextContent(endless)}},
	})
}

func (s *session) name() string { return fmt.Sprintf("g%d", s.n) }

// deltas passes over n deltas, and reports when each came.
func (s *session) deltas(n int, came func(time.Time)) error {
	for n > 0 {
		m, err := s.client.Receive()
		switch {
		case err != nil:
			return err
		case m.Method == "generate/delta":
			came(time.Now())
			n--
		case m.Method == "":
			return fmt.Errorf("the generation ended: %s", m.Raw)
		}
	}
	return nil
}

// cancels measures from a cancel to the result of its generation.
func (s *session) cancels(n int) (ms []float64, err error) {
	for range n {
		id, err := s.generate(4000)
		if err != nil {
			return nil, err
		}
		if err := s.deltas(2, func(time.Time) {}); err != nil {
			return nil, err
		}
		time.Sleep(rand.N(30 * time.Millisecond)) // anywhere within a step and a batch
		begin := time.Now()
		if err := s.client.Notify("cancel", schema.CancelParams{GenerationID: s.name()}); err != nil {
			return nil, err
		}
		var r schema.GenerateResult
		if err := s.client.Await(id, &r, nil); err != nil {
			return nil, err
		}
		ms = append(ms, milliseconds(time.Since(begin)))
		if r.StopReason != schema.StopCancelled {
			return nil, fmt.Errorf("a cancelled generation ended with %s", r.StopReason)
		}
	}
	return ms, nil
}

// steps measures how long one token takes, in milliseconds, and the times between
// deltas.
func (s *session) steps() (step float64, gaps []float64, err error) {
	id, err := s.generate(200)
	if err != nil {
		return 0, nil, err
	}
	var last time.Time
	var r schema.GenerateResult
	err = s.client.Await(id, &r, func(m Message) {
		if m.Method != "generate/delta" {
			return
		}
		now := time.Now()
		if !last.IsZero() {
			gaps = append(gaps, milliseconds(now.Sub(last)))
		}
		last = now
	})
	if err != nil {
		return 0, nil, err
	}
	if len(gaps) == 0 || r.Usage.TokensPerSecond <= 0 {
		return 0, nil, fmt.Errorf("a generation of %d tokens shows no steps", r.Usage.CompletionTokens)
	}
	return 1000 / r.Usage.TokensPerSecond, gaps, nil
}

// counts measures answers to tokens/count while generations run one after the
// other.
func (s *session) counts(n int) (ms []float64, err error) {
	text := strings.Repeat("The keeper climbs the stairs and lights the lamp. ", 20)
	running := 0
	for range n {
		if running == 0 {
			if running, err = s.generate(4000); err != nil {
				return nil, err
			}
			if err := s.deltas(1, func(time.Time) {}); err != nil {
				return nil, err
			}
		}
		begin := time.Now()
		var r schema.TokensCountResult
		err := s.client.Call("tokens/count", schema.TokensCountParams{Text: &text}, &r, func(m Message) {
			if string(m.ID) == fmt.Sprint(running) {
				running = 0
			}
		})
		if err != nil {
			return nil, err
		}
		ms = append(ms, milliseconds(time.Since(begin)))
		time.Sleep(rand.N(10 * time.Millisecond))
	}
	if running == 0 {
		return ms, nil
	}
	if err := s.client.Notify("cancel", schema.CancelParams{All: true}); err != nil {
		return nil, err
	}
	return ms, s.client.Await(running, nil, nil)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// streaming are the figures of tokens whose times are known: an agent makes one
// every step, and the client is at the other end of two pipes of the system.
func (f Figures) streaming(ctx context.Context) ([]figure, error) {
	const step = time.Second / scriptedRate
	in, toServer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fromServer, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	agent := &timedAgent{step: step, tokens: 60}
	code := make(chan int, 1)
	go func() { code <- rpc.Serve(ctx, in, out, agent, rpc.Options{}) }()
	c := newClient(toServer, fromServer, func() int { return <-code })
	if _, err := c.Initialize(); err != nil {
		return nil, err
	}
	var first, gaps []float64
	for range f.samples() {
		begin := true
		var last time.Time
		err := c.Call("generate", map[string]any{"prompt": "-"}, nil, func(m Message) {
			if m.Method != "generate/delta" {
				return
			}
			now := time.Now()
			if begin {
				first = append(first, milliseconds(now.Sub(time.Unix(0, firstTime(m.Params)))))
			} else {
				gaps = append(gaps, milliseconds(now.Sub(last)))
			}
			begin, last = false, now
		})
		if err != nil {
			return nil, err
		}
	}
	if _, err := c.Shutdown(); err != nil {
		return nil, err
	}
	return []figure{
		{"S2", "first token → its delta", "ms", first, firstGoal, true},
		{"S2", "between deltas at 400 tokens/s", "ms", gaps, gapGoal + milliseconds(step), true},
	}, toServer.Close()
}

// timedAgent generates a token each step. The text of the first is the time at
// which it was made.
type timedAgent struct {
	Agent
	step   time.Duration
	tokens int
}

// Generate says the tokens.
func (a *timedAgent) Generate(ctx context.Context, _ schema.GenerateParams, s rpc.Sink, _ rpc.Host) (schema.GenerateResult, error) {
	tick := time.NewTicker(a.step)
	defer tick.Stop()
	for i := range a.tokens {
		<-tick.C
		text := " token"
		if i == 0 {
			text = fmt.Sprint(time.Now().UnixNano())
		}
		s.Text(ctx, schema.ChannelText, text, 1)
	}
	return schema.GenerateResult{StopReason: schema.StopEndTurn}, nil
}

// firstTime is the time in a first delta, in nanoseconds.
func firstTime(params json.RawMessage) int64 {
	var d schema.GenerateDelta
	var t int64
	if json.Unmarshal(params, &d) == nil && len(d.Parts) > 0 {
		_, _ = fmt.Sscan(d.Parts[0].Text, &t)
	}
	return t
}
