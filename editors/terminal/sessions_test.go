package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// kept is a folder of conversations that only remembers.
type kept struct {
	options Options
	list    []Conversation
	hits    []Hit
	problem string
	ids     []string
	err     error

	query    string
	limit    int
	exported []string
	deleted  []string
	imported [2]string
}

func (k *kept) Dir() string                                  { return "/conversations" }
func (k *kept) List(context.Context) ([]Conversation, error) { return k.list, k.err }
func (k *kept) Search(_ context.Context, q string, n int) ([]Hit, error) {
	k.query, k.limit = q, n
	return k.hits, k.err
}

func (k *kept) Resolve(prefix string) (string, error) {
	if prefix == "none" {
		return "", errors.New(`conversation "none": no such conversation`)
	}
	return prefix + "-whole", nil
}

func (k *kept) Export(w io.Writer, id string, f ExportFormat) (string, error) {
	k.exported = append(k.exported, id+" "+string(f))
	_, _ = fmt.Fprintf(w, "# %s \x1b[31mred\u202e\n", id)
	return k.problem, k.err
}

func (k *kept) Delete(id string) error {
	k.deleted = append(k.deleted, id)
	return k.err
}

func (k *kept) ImportChat(log []byte, title string) ([]string, []string, error) {
	k.imported = [2]string{string(log), title}
	return k.ids, []string{"[WARN] odd \x07"}, k.err
}

func withKept(k *kept) Commands {
	return Commands{
		Conversations: func(o Options) (Conversations, error) { k.options = o; return k, nil },
		MigrateChat: func(log []byte) ([]byte, []string, error) {
			if string(log) == "bad" {
				return nil, nil, errors.New("no chat log")
			}
			return []byte("new"), []string{"changed: all"}, nil
		},
		Dialogue: func(text string, asExamples bool) ([]byte, error) {
			if text == "" {
				return nil, errors.New("there is no message in it")
			}
			return fmt.Appendf(nil, "%s %v\n", text, asExamples), nil
		},
		ConfigSchema: func(file string) ([]byte, error) {
			if file != "profiles" {
				return nil, errors.New("no such kind")
			}
			return []byte("{}\n"), nil
		},
	}
}

func TestSessionsAreListed(t *testing.T) {
	k := &kept{}
	r := run(t, withKept(k), "sessions", "--conversations", "/x")
	require.NoError(t, r.failure)
	require.Equal(t, "No conversation is kept in /conversations.\n", r.out)
	require.Equal(t, "/x", k.options.ConversationsRoot)
	t.Setenv("HARMONYD_CONVERSATIONS", "/y")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	k.list = []Conversation{{"b", "A \x1btitle", at, 12, ""}, {"a", "", at, 0, "not a conversation log"}}
	r = run(t, withKept(k), "sessions", "list")
	require.Equal(t, "ID  CHANGED           MESSAGES  TITLE\nb   2026-01-02 03:04  12        A \ufffdtitle\na   2026-01-02 03:04  0         (not a conversation log)\n", r.out)
	require.Equal(t, "/y", k.options.ConversationsRoot)
	require.Equal(t, r.out, run(t, withKept(k), "sessions").out)
	k.err = errors.New("broken")
	require.EqualError(t, run(t, withKept(k), "sessions").failure, "broken")
	require.Equal(t, ExitUsage, run(t, withKept(k), "sessions", "lst").code)
	k2 := Commands{Conversations: func(Options) (Conversations, error) { return nil, errors.New("no folder") }}
	for _, args := range []string{"list", "show a", "search a", "export a", "delete a"} {
		require.EqualError(t, run(t, k2, append([]string{"sessions"}, strings.Fields(args)...)...).failure, "no folder", args)
	}
}

func TestSessionsAreShownAndExported(t *testing.T) {
	k := &kept{problem: "the log ends after 5 bytes"}
	r := run(t, withKept(k), "sessions", "show", "a")
	require.NoError(t, r.failure)
	require.Equal(t, "# a-whole \ufffd[31mred\ufffd\n", r.out, "nothing steers the terminal")
	require.Equal(t, "harmonyd: conversation a-whole: the log ends after 5 bytes\n", r.err)
	r = run(t, withKept(k), "sessions", "export", "a", "--format", "json")
	require.Equal(t, "# a-whole \x1b[31mred\u202e\n", r.out, "as it is")
	file := filepath.Join(t.TempDir(), "out.md")
	r = run(t, withKept(k), "sessions", "export", "b", "-o", file)
	require.NoError(t, r.failure)
	require.Empty(t, r.out)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "# b-whole")
	require.Equal(t, []string{"a-whole markdown", "a-whole json", "b-whole markdown"}, k.exported)
	r = run(t, withKept(k), "sessions", "export", "a", "--format", "pdf")
	require.Equal(t, ExitUsage, r.code)
	require.EqualError(t, r.failure, `--format: got "pdf", want markdown or json`)
	require.ErrorContains(t, run(t, withKept(k), "sessions", "show", "none").failure, "no such conversation")
	for _, args := range [][]string{{"show"}, {"show", "a", "b"}, {"export"}, {"delete"}, {"search"}} {
		require.Equal(t, ExitUsage, run(t, withKept(k), append([]string{"sessions"}, args...)...).code, args)
	}
	k.err = errors.New("broken")
	require.EqualError(t, run(t, withKept(k), "sessions", "show", "a").failure, "broken")
}

