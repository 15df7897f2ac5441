package conversation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

func tempStore(t testing.TB) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "new", "folder"))
	require.NoError(t, err)
	return s
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	s := tempStore(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	l, err := s.Create(Header{Title: "a title", Created: at})
	require.NoError(t, err)
	require.Regexp(t, `^20260102-030405-[a-z2-7]{6}$`, l.Header().ID)
	require.Equal(t, Root, l.Leaf())
	sent := []Entry{
		Say(schema.RoleSystem, "Be <b>brief</b> & \u2028 \"good\"\x00."),
		Say(schema.RoleUser, strings.Repeat("long ", 100_000)),
		{
			Time: at,
			Message: schema.Message{Role: schema.RoleAssistant, Content: schema.Content{
				{Type: schema.PartReasoning, Text: "hm"}, {Type: schema.PartText, Text: "Let me see 🎉."},
			}, ToolCalls: []schema.ToolCall{{CallID: "c1", Name: "f", Arguments: json.RawMessage(`{"b":1.0e2,"a":"<"}`)}}},
			Turn: &Turn{
				Model: "m", PromptConfig: "p.json", Profile: "fast", Hyperparameters: json.RawMessage(`{"temperature":0.70}`),
				StopReason: schema.StopToolCalls, StopSequence: "x", Usage: &schema.Usage{PromptTokens: 3, CompletionTokens: 4, PrefillMS: 1.5},
			},
			Extra: json.RawMessage(`{"z":null,"y":[1]}`),
		},
		{Message: schema.Message{Role: schema.RoleTool, ToolCallID: "c1", Name: "f", Content: schema.TextContent("42")}},
	}
	got, err := l.Append(sent[0])
	require.NoError(t, err)
	require.Equal(t, Root, got[0].Parent)
	require.Regexp(t, "^[0-9a-f]{32}$", got[0].ID)
	require.WithinDuration(t, time.Now(), got[0].Time, time.Minute)
	more, err := l.Append(sent[1:]...)
	require.NoError(t, err)
	require.Equal(t, got[0].ID, more[0].Parent)
	require.Equal(t, more[0].ID, more[1].Parent)
	none, err := l.Append()
	require.NoError(t, err)
	require.Empty(t, none)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close(), "again")
	_, err = l.Append(sent[0])
	require.ErrorIs(t, err, errClosed)

	c, err := s.Load(l.Header().ID)
	require.NoError(t, err)
	defer c.Close()
	all, err := c.Entries()
	require.NoError(t, err)
	require.Equal(t, append(got, more...), all)
	require.Equal(t, Header{Version: 1, ID: l.Header().ID, Title: "a title", Created: at}, c.Header())
	require.Equal(t, sent[1].Message, Messages(all)[1])
	entries, err := os.ReadDir(s.Dir())
	require.NoError(t, err)
	require.Len(t, entries, 1, "no lock is left")
	st, err := entries[0].Info()
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode())
}

