package conversation

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var kills = flag.Int("kills", 50, "how many writing processes TestD1 kills")

// writeForEver appends to a conversation until it is killed, and says on stdout how many
// messages were acknowledged.
func writeForEver(dir, id string) int {
	s, err := OpenStore(dir)
	if err != nil {
		return fail(err)
	}
	l, err := s.Open(id)
	if errors.Is(err, ErrNotFound) {
		l, err = s.Create(Header{ID: id})
	}
	if err != nil {
		return fail(err)
	}
	for {
		n := l.Len()
		if _, err := l.Append(numbered(n, n+1+n%3)...); err != nil {
			return fail(err)
		}
		fmt.Fprintln(os.Stdout, l.Len())
	}
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// child starts this test's binary as one of its programs.
func child(t *testing.T, what string, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewReader(out)
}

// TestD1KillNine kills writing processes at random moments, one after the other on the
// same conversation. It always opens, with every message that was acknowledged and at
// most the ones of the append that ran. Planted break: lines are written without their
// ends, which follow with the next line.
func TestD1KillNine(t *testing.T) {
	if raceEnabled {
		*kills = min(*kills, 10)
	}
	dir := t.TempDir()
	s, err := OpenStore(dir)
	require.NoError(t, err)
	acked, unacked, torn := 0, 0, 0
	id, n := "", 0
	for kill := range *kills {
		if kill%10 == 0 { // creation is killed too, and logs do not grow for ever
			id, n, acked = fmt.Sprintf("k%d", kill), 0, 0
		}
		cmd, out := child(t, "writer", dir, id)
		moment := time.Duration(rand.IntN(15_000)) * time.Microsecond
		if kill%5 != 0 { // the others are killed once they write
			line, err := out.ReadString('\n')
			require.NoError(t, err)
			acked, err = strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			moment /= 3
		}
		time.Sleep(moment)
		require.NoError(t, cmd.Process.Kill())
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		_ = cmd.Wait()
		if lines := strings.Fields(string(rest)); len(lines) > 0 {
			acked, err = strconv.Atoi(lines[len(lines)-1])
			require.NoError(t, err)
		}
		l, err := s.Open(id)
		if acked == 0 && errors.Is(err, ErrNotFound) {
			continue
		}
		require.NoError(t, err)
		if l.Damage() != nil {
			torn++
		}
		got := ids(t, &l.Conversation)
		require.GreaterOrEqual(t, len(got), acked)
		require.LessOrEqual(t, len(got), acked+3, "one append is at most three messages")
		for i, name := range got {
			require.Equal(t, fmt.Sprintf("m%d", i), name)
		}
		require.GreaterOrEqual(t, len(got), n)
		unacked += len(got) - acked
		n, acked = len(got), len(got)
		require.NoError(t, l.Close())
	}
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range names {
		require.NotContains(t, e.Name(), lockSuffix, "the lock of a dead process was taken over and removed")
	}
	t.Logf("%d processes killed; %d messages were there that nobody had been told of, %d logs torn", *kills, unacked, torn)
}

// hold keeps a conversation until its stdin ends.
func hold(dir, id string) int {
	s, err := OpenStore(dir)
	if err != nil {
		return fail(err)
	}
	l, err := s.Open(id)
	if err != nil {
		return fail(err)
	}
	fmt.Fprintln(os.Stdout, "open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := l.Close(); err != nil {
		return fail(err)
	}
	return 0
}

// TestD6TwoProcesses has two processes open one conversation: the second is refused with
// the process id of the first, and may read. When the first has closed it or was killed the
// second gets it. Planted break: the pid is not read.
func TestD6TwoProcesses(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStore(dir)
	require.NoError(t, err)
	l, err := s.Create(Header{ID: "a"})
	require.NoError(t, err)
	_, err = l.Append(numbered(0, 3)...)
	require.NoError(t, err)

	_, err = s.Open("a")
	var used *InUseError
	require.ErrorAs(t, err, &used)
	require.Equal(t, InUseError{ID: "a", PID: os.Getpid()}, *used)
	require.ErrorContains(t, err, "already open in this process")
	require.NoError(t, l.Close())

	for _, way := range []string{"closed", "killed"} {
		exe, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.Command(exe, dir, "a")
		cmd.Env = append(os.Environ(), childVariable+"=holder")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)

		for range 100 {
			_, err = s.Open("a")
			require.ErrorAs(t, err, &used)
			require.Equal(t, InUseError{ID: "a", PID: cmd.Process.Pid}, *used)
			require.ErrorContains(t, err, fmt.Sprintf("conversation a is in use by process %d", cmd.Process.Pid))
		}
		require.ErrorAs(t, s.Delete("a"), &used)
		c, err := s.Load("a")
		require.NoError(t, err)
		require.Equal(t, 3, c.Len())
		require.NoError(t, c.Close())

		if way == "closed" {
			require.NoError(t, in.Close())
			require.NoError(t, cmd.Wait())
		} else {
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
		}
		l, err := s.Open("a")
		require.NoError(t, err, way)
		require.NoError(t, l.Close())
	}
	// Many take the lock in turn; never do two have it.
	done := make(chan error, 8)
	holders := make(chan struct{}, 1)
	for range 8 {
		go func() {
			for range 50 {
				l, err := s.Open("a")
				if errors.As(err, new(*InUseError)) {
					continue
				}
				if err != nil {
					done <- err
					return
				}
				select {
				case holders <- struct{}{}:
					<-holders
				default:
					done <- errors.New("two hold the lock")
					return
				}
				if err := l.Close(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		require.NoError(t, <-done)
	}
}
