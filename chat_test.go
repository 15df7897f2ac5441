//go:build scripted

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// person sits before a terminal on which the program runs.
type person struct {
	t    *testing.T
	keys *os.File // what is typed
	cmd  *exec.Cmd

	mu     sync.Mutex
	window *vt.Emulator
	ended  chan error
}

// chatProgram is the program with a script in which what is said last decides.
func chatProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	script := filepath.Join(t.TempDir(), "chat.json")
	require.NoError(t, os.WriteFile(script, []byte(`{"models": [{"id": "scripted", "contextLength": 8192, "tokensPerSecond": 2000, "loadMs": 20, "replies": [
		{"contains": "lines", "text": "These are *two*.<|im_end|>"},
		{"contains": "Once", "text": "upon a time ", "endless": true},
		{"contains": "colours", "text": "Red, yellow and **blue**.<|im_end|>"}
	]}]}`), 0o600))
	cmd := program(t, args...)
	cmd.Env = append(cmd.Env, scriptVariable+"="+script)
	return cmd
}

// sit starts the program on a terminal. The folders of what it keeps are root's.
func sit(t *testing.T, root string, args ...string) *person {
	t.Helper()
	cmd := chatProgram(t, args...)
	cmd.Env = append(cmd.Env, "TERM=xterm-256color", "NO_COLOR=", "HARMONYD_STATE="+filepath.Join(root, "state"),
		"HARMONYD_CONVERSATIONS="+filepath.Join(root, "conversations"))
	keys, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	require.NoError(t, err)
	p := &person{t: t, keys: keys, cmd: cmd, window: vt.NewEmulator(80, 24), ended: make(chan error, 1)}
	answers := make(chan struct{})
	go func() { // a terminal answers when it is asked what it can do
		defer close(answers)
		_, _ = io.Copy(keys, p.window)
	}()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := keys.Read(buf)
			p.mu.Lock()
			_, _ = p.window.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				break
			}
		}
		_ = p.window.InputPipe().(io.Closer).Close() // ends the answers
		<-answers
		p.ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = keys.Close()
	})
	return p
}

// seen is all that was written, what scrolled off included.
func (p *person) seen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for i := range p.window.ScrollbackLen() {
		b.WriteString(strings.TrimRight(p.window.Scrollback().Line(i).String(), " ") + "\n")
	}
	for line := range strings.Lines(p.window.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// types types, and waits until the screen is as it should be.
func (p *person) types(keys string, until func(seen string) bool) {
	p.t.Helper()
	_, err := io.WriteString(p.keys, keys)
	require.NoError(p.t, err)
	p.waits(until)
}

func (p *person) waits(until func(seen string) bool) {
	p.t.Helper()
	for deadline := time.Now().Add(hang); !until(p.seen()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("the terminal shows\n%s", p.seen())
		}
	}
}

// prompted is a prompt behind so many others, with something written before.
func prompted(text string) func(seen string) bool {
	return func(seen string) bool {
		return strings.Contains(seen, text) && strings.HasSuffix(seen, "\n>")
	}
}

// leaves waits for the end of the program and returns its exit code.
func (p *person) leaves() int {
	p.t.Helper()
	select {
	case err := <-p.ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		require.NoError(p.t, err)
		return 0
	case <-time.After(hang):
		p.t.Fatalf("the program goes on:\n%s", p.seen())
	}
	return -1
}

