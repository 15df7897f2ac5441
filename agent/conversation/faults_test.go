package conversation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// scenario goes through everything that writes, and keeps what was acknowledged. Each
// step that fails is tried again once, as a client would.
type scenario struct {
	m *memory
	s *Store
	// acked are the messages of each conversation that were acknowledged, flying those of
	// the append that runs or failed.
	acked  map[string][]string
	flying []string
	// gone are conversations whose deletion was asked for, true where acknowledged.
	gone   map[string]bool
	errors int
	// once makes a step that fails the last one.
	once bool
}

var errStop = errors.New("a step failed")

func (c *scenario) step(t *testing.T, what string, f func() error) {
	err := f()
	if err == nil {
		return
	}
	c.errors++
	if c.once {
		panic(errStop)
	}
	c.flying = nil // it was set back
	c.check(t, c.m, what)
	require.NoError(t, f(), "%s, a second time after %v", what, err)
}

func (c *scenario) run(t *testing.T) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if err, _ = r.(error); !errors.Is(err, errStop) {
				panic(r)
			}
		}
	}()
	c.acked, c.gone = map[string][]string{}, map[string]bool{}
	var l *Log
	append := func(from, to int) func() error {
		return func() error {
			c.flying = nil
			for _, e := range numbered(from, to) {
				c.flying = append(c.flying, e.ID)
			}
			got, err := l.Append(numbered(from, to)...)
			if err != nil {
				require.Empty(t, got)
				return err
			}
			c.acked[l.Header().ID], c.flying = append(c.acked[l.Header().ID], c.flying...), nil
			return nil
		}
	}
	close := func() error { return l.Close() }
	c.step(t, "open store", func() (err error) { c.s, err = openStore("c", c.m); return })
	c.step(t, "create", func() (err error) {
		if l, err = c.s.Create(Header{ID: "a"}); err == nil {
			c.acked["a"] = []string{}
		}
		return
	})
	c.step(t, "append 2", append(0, 2))
	c.step(t, "append 1", append(2, 3))
	c.step(t, "close", close)
	// A process dies within a line.
	a := c.m.files["c/a.jsonl"]
	a.now = slices.Concat(a.now, []byte(`{"id":"torn`))
	c.step(t, "open", func() (err error) { l, err = c.s.Open("a"); return })
	require.True(t, l.Damage() != nil || c.errors > 0)
	c.step(t, "append again", append(3, 5))
	c.step(t, "close again", close)
	fork := ""
	c.step(t, "fork", func() (err error) {
		if l, err = c.s.Fork("a", "m3"); err == nil {
			fork = l.Header().ID
			c.acked[fork] = slices.Clone(c.acked["a"][:4])
		}
		return
	})
	c.step(t, "append to the fork", append(7, 8))
	c.step(t, "close the fork", close)
	c.gone[fork] = false
	c.step(t, "delete", func() error {
		err := c.s.Delete(fork)
		if errors.Is(err, ErrNotFound) && c.errors > 0 {
			err = nil // the first attempt had removed it and could not say for sure
		}
		return err
	})
	c.gone[fork] = true
	return nil
}

// check holds what is on a file system against what was acknowledged.
func (c *scenario) check(t *testing.T, m *memory, what string) {
	fail := m.fail
	m.fail = nil
	defer func() { m.fail = fail }()
	s := &Store{dir: "c", fs: m}
	for id, want := range c.acked {
		acked, asked := c.gone[id]
		got, err := s.Load(id)
		if asked && errors.Is(err, ErrNotFound) {
			continue
		}
		require.False(t, acked, "%s: %s was deleted", what, id)
		require.NoError(t, err, "%s: %s", what, id)
		have := ids(t, got)
		require.NoError(t, got.Close())
		require.GreaterOrEqual(t, len(have), len(want), "%s: %s", what, id)
		require.Equal(t, want, have[:len(want)], "%s: %s", what, id)
		rest := have[len(want):]
		require.LessOrEqual(t, len(rest), len(c.flying), "%s: %s has %v", what, id, rest)
		require.True(t, slices.Equal(rest, c.flying[:len(rest)]), "%s: %s has %v, not of %v", what, id, rest, c.flying)
	}
	list, err := s.List(t.Context())
	require.NoError(t, err)
	for _, sum := range list {
		if _, known := c.acked[sum.ID]; !known && sum.ID != "a" {
			got, err := s.Load(sum.ID) // a fork that was made and not acknowledged
			require.NoError(t, err)
			require.Equal(t, c.acked["a"][:4], ids(t, got), "%s: the fork has all or is not there", what)
			require.NoError(t, got.Close())
		}
	}
}

