package conversation

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

func TestList(t *testing.T) {
	m := newMemory()
	s := memoryStore(t, m)
	make := func(h Header, entries ...Entry) {
		l, err := s.Create(h)
		require.NoError(t, err)
		_, err = l.Append(entries...)
		require.NoError(t, err)
		require.NoError(t, l.Close())
		time.Sleep(time.Millisecond) // the order of times is part of the list
	}
	make(Header{ID: "titled", Title: "My chat"}, numbered(0, 3)...)
	make(Header{ID: "empty"})
	make(Header{ID: "long"}, Say(schema.RoleSystem, strings.Repeat("rules ", 20_000)),
		Say(schema.RoleAssistant, "Hello, I say \"role\":\"user\"."), Say(schema.RoleUser, "\n\n  "+strings.Repeat("é", 90)+"\tx\nmore"))
	f, err := s.Fork("titled", "m1")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	m.put("c/damaged.jsonl", append(m.files["c/long.jsonl"].now, "torn"...))
	m.put("c/foreign.jsonl", []byte("{}\n"))
	m.put("c/notes.txt", []byte("not ours"))
	bad := append([]byte{}, m.files["c/titled.jsonl"].now...)
	bad[len(bad)/2] ^= 1
	m.put("c/rotten.jsonl", bad)
	list, err := s.List(t.Context())
	require.NoError(t, err)
	by := map[string]Summary{}
	for _, sum := range list {
		by[sum.ID] = sum
	}
	require.Len(t, by, 7)
	require.Equal(t, f.Header().ID, list[0].ID, "the newest first")
	require.Equal(t, "long", list[1].ID)
	require.Equal(t, "My chat", by["titled"].Title)
	require.Equal(t, 3, by["titled"].Messages)
	require.Equal(t, int64(len(m.files["c/titled.jsonl"].now)), by["titled"].Bytes)
	require.WithinDuration(t, time.Now(), by["titled"].Created, time.Minute)
	require.Empty(t, by["empty"].Title)
	require.Zero(t, by["empty"].Messages)
	require.Equal(t, strings.Repeat("é", 79)+"…", by["long"].Title)
	require.Equal(t, 3, by["long"].Messages)
	require.Equal(t, "titled", by[f.Header().ID].ForkedFrom)
	require.Equal(t, 2, by[f.Header().ID].Messages)
	require.Contains(t, by["damaged"].Problem, "its line has no end; 4 bytes follow")
	require.Equal(t, 3, by["damaged"].Messages)
	require.Equal(t, by["long"].Title, by["damaged"].Title)
	require.Contains(t, by["foreign"].Problem, "not a conversation log")
	require.Empty(t, by["rotten"].Problem, "the middle of a log is not looked at")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.List(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, m.left())
}

func TestSearch(t *testing.T) {
	s := tempStore(t)
	l, err := s.Create(Header{ID: "a"})
	require.NoError(t, err)
	call := Say(schema.RoleAssistant, "")
	call.Message.ToolCalls = []schema.ToolCall{{CallID: "1", Name: "read_file", Arguments: []byte(`{"path":"Makefile"}`)}}
	thought := Say(schema.RoleAssistant, "x")
	thought.Message.Content[0].Type = schema.PartReasoning
	thought.Message.Content[0].Text = "I think of ÄPFEL and\nOranges " + strings.Repeat("and more ", 40)
	_, err = l.Append(Say(schema.RoleUser, "apples, \"quoted\" and oranges"), call, thought)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	l, err = s.Create(Header{ID: "b"})
	require.NoError(t, err)
	for range 5 {
		_, err = l.Append(Say(schema.RoleUser, "Oranges"))
		require.NoError(t, err)
	}
	require.NoError(t, l.Close())
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir(), "foreign.jsonl"), []byte("oranges\n"), 0o600))

	find := func(query string, limit int) []string {
		hits, err := s.Search(t.Context(), query, limit)
		require.NoError(t, err)
		var all []string
		for _, h := range hits {
			all = append(all, h.Conversation+": "+h.Snippet)
		}
		return all
	}
	require.Equal(t, []string{"a: read_file {\"path\":\"Makefile\"}"}, find("makefile READ_file", 0))
	require.Equal(t, []string{"a: apples, \"quoted\" and oranges"}, find(`"quoted"`, 0))
	found := find("äpfel oranges", 0)
	require.Len(t, found, 1)
	require.True(t, strings.HasPrefix(found[0], "a: I think of ÄPFEL and Oranges and more"))
	require.True(t, strings.HasSuffix(found[0], "…"))
	require.Len(t, find("oranges", 0), 7)
	require.Equal(t, "b: Oranges", find("oranges", 3)[0], "the newest first")
	require.Len(t, find("oranges", 3), 3)
	require.Empty(t, find("oranges pears", 0))
	require.Empty(t, find("role", 0), "the words of the format are no text")
	_, err = s.Search(t.Context(), " \n", 0)
	require.Error(t, err)
	late := strings.Repeat("é", 300) + " needle"
	l, err = s.Open("b")
	require.NoError(t, err)
	_, err = l.Append(Say(schema.RoleUser, late))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.Equal(t, []string{"b: …" + strings.Repeat("é", 29) + " needle"}, find("needle", 0))
}