func TestBranches(t *testing.T) {
	s := tempStore(t)
	l, err := s.Create(Header{ID: "a"})
	require.NoError(t, err)
	_, err = l.Append(numbered(0, 3)...)
	require.NoError(t, err)
	again := Say(schema.RoleUser, "asked anew")
	again.ID, again.Parent = "other", "m0"
	_, err = l.Append(again)
	require.NoError(t, err)
	first := Say(schema.RoleUser, "another beginning")
	first.ID, first.Parent = "first", Root
	_, err = l.Append(first)
	require.NoError(t, err)
	names := func(c *Conversation, leaf string) (all []string) {
		path, err := c.Path(leaf)
		require.NoError(t, err)
		for _, e := range path {
			all = append(all, e.ID)
		}
		return all
	}
	require.Equal(t, []string{"first"}, names(&l.Conversation, ""))
	require.Equal(t, []string{"m0", "other"}, names(&l.Conversation, "other"))
	require.Equal(t, []string{"m0", "m1", "m2"}, names(&l.Conversation, "m2"))
	require.Empty(t, names(&l.Conversation, Root))
	_, err = l.Path("nobody")
	require.EqualError(t, err, `conversation a has no message "nobody"`)

	f, err := s.Fork("a", "other")
	require.NoError(t, err)
	require.Equal(t, &Ref{Conversation: "a", Message: "other"}, f.Header().ForkedFrom)
	_, err = f.Append(numbered(7, 8)...)
	require.NoError(t, err)
	require.Equal(t, []string{"m0", "other", "m7"}, names(&f.Conversation, ""))
	require.Equal(t, 5, l.Len(), "the source is as it was")
	require.NoError(t, f.Close())
	f, err = s.Open(f.Header().ID)
	require.NoError(t, err)
	require.Equal(t, []string{"m0", "other", "m7"}, names(&f.Conversation, ""))
	require.NoError(t, f.Close())
	f, err = s.Fork("a", Root)
	require.NoError(t, err)
	require.Zero(t, f.Len())
	require.NoError(t, f.Close())
	_, err = s.Fork("a", "nobody")
	require.Error(t, err)
	_, err = s.Fork("nobody", "")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, l.Close())
}

func TestAppendRefusesWhatWouldNotComeBack(t *testing.T) {
	s := tempStore(t)
	l, err := s.Create(Header{ID: "a"})
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Append(numbered(0, 1)...)
	require.NoError(t, err)
	with := func(change func(*Entry)) Entry {
		e := Say(schema.RoleUser, "x")
		e.ID = "new"
		change(&e)
		return e
	}
	for _, c := range []struct {
		change func(*Entry)
		want   string
	}{
		{func(e *Entry) { e.ID = "m0" }, "conversation a: append: message m0: the id is taken"},
		{func(e *Entry) { e.ID = "a/b" }, "the id must be 1 to 64 letters"},
		{func(e *Entry) { e.ID = Root }, "the id must be 1 to 64 letters"},
		{func(e *Entry) { e.Parent = "nobody" }, `message new: there is no message "nobody" for it to follow`},
		{func(e *Entry) { e.Message.Content = schema.TextContent("a\xff") }, "message new: its text is not UTF-8"},
		{func(e *Entry) {
			e.Message.ToolCalls = []schema.ToolCall{{CallID: "c", Arguments: json.RawMessage(`{"a":`)}}
		}, `the arguments of call "c" are not JSON`},
		{func(e *Entry) { e.Extra = json.RawMessage(`{`) }, "message new: "},
		{func(e *Entry) { e.Message.Content = schema.TextContent(strings.Repeat("x", MaxRecordBytes)) }, "more than the 67107840 of a record"},
	} {
		if raceEnabled && strings.HasPrefix(c.want, "more than") {
			continue // it takes seconds
		}
		_, err := l.Append(Say(schema.RoleUser, "fine"), with(c.change))
		require.ErrorContains(t, err, c.want)
		require.Equal(t, 1, l.Len(), "all or none")
	}
	twice := with(func(*Entry) {})
	_, err = l.Append(twice, twice)
	require.ErrorContains(t, err, "message new: the id is taken")
	_, err = l.Append(numbered(1, 2)...)
	require.NoError(t, err)
}

func TestIDsCannotLeaveTheFolder(t *testing.T) {
	s := tempStore(t)
	outside := filepath.Join(filepath.Dir(s.Dir()), "x.jsonl")
	require.NoError(t, os.WriteFile(outside, nil, 0o600))
	for _, id := range []string{"../x", "", ".", "a/b", "root", "a b", strings.Repeat("x", 65), "ä"} {
		_, err := s.Load(id)
		require.ErrorIs(t, err, ErrNotFound, id)
		_, err = s.Open(id)
		require.ErrorIs(t, err, ErrNotFound, id)
		require.ErrorIs(t, s.Delete(id), ErrNotFound, id)
		if id != "" {
			_, err = s.Create(Header{ID: id})
			require.ErrorContains(t, err, "the id must be 1 to 64 letters", id)
		}
	}
	require.ErrorIs(t, s.Delete("nobody"), ErrNotFound)
	_, err := s.Open("nobody")
	require.ErrorIs(t, err, ErrNotFound)
	require.FileExists(t, outside)
	entries, err := os.ReadDir(s.Dir())
	require.NoError(t, err)
	require.Empty(t, entries)
	l, err := s.Create(Header{ID: "a"})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = s.Create(Header{ID: "a"})
	require.ErrorContains(t, err, "is there already")
}