// ids are those of the messages, each of which must be what was said.
func ids(t *testing.T, c *Conversation) []string {
	entries, err := c.Entries()
	require.NoError(t, err)
	all := []string{}
	for _, e := range entries {
		var n int
		_, err := fmt.Sscanf(e.ID, "m%d", &n)
		require.NoError(t, err)
		require.Equal(t, said(n), e.Message.Content.Text())
		all = append(all, e.ID)
	}
	return all
}

// harmless are calls whose failure nobody needs to know of: closing a file that was only
// read, and the sweep when a store is opened, which is the second call.
func harmless(what string, call int) bool {
	return what == "close a file that was read" || what == "list" && call == 2
}

// TestD3FaultsReachTheClient makes each call of the file system fail once, with each
// error: the step that makes it fails, what was acknowledged is there and nothing else,
// and the same step succeeds the next time. Then the calls fail from one on, for ever,
// and a new process finds what was acknowledged and at most the append that failed.
// Planted break: no setting back after a failed append.
func TestD3FaultsReachTheClient(t *testing.T) {
	faults := map[string]fault{
		"EIO": {err: syscall.EIO}, "ENOSPC": {err: syscall.ENOSPC}, "EINTR": {err: syscall.EINTR},
		"short": {short: true}, "short ENOSPC": {err: syscall.ENOSPC, short: true},
	}
	once, ever := 0, 0
	for name, f := range faults {
		for at := 1; ; at++ {
			hit := ""
			m := newMemory()
			m.fail = func(call int, what string) fault {
				if call != at {
					return fault{}
				}
				if hit = what; f.short && what != "write" {
					return fault{}
				}
				return f
			}
			c := scenario{m: m}
			require.NoError(t, c.run(t))
			c.check(t, m, name)
			require.NoError(t, m.left())
			if hit == "" {
				require.Greater(t, at, 60, "the scenario is no longer what it was")
				break
			}
			if !f.short || hit == "write" {
				once++
				require.True(t, c.errors == 1 || harmless(hit, at), "%s of call %d, %s: %d errors", name, at, hit, c.errors)
			}

			m = newMemory()
			m.fail = func(call int, what string) fault {
				if call < at || f.short && what != "write" {
					return fault{}
				}
				return f
			}
			c = scenario{m: m, once: true}
			if err := c.run(t); err != nil {
				ever++
			}
			c.check(t, m, name+" for ever")
		}
	}
	t.Logf("%d calls failed once and %d for ever", once, ever)
	require.Greater(t, once, 200)
}

// TestD4LostWrites crashes the machine after each call of the scenario, 20 times: of
// what was not synced any part may be lost or be zeros. What was acknowledged is there.
// Planted break: Append without fsync; Create without one of the folder.
func TestD4LostWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	crashes, damaged := 0, 0
	for at := 1; ; at++ {
		m := newMemory()
		m.fail = func(call int, _ string) fault {
			if call <= at {
				return fault{}
			}
			return fault{err: io.ErrClosedPipe}
		}
		c := scenario{m: m, once: true}
		err := c.run(t)
		for range 20 {
			crashes++
			after := m.crash(r)
			c.check(t, after, fmt.Sprintf("crash after call %d", at))
			// A new process opens what is there and goes on.
			s := memoryStore(t, after)
			for _, sum := range must(s.List(t.Context()))(t) {
				l, err := s.Open(sum.ID)
				require.NoError(t, err)
				if l.Damage() != nil {
					damaged++
					require.NotEmpty(t, l.Damage().Aside)
				}
				_, err = l.Append(numbered(100, 101)...)
				require.NoError(t, err)
				require.NoError(t, l.Close())
				got := must(s.Load(sum.ID))(t)
				require.Nil(t, got.Damage())
				require.NoError(t, got.Close())
			}
			for name := range after.files {
				require.False(t, strings.HasSuffix(name, newSuffix), "swept")
			}
			require.NoError(t, after.left())
		}
		if err == nil {
			break
		}
	}
	t.Logf("%d crashes, %d torn or zeroed ends", crashes, damaged)
	require.Greater(t, crashes, 1000)
	require.Greater(t, damaged, 20)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