// manyRecords writes a log of n records and about size bytes.
func manyRecords(t testing.TB, name string, n, size int) {
	f, err := os.Create(name)
	require.NoError(t, err)
	w := bufio.NewWriterSize(f, 1<<20)
	line, err := appendHeader(nil, Header{Version: Version, ID: "big"})
	require.NoError(t, err)
	parent, text := Root, strings.Repeat("word ", size/n/5)
	for i := range n {
		_, err = w.Write(line)
		require.NoError(t, err)
		body, err := encodeBody(Say(schema.RoleUser, text))
		require.NoError(t, err)
		id := newMessageID()
		line, parent = appendMessage(line[:0], id, parent, body, i+1), id
	}
	_, err = w.Write(line)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	require.NoError(t, f.Close())
}

// manyConversations fills a folder with n small conversations.
func manyConversations(t testing.TB, m *memory, dir string, n int) {
	for i := range n {
		text, err := appendHeader(nil, Header{Version: Version, ID: fmt.Sprint("c", i), Created: time.Unix(int64(i), 0)})
		require.NoError(t, err)
		parent := Root
		for seq := range 4 {
			body, err := encodeBody(Say([]schema.Role{schema.RoleUser, schema.RoleAssistant}[seq%2], strings.Repeat(fmt.Sprintf("question %d ", i), 20+400*(seq/2))))
			require.NoError(t, err)
			id := fmt.Sprint("m", seq)
			text, parent = appendMessage(text, id, parent, body, seq+1), id
		}
		if m != nil {
			m.put(fmt.Sprintf("c/c%d.jsonl", i), text)
			continue
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("c%d.jsonl", i)), text, 0o600))
	}
}

// TestD5ReadsNoMoreThanItMust counts what opening and listing read: a log of 100,000
// records once, in pieces of 256 KiB, with a bounded number of allocations a record, and of
// each of 10,000 conversations the two ends, of 4 KiB and 64 bytes. The times are those of
// BenchmarkD5. Planted break: the end that List reads is the whole log.
func TestD5ReadsNoMoreThanItMust(t *testing.T) {
	records, conversations := 100_000, 10_000
	if raceEnabled {
		records, conversations = 5000, 500
	}
	name := filepath.Join(t.TempDir(), "big.jsonl")
	manyRecords(t, name, records, 80*records)
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	m := newMemory()
	m.put("c/big.jsonl", text)
	s := memoryStore(t, m)
	allocations := testing.AllocsPerRun(1, func() {
		c, err := s.Load("big")
		require.NoError(t, err)
		require.Equal(t, records, c.Len())
		require.NoError(t, c.Close())
	})
	require.Equal(t, int64(2*len(text)), m.readBytes, "AllocsPerRun runs twice")
	require.LessOrEqual(t, m.reads, 2*(len(text)/(1<<17)+1))
	require.LessOrEqual(t, allocations, 2*float64(records))
	t.Logf("%d records: %d bytes in %d reads, %.2f allocations a record", records, len(text), m.reads/2, allocations/float64(records))

	m = newMemory()
	manyConversations(t, m, "", conversations)
	s = memoryStore(t, m)
	list, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, conversations)
	require.Equal(t, 4, list[0].Messages)
	require.True(t, strings.HasPrefix(list[0].Title, "question "))
	require.Equal(t, conversations+1, m.opens, "and the cache, which is written")
	require.LessOrEqual(t, m.reads, 2*conversations)
	require.LessOrEqual(t, m.readBytes, int64(conversations*(4<<10+64)))
	t.Logf("%d conversations: %d bytes in %d reads", conversations, m.readBytes, m.reads)

	// Those that have not changed are not opened again, by another process neither.
	m.opens, m.reads, m.readBytes = 0, 0, 0
	again, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, list, again)
	require.Zero(t, m.opens)
	l, err := s.Open("c7")
	require.NoError(t, err)
	_, err = l.Append(Say(schema.RoleUser, "more"))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	m.opens, m.reads, m.readBytes = 0, 0, 0
	other := memoryStore(t, m)
	again, err = other.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, "c7", again[0].ID)
	require.Equal(t, 5, again[0].Messages)
	list = slices.DeleteFunc(list, func(m Summary) bool { return m.ID == "c7" })
	require.Equal(t, list, again[1:])
	require.Equal(t, 2, m.opens, "the cache and the one that changed")
	require.LessOrEqual(t, m.readBytes, int64(conversations*250))
	t.Logf("again: %d bytes in %d reads", m.readBytes, m.reads)
}