func TestNewerLogsAreLeftAlone(t *testing.T) {
	m := newMemory()
	line, err := appendHeader(nil, Header{Version: Version + 1, ID: "a"})
	require.NoError(t, err)
	text := append(line, "something new\n"...)
	m.put("c/a.jsonl", text)
	s := memoryStore(t, m)
	_, err = s.Open("a")
	require.ErrorContains(t, err, "has version 2; this program reads up to 1: use a newer one")
	_, err = s.Load("a")
	require.ErrorContains(t, err, "has version 2")
	require.Equal(t, text, m.files["c/a.jsonl"].now)
	list, err := s.List(t.Context())
	require.NoError(t, err)
	require.Contains(t, list[0].Problem, "has version 2")
	require.NoError(t, m.left())
}

// TestBrokenLinesAreDamage makes lines whose checksum holds and that are no records.
func TestBrokenLinesAreDamage(t *testing.T) {
	head, err := appendHeader(nil, Header{Version: Version, ID: "a"})
	require.NoError(t, err)
	body, err := encodeBody(numbered(0, 1)[0])
	require.NoError(t, err)
	good := appendMessage(nil, "m0", Root, body, 1)
	sealed := func(text string, seq int) []byte { return seal([]byte(text), 0, seq) }
	for _, c := range []struct {
		line []byte
		want string
	}{
		{appendMessage(nil, "m1", "m0", body, 3), "it does not have the number 2"},
		{appendMessage(nil, "m0", Root, body, 2), "its id m0 is taken"},
		{appendMessage(nil, "", Root, body, 2), "its id is none"},
		{appendMessage(nil, "a b", Root, body, 2), "its id is none"},
		{appendMessage(nil, "m1", "m7", body, 2), `its parent "m7" is not before it`},
		{sealed(`{"other":{}`, 2), "it is no record of this version"},
		{sealed(`{"header":{}`, 2), "it is no record of this version"},
		{sealed(`{"id":"m1"`, 2), "it is no record of this version"},
		{[]byte("\n"), "its checksum does not match"},
		{[]byte("{}"), "its line has no end"},
	} {
		x, d, err := scan(bytes.NewReader(bytes.Join([][]byte{head, good, c.line}, nil)), int64(len(head)+len(good)+len(c.line)), nil)
		require.NoError(t, err)
		require.Len(t, x.items, 1)
		require.Equal(t, Damage{Offset: int64(len(head) + len(good)), Bytes: int64(len(c.line)), Reason: c.want}, *d)
	}
	for _, c := range []struct {
		text []byte
		want string
	}{
		{nil, "it is empty"},
		{good, "its first line: it does not have the number 0"},
		{sealed(`{"other":{}`, 0), "its first line: it is no record"},
		{sealed(`{"header":[]`, 0), "its header: "},
		{sealed(`{"header":{"version":1,"created":7}`, 0), "its header: "},
	} {
		_, _, err := scan(bytes.NewReader(c.text), int64(len(c.text)), nil)
		require.ErrorContains(t, err, c.want)
		require.ErrorIs(t, err, errNoHeader)
	}
}