// logOf is the text of a log of about size bytes, and where its lines begin.
func logOf(t *testing.T, size, step int) (text []byte, starts []int) {
	text, err := appendHeader(nil, Header{Version: Version, ID: "a"})
	require.NoError(t, err)
	starts, parent := []int{0}, Root
	for n := 0; len(text) < size; n++ {
		e := numbered(n, n+1)[0]
		for i := range e.Message.Content {
			e.Message.Content[i].Text += strings.Repeat("x", step)
		}
		body, err := encodeBody(e)
		require.NoError(t, err)
		starts = append(starts, len(text))
		text = appendMessage(text, e.ID, parent, body, n+1)
		parent = e.ID
	}
	return text, append(starts, len(text))
}

// recovered opens a damaged log for writing: it holds exactly the lines before the one
// that begins at end, the rest is aside, and it can be written to.
func recovered(t *testing.T, m *memory, damaged []byte, lines, end int) {
	m.put("c/a.jsonl", damaged)
	s := &Store{dir: "c", fs: m}
	l, err := s.Open("a")
	if lines == 0 {
		if !errors.Is(err, errNoHeader) {
			require.ErrorIs(t, err, errNoHeader)
		}
		if !bytes.Equal(m.files["c/a.jsonl"].now, damaged) {
			t.Fatal("a file that is no log was changed")
		}
		return
	}
	// Not require, which is slow: this runs 100,000 times.
	if err != nil {
		t.Fatal(err)
	}
	d := l.Damage()
	if l.Len() != lines-1 || (d != nil) != (end < len(damaged)) {
		t.Fatalf("%d entries, want %d; damage %v", l.Len(), lines-1, d)
	}
	if d != nil && !bytes.Equal(m.files[d.Aside].synced, damaged[end:]) {
		t.Fatalf("%s does not hold the rest", d.Aside)
	}
	if !bytes.Equal(m.files["c/a.jsonl"].synced, damaged[:end]) {
		t.Fatal("the log is not the sound part")
	}
	if d != nil {
		delete(m.files, d.Aside)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestD2DamagedLogs cuts a log of 64 KiB at every byte and flips every bit of one of 4 KiB.
// Each time the lines before the damage are the conversation, the rest is set aside, and
// what has no header is an error and stays as it is. Planted break: the CRC is not compared.
func TestD2DamagedLogs(t *testing.T) {
	stride := 1
	if raceEnabled {
		stride = 31
	}
	text, starts := logOf(t, 64<<10, 1800)
	cuts, line := 0, 0
	for n := 0; n <= len(text); n += stride {
		for line+1 < len(starts) && starts[line+1] <= n {
			line++
		}
		recovered(t, newMemory(), text[:n], line, starts[line])
		cuts++
	}
	small, starts := logOf(t, 4<<10, 0)
	flips, line := 0, 0
	for i := 0; i < 8*len(small); i += stride {
		for starts[line+1] <= i/8 {
			line++
		}
		bad := bytes.Clone(small)
		bad[i/8] ^= 1 << (i % 8)
		recovered(t, newMemory(), bad, line, starts[line])
		flips++
	}
	t.Logf("%d cuts of %d bytes, %d flipped bits of %d bytes", cuts, len(text), flips, len(small))
	if stride == 1 {
		require.GreaterOrEqual(t, cuts, 64<<10)
		require.GreaterOrEqual(t, flips, 8*4<<10)
	}
}