// TestTheListCacheIsOnlyACache breaks the cache in every way: the list is the same.
func TestTheListCacheIsOnlyACache(t *testing.T) {
	m := newMemory()
	manyConversations(t, m, "", 20)
	m.put("c/bad.jsonl", []byte("no log"))
	want, err := memoryStore(t, m).List(t.Context())
	require.NoError(t, err)
	require.Len(t, want, 21)
	text := m.files["c/.list"].now
	require.Equal(t, 22, bytes.Count(text, []byte("\n")), "without the one that has a problem")
	sum := fmt.Sprintf("%08x\n", crc32.Checksum([]byte(cacheFirst+"a\tb\n"), castagnoli))
	for _, bad := range [][]byte{nil, []byte("x"), text[:len(text)-3], bytes.Replace(text, []byte("question"), []byte("answer"), 1), []byte(cacheFirst + "a\tb\n" + sum)} {
		m.put("c/.list", bad)
		got, err := memoryStore(t, m).List(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, m.files["c/.list"].now, "and the cache is there again")
	}
	for at := 1; at < 600; at++ { // nor does it matter what fails while it is written
		delete(m.files, "c/.list")
		s := &Store{dir: "c", fs: m}
		first := m.calls
		m.fail = func(call int, what string) fault {
			if call-first >= at && (what == "lock" || what == "open" && m.locks["c/.list.lock"] || what == "write" || what == "fsync" || what == "rename" || what == "unlock") {
				return fault{err: syscall.EIO}
			}
			return fault{}
		}
		got, err := s.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got)
		m.fail = nil
		require.NoError(t, m.left())
		if m.files["c/.list"] != nil {
			require.Greater(t, at, 30)
			break
		}
	}
	require.NotNil(t, m.files["c/.list"])
}

// BenchmarkD5 opens a log of 100 MB and 100,000 records, which is to take 300 ms at most,
// and lists 10,000 conversations, which is to take 100 ms.
func BenchmarkD5(b *testing.B) {
	b.Run("open", func(b *testing.B) {
		s := tempStore(b)
		manyRecords(b, filepath.Join(s.Dir(), "big.jsonl"), 100_000, 100<<20)
		b.ReportAllocs()
		for b.Loop() {
			l, err := s.Open("big")
			require.NoError(b, err)
			require.Equal(b, 100_000, l.Len())
			require.NoError(b, l.Close())
		}
	})
	b.Run("list", func(b *testing.B) {
		s := tempStore(b)
		manyConversations(b, nil, s.Dir(), 10_000)
		time.Sleep(3 * time.Second) // what has just changed is read again
		_, err := s.List(b.Context())
		require.NoError(b, err)
		b.ReportAllocs()
		for b.Loop() {
			list, err := (&Store{dir: s.dir, fs: osFiles{}}).List(b.Context()) // as a new process
			require.NoError(b, err)
			require.Len(b, list, 10_000)
		}
	})
}
