package terminal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent"
	"harmonyd/schema"
)

// chatFake is an agent whose answers a test gives.
type chatFake struct {
	fake
	said     []schema.GenerateParams
	turn     func(ctx context.Context, s agent.Sink, h agent.Host) schema.StopReason
	news     []schema.SessionNewParams
	loads    []schema.SessionLoadParams
	closes   []string
	sessions []schema.SessionInfo
	result   schema.SessionResult // of NewSession, but for the id
	loaded   schema.SessionLoadResult
	noStore  bool
	settings []schema.Setting
	models   []schema.ModelInfo
	asked    []json.RawMessage
}

func (f *chatFake) Generate(ctx context.Context, p schema.GenerateParams, s agent.Sink, h agent.Host) (schema.GenerateResult, error) {
	f.said = append(f.said, p)
	if f.turn != nil {
		reason := f.turn(ctx, s, h)
		return schema.GenerateResult{StopReason: reason, Usage: schema.Usage{PromptTokens: 3, CompletionTokens: 5, TokensPerSecond: 7}}, f.err
	}
	return f.fake.Generate(ctx, p, s, h)
}

func (f *chatFake) LoadModel(_ context.Context, p schema.ModelLoadParams, _ func(done, total int64)) (schema.ModelLoadResult, error) {
	if p.Model == "" {
		p.Model = "default"
	}
	if p.Model == "gone" {
		return schema.ModelLoadResult{}, schema.ModelNotFound("gone", []string{"a", "b"})
	}
	return schema.ModelLoadResult{Model: p.Model}, f.loadErr
}

func (f *chatFake) Models(context.Context) (schema.ModelsListResult, error) {
	return schema.ModelsListResult{Models: f.models}, f.err
}

func (f *chatFake) NewSession(_ context.Context, p schema.SessionNewParams) (schema.SessionResult, error) {
	f.news = append(f.news, p)
	if p.Keep && f.noStore {
		return schema.SessionResult{}, schema.Unsupported("keep", "no store")
	}
	r := f.result
	r.Model = cmp.Or(r.Model, p.Model)
	r.SessionID = fmt.Sprintf("new-%d", len(f.news))
	return r, f.err
}

func (f *chatFake) LoadSession(_ context.Context, p schema.SessionLoadParams) (schema.SessionLoadResult, error) {
	f.loads = append(f.loads, p)
	return f.loaded, f.err
}

func (f *chatFake) CloseSession(_ context.Context, p schema.SessionParams) (schema.Empty, error) {
	f.closes = append(f.closes, p.SessionID)
	return schema.Empty{}, nil
}

func (f *chatFake) ListSessions(context.Context, schema.SessionListParams) (schema.SessionListResult, error) {
	return schema.SessionListResult{Sessions: f.sessions}, f.err
}

func (f *chatFake) SessionSettings(_ context.Context, p schema.SessionSettingsParams) (schema.SessionSettingsResult, error) {
	f.asked = append(f.asked, p.Settings)
	if strings.Contains(string(p.Settings), "nonsense") {
		return schema.SessionSettingsResult{}, schema.InvalidParam("/settings/nonsense", "is no key")
	}
	return schema.SessionSettingsResult{Settings: f.settings}, f.err
}

// spoken is a reader of what a test says.
type spoken struct {
	lines   []string
	answers []rune
	asked   []string
}

func (s *spoken) Read(context.Context) (string, error) {
	if len(s.lines) == 0 {
		return "", io.EOF
	}
	line := s.lines[0]
	s.lines = s.lines[1:]
	return line, nil
}

func (s *spoken) Choose(_ context.Context, question, _ string) (rune, error) {
	s.asked = append(s.asked, question)
	if len(s.answers) == 0 {
		return 0, errInterrupted
	}
	key := s.answers[0]
	s.answers = s.answers[1:]
	return key, nil
}

// table is a chat at which a test sits: what is said, what is seen.
type table struct {
	*chat
	fake   *chatFake
	reader *spoken
	window *window
	store  *keptFake
}

// keptFake is a folder of conversations.
type keptFake struct {
	Conversations
	deleted  []string
	imported string
}

func (k *keptFake) Delete(id string) error {
	k.deleted = append(k.deleted, id)
	return nil
}

func (k *keptFake) Resolve(prefix string) (string, error) {
	if prefix == "none" {
		return "", errors.New("no such conversation")
	}
	return prefix + "-whole", nil
}

func (k *keptFake) Export(w io.Writer, id string, f ExportFormat) (string, error) {
	_, err := fmt.Fprintf(w, "%s as %s", id, f)
	return "", err
}

func (k *keptFake) ImportChat(log []byte, title string) (ids, report []string, err error) {
	k.imported = title
	if string(log) == "broken" {
		return nil, []string{"looked"}, errors.New("no chat log")
	}
	return []string{"first", "imported"}, []string{"one repaired"}, nil
}

func sitDown(t *testing.T, f *chatFake, flags chatFlags, lines ...string) *table {
	t.Helper()
	w := newWindow(80, 24)
	view := &terminalView{screen: &screen{w: w, size: w.size}, markdown: newMarkdown(true), colours: true}
	tb := &table{fake: f, reader: &spoken{lines: lines}, window: w, store: &keptFake{}}
	tb.chat = &chat{
		commands: Commands{Err: io.Discard, Conversations: func(Options) (Conversations, error) { return tb.store, nil }},
		flags:    flags, agent: f, reader: tb.reader, view: view, signals: make(chan os.Signal, 1),
	}
	return tb
}

// talk is a whole chat.
func (tb *table) talk(t *testing.T) string {
	t.Helper()
	require.NoError(t, tb.begin(t.Context(), nil))
	require.NoError(t, tb.loop(t.Context()))
	tb.close()
	return strings.Join(tb.window.lines(), "\n")
}

func says(pieces ...string) func(context.Context, agent.Sink, agent.Host) schema.StopReason {
	return func(ctx context.Context, s agent.Sink, _ agent.Host) schema.StopReason {
		for _, p := range pieces {
			channel := schema.ChannelText
			if rest, ok := strings.CutPrefix(p, "think:"); ok {
				channel, p = schema.ChannelReasoning, rest
			}
			s.Text(ctx, channel, p, 1)
		}
		return schema.StopEndTurn
	}
}