// TestChatOnATerminal holds a conversation as a person does: asks, reads, cancels with
// Ctrl-C, begins anew, leaves, and takes it up again.
func TestChatOnATerminal(t *testing.T) {
	root := t.TempDir()
	p := sit(t, root, "chat")
	before, err := unix.IoctlGetTermios(int(p.keys.Fd()), unix.TCGETS)
	require.NoError(t, err)
	p.waits(prompted("leaves."))
	p.types("Name the colours.\r", prompted("\n> Name the colours.\nAssistant\nRed, yellow and blue.\n"))
	require.Regexp(t, `\n\d+ \+ 25 tokens, .*tokens/s, first after \d+ms\n`, p.seen())

	p.types("Once\r", func(seen string) bool { return strings.Contains(seen, "upon a time upon a time") })
	p.types("\x03", prompted("The answer was cancelled."))
	time.Sleep(time.Second) // a second Ctrl-C within that time would leave
	p.types("half a line", func(seen string) bool { return strings.HasSuffix(seen, "\n> half a line") })
	p.types("\x03", func(seen string) bool { return strings.HasSuffix(seen, "\n>") })
	p.types("\x1b[200~two\rlines\x1b[201~", func(seen string) bool { return strings.HasSuffix(seen, "\n> two\n  lines") })
	p.types("\r", prompted("> two\n  lines\nAssistant\nThese are two.\n"))
	p.types("\\lsit\r", prompted(`there is no command \lsit; did you mean \list?`))
	p.types("/set temperature=9\r", prompted("temperature: got 9, want 0 to 2"))
	p.types("\\set temperature=0.25\r", prompted("temperature = 0.25\n"))
	p.types("\\reset\r", prompted("A new conversation, "))
	p.types("Name\x1b[A\r", func(seen string) bool {
		return strings.Count(seen, "Red, yellow") == 2 && strings.HasSuffix(seen, "\n>")
	})
	p.types("/reset\r", func(seen string) bool {
		return strings.Count(seen, "A new conversation, ") == 2 && strings.HasSuffix(seen, "\n>")
	})
	p.types("\x04", func(string) bool { return true })
	require.Zero(t, p.leaves())
	after, err := unix.IoctlGetTermios(int(p.keys.Fd()), unix.TCGETS)
	require.NoError(t, err)
	require.Equal(t, before.Lflag|unix.ECHO|unix.ICANON, after.Lflag, "the terminal is left as it was")
	require.NotZero(t, after.Iflag&unix.ICRNL)

	history := filepath.Join(root, "state", "chat-history")
	st, err := os.Stat(history)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	typed, err := os.ReadFile(history)
	require.NoError(t, err)
	require.Contains(t, string(typed), "\"Once\"\n\"two\\nlines\"\n\"\\\\lsit\"\n")
	kept, err := filepath.Glob(filepath.Join(root, "conversations", "*.jsonl"))
	require.NoError(t, err)
	require.Len(t, kept, 2, "one in which nothing was said is not kept")

	p = sit(t, root, "chat", "--continue")
	p.waits(prompted("> Name the colours.\nAssistant\nRed, yellow and blue.\n"))
	p.types("\\list\r", prompted("= 0.25  (saved chat)"))
	p.types("\\load\r", func(seen string) bool { return strings.HasSuffix(seen, "\nWhich one?") })
	require.Regexp(t, `\n1  \d{8}-\d{6}-\w{6}  .*  Name the colours\.\n`, p.seen())
	p.types("x1", func(seen string) bool {
		return strings.Contains(seen, "Which one? 1\n\n> two\n") && strings.HasSuffix(seen, "\n>")
	})
	p.types("/QUIT\r", func(string) bool { return true })
	require.Zero(t, p.leaves())
}

// TestChatLeavesAtASecondInterrupt, during a turn as well as behind one.
func TestChatLeavesAtASecondInterrupt(t *testing.T) {
	p := sit(t, t.TempDir(), "chat", "--no-keep", "Once")
	p.waits(func(seen string) bool { return strings.Contains(seen, "upon a time") })
	p.types("\x03", prompted("The answer was cancelled."))
	p.types("\x03", func(string) bool { return true })
	require.Equal(t, 130, p.leaves())

	p = sit(t, t.TempDir(), "chat")
	p.waits(prompted("leaves."))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 1, p.leaves(), "and at SIGTERM")
}

// TestChatOnAPipe writes the answers and nothing else.
func TestChatOnAPipe(t *testing.T) {
	cmd := chatProgram(t, "chat", "--no-keep")
	cmd.Stdin = strings.NewReader("Name the colours.\n\n\\\nseveral\nlines\n\\\n\\models\n\\reset\nlast\\\nline")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%s", errs.String())
	require.Equal(t, "Red, yellow and **blue**.\n\nThese are *two*.\n* scripted  (ready, 1.0 MB)\n\nlast\nline\n", string(out))
	require.Empty(t, errs.String())

	cmd = chatProgram(t, "chat", "--no-keep")
	cmd.Stdin = strings.NewReader("\\nonsense\nName the colours.\n")
	out, err = cmd.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "where nobody reads it, a mistake ends the chat")
	require.Equal(t, 1, exit.ExitCode())
	require.Empty(t, string(out))
}

// TestPromptConfigFolders: the keys of folders count where the program begins with them, and
// then a session has nothing to say of them.
func TestPromptConfigFolders(t *testing.T) {
	root := t.TempDir()
	config := filepath.Join(root, "p.json")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `{"logs_dir": %q, "chats_dir": %q, "assistant_greeting": "Hello {n}.", "placeholders": {"n": "you"}}`,
		filepath.Join(root, "logs"), filepath.Join(root, "chats")), 0o600))
	for _, args := range [][]string{{"chat", "--prompt-config", config, "colours"}, {"generate", "--prompt-config", config, "colours"}} {
		cmd := chatProgram(t, append(args, "--log-level", "info")...)
		cmd.Env = append(cmd.Env, "HARMONYD_STATE="+filepath.Join(root, "state"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "blue")
		require.NotContains(t, string(out), "has no effect")
		if args[0] == "chat" {
			require.Contains(t, string(out), "Hello you.")
		}
	}
	kept, err := filepath.Glob(filepath.Join(root, "chats", "*.jsonl"))
	require.NoError(t, err)
	require.Len(t, kept, 1, "generate keeps nothing")
	log, err := os.ReadFile(filepath.Join(root, "logs", "harmonyd.log"))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(log), "msg=generation "), "%s", log)
}