// TestALogThatChangesUnderneath is cut or overwritten by another program.
func TestALogThatChangesUnderneath(t *testing.T) {
	m := newMemory()
	s := memoryStore(t, m)
	l, err := s.Create(Header{ID: "a"})
	require.NoError(t, err)
	_, err = l.Append(numbered(0, 2)...)
	require.NoError(t, err)
	c := m.files["c/a.jsonl"]
	whole := c.now
	bad := bytes.Clone(whole)
	bad[len(bad)-40] ^= 1
	c.now = bad
	_, err = l.Entries()
	require.ErrorContains(t, err, "message m1: its line at ")
	require.ErrorContains(t, err, "has changed: its checksum does not match")

	c.now = whole[:len(whole)-1]
	broken := fault{err: os.ErrDeadlineExceeded}
	m.fail = func(_ int, what string) fault {
		if what == "write" {
			return broken
		}
		return fault{}
	}
	_, err = l.Append(numbered(2, 3)...)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.ErrorContains(t, err, "another program has cut it")
	m.fail = nil
	_, err = l.Append(numbered(2, 3)...)
	require.ErrorContains(t, err, "set back after an append that failed")
	c.now = whole
	_, err = l.Append(numbered(2, 3)...)
	require.NoError(t, err)
	require.Equal(t, []string{"m0", "m1", "m2"}, ids(t, &l.Conversation))
	require.NoError(t, l.Close())
	require.NoError(t, m.left())
}

func TestResolve(t *testing.T) {
	s := tempStore(t)
	for _, id := range []string{"2026-a", "2026-b", "2026"} {
		l, err := s.Create(Header{ID: id})
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	for prefix, want := range map[string]string{"2026": "2026", "2026-a": "2026-a", "2026-b": "2026-b"} {
		id, err := s.Resolve(prefix)
		require.NoError(t, err)
		require.Equal(t, want, id)
	}
	_, err := s.Resolve("2026-")
	require.ErrorContains(t, err, `conversation "2026-": 2 ids begin so, the first two are 2026-a and 2026-b`)
	for _, none := range []string{"", "x"} {
		_, err = s.Resolve(none)
		require.ErrorIs(t, err, ErrNotFound)
	}
	require.NoError(t, s.Delete("2026-b"))
	id, err := s.Resolve("2026-")
	require.NoError(t, err)
	require.Equal(t, "2026-a", id)
}

func TestDeleteTakesWhatWasMovedAside(t *testing.T) {
	s := tempStore(t)
	l, err := s.Create(Header{ID: "a"})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	f, err := os.OpenFile(s.file("a", logSuffix), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("torn")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	l, err = s.Open("a")
	require.NoError(t, err)
	text, err := os.ReadFile(l.Damage().Aside)
	require.NoError(t, err)
	require.Equal(t, "torn", string(text))
	require.Contains(t, l.Damage().String(), "its line has no end; 4 bytes follow, now in "+l.Damage().Aside)
	require.NoError(t, l.Close())
	require.NoError(t, s.Delete("a"))
	entries, err := os.ReadDir(s.Dir())
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestReadersAndTheWriter run at the same time.
func TestReadersAndTheWriter(t *testing.T) {
	s := tempStore(t)
	l, err := s.Create(Header{ID: "a"})
	require.NoError(t, err)
	stop := make(chan struct{})
	errs := make(chan error, 2)
	read := func(work func() error) {
		for {
			select {
			case <-stop:
				errs <- nil
				return
			default:
			}
			if err := work(); err != nil {
				errs <- err
				return
			}
		}
	}
	go read(func() error { // in this process
		path, err := l.Path("")
		if err == nil && len(path) > l.Len() {
			err = fmt.Errorf("%d of %d", len(path), l.Len())
		}
		return err
	})
	go read(func() error { // as another would
		c, err := s.Load("a")
		if err != nil {
			return err
		}
		if _, err := c.Entries(); err != nil {
			return err
		}
		return c.Close()
	})
	for n := range 50 {
		_, err := l.Append(numbered(n, n+1)...)
		require.NoError(t, err)
	}
	close(stop)
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.Equal(t, 50, l.Len())
	require.NoError(t, l.Close())
}