func TestSessionsAreSearched(t *testing.T) {
	k := &kept{hits: []Hit{{"a", "user", "some\x1bthing"}, {"b", "tool", "x"}}}
	r := run(t, withKept(k), "sessions", "search", "two", "words")
	require.NoError(t, r.failure)
	require.Equal(t, "a  user: some\ufffdthing\nb  tool: x\n", r.out)
	require.Equal(t, "two words", k.query)
	require.Equal(t, 50, k.limit)
	r = run(t, withKept(k), "sessions", "search", "-n", "2", "x")
	require.Contains(t, r.err, "These are the first 2; --limit 0 shows all.")
	require.Equal(t, ExitUsage, run(t, withKept(k), "sessions", "search", "-n", "-1", "x").code)
	k.hits = nil
	r = run(t, withKept(k), "sessions", "search", "x")
	require.Equal(t, ExitFailed, r.code)
	require.EqualError(t, r.failure, "no message has all of these words")
	k.err = errors.New("broken")
	require.EqualError(t, run(t, withKept(k), "sessions", "search", "x").failure, "broken")
}

func TestSessionsAreDeleted(t *testing.T) {
	k := &kept{}
	require.Error(t, run(t, withKept(k), "sessions", "delete", "a", "none").failure)
	require.Empty(t, k.deleted, "all or nothing")
	r := run(t, withKept(k), "sessions", "delete", "a", "b")
	require.Equal(t, "Deleted a-whole.\nDeleted b-whole.\n", r.out)
	k.err = errors.New("in use by process 7")
	require.EqualError(t, run(t, withKept(k), "sessions", "delete", "a").failure, "in use by process 7")
}

func TestMigrateChat(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "My chat.json")
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o640))
	k := &kept{ids: []string{"1", "2"}}
	r := run(t, withKept(k), "migrate-chat", file)
	require.NoError(t, r.failure)
	require.Equal(t, "Imported 1. Read it: harmonyd sessions show 1\nImported 2. Read it: harmonyd sessions show 2\n", r.out)
	require.Equal(t, "[WARN] odd \ufffd\n", r.err)
	require.Equal(t, [2]string{"old", "My chat"}, k.imported)
	k.err = errors.New("disk full")
	r = run(t, withKept(k), "migrate-chat", file)
	require.EqualError(t, r.failure, file+": disk full")
	require.Contains(t, r.out, "Imported 2.", "what was kept is told")

	other := filepath.Join(dir, "new.json")
	r = run(t, withKept(k), "migrate-chat", file, "--output", other)
	require.NoError(t, r.failure)
	require.Equal(t, "Wrote "+other+".\n", r.out)
	require.Equal(t, "changed: all\n", r.err)
	link := filepath.Join(dir, "link.json")
	require.NoError(t, os.Symlink(file, link))
	require.NoError(t, run(t, withKept(k), "migrate-chat", link, "--in-place").failure)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "new", string(text))
	st, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), st.Mode().Perm())
	st, err = os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, st.Mode()&os.ModeSymlink)
	require.Equal(t, file+" is as it should be.\n", run(t, withKept(k), "migrate-chat", file, "--in-place").out)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3, "nothing is left behind")

	require.Equal(t, ExitUsage, run(t, withKept(k), "migrate-chat", file, "--in-place", "--output", other).code)
	require.Equal(t, ExitUsage, run(t, withKept(k), "migrate-chat").code)
	require.ErrorIs(t, run(t, withKept(k), "migrate-chat", filepath.Join(dir, "none")).failure, os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte("bad"), 0o600))
	require.EqualError(t, run(t, withKept(k), "migrate-chat", file, "--in-place").failure, file+": no chat log")
	require.Error(t, run(t, withKept(k), "migrate-chat", other, "--output", filepath.Join(dir, "no", "x.json")).failure)
}

func TestConvertDialogue(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.txt"), filepath.Join(dir, "out.json")
	require.NoError(t, os.WriteFile(in, []byte("user: a"), 0o600))
	c := withKept(&kept{})
	require.Equal(t, "user: a false\n", run(t, c, "convert-dialogue", in).out)
	r := run(t, c, "convert-dialogue", in, out, "--as-example-dialogues")
	require.NoError(t, r.failure)
	require.Empty(t, r.out)
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "user: a true\n", string(text))
	require.Equal(t, "user: a false\n", run(t, c, "convert-dialogue", "--stdout", in, out).out)
	c.In = strings.NewReader("from stdin")
	require.Equal(t, "from stdin false\n", run(t, c, "convert-dialogue", "-").out)
	require.EqualError(t, run(t, c, "convert-dialogue", "-").failure, "dialogue -: there is no message in it")
	require.ErrorIs(t, run(t, c, "convert-dialogue", filepath.Join(dir, "none")).failure, os.ErrNotExist)
	require.Equal(t, ExitUsage, run(t, c, "convert-dialogue").code)
	require.Equal(t, ExitUsage, run(t, c, "convert-dialogue", "a", "b", "c").code)
	require.NoError(t, run(t, c, "convert-dialogue", in, os.DevNull).failure, "which is no file to be replaced")
	st, err := os.Stat(os.DevNull)
	require.NoError(t, err)
	require.False(t, st.Mode().IsRegular())
}

func TestSchemaOfFiles(t *testing.T) {
	c := withKept(&kept{})
	require.Equal(t, "{}\n", run(t, c, "schema", "profiles").out)
	for _, args := range [][]string{{"schema", "nix"}, {"schema", "profiles", "x"}, {"schema", "profiles", "--format", string(schema.LanguageLua)}} {
		require.Equal(t, ExitUsage, run(t, c, args...).code, args)
	}
}
