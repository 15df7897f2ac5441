package rpc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// read is a file, "" where there is none.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	return string(text)
}

// TestLogFile: it goes on where it ended, is turned when it is full, and there are
// never more than two.
func TestLogFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	write := func(l *LogFile, text string) {
		n, err := l.Write([]byte(text))
		require.NoError(t, err)
		require.Equal(t, len(text), n)
	}
	l, err := openLogFile(path, 10)
	require.NoError(t, err)
	write(l, "one\n")
	require.NoError(t, l.Close())
	l, err = openLogFile(path, 10)
	require.NoError(t, err)
	write(l, "two..\n")
	require.Equal(t, "one\ntwo..\n", read(t, path), "just full")
	require.Empty(t, read(t, path+".1"))
	write(l, "3\n")
	require.Equal(t, "3\n", read(t, path))
	require.Equal(t, "one\ntwo..\n", read(t, path+".1"))
	write(l, strings.Repeat("4", 20)+"\n")
	require.Equal(t, strings.Repeat("4", 20)+"\n", read(t, path), "what is longer than a file has one of its own")
	require.Equal(t, "3\n", read(t, path+".1"))

	// Whoever moves or deletes it is not overruled.
	require.NoError(t, os.Rename(path, filepath.Join(dir, "moved")))
	write(l, "5\n")
	require.Equal(t, "5\n", read(t, path))
	require.Equal(t, "3\n", read(t, path+".1"))
	require.NoError(t, l.Close())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3)
}

// TestLogFileThatCannotBeTurned is bounded all the same: it begins anew.
func TestLogFileThatCannotBeTurned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.MkdirAll(filepath.Join(path+".1", "full"), 0o700)) // rename fails
	l, err := openLogFile(path, 10)
	require.NoError(t, err)
	for i := range 100 {
		_, err := fmt.Fprintf(l, "line %d\n", i)
		require.NoError(t, err)
		require.LessOrEqual(t, len(read(t, path)), 10)
	}
	require.Equal(t, "line 99\n", read(t, path))
	require.NoError(t, l.Close())
}

// TestLogFileElsewhere: links are followed and stay, and what is no file is left alone.
func TestLogFileElsewhere(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "log"), filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(path, []byte("0123456789"), 0o600))
	require.NoError(t, os.Symlink(path, link))
	l, err := openLogFile(link, 10)
	require.NoError(t, err)
	_, err = l.Write([]byte("next"))
	require.NoError(t, err)
	require.Equal(t, "next", read(t, link))
	require.Equal(t, "0123456789", read(t, path+".1"))
	require.NoError(t, l.Close())
	at, err := os.Readlink(link)
	require.NoError(t, err)
	require.Equal(t, path, at)

	l, err = openLogFile(os.DevNull, 10)
	require.NoError(t, err)
	_, err = l.Write(make([]byte, 100))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = openLogFile(filepath.Join(dir, "missing", "log"), 10)
	require.ErrorContains(t, err, "log file: ")
}

// TestLogFileOfTwo: what one has turned the other does not turn again.
func TestLogFileOfTwo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var two [2]*LogFile
	for i := range two {
		l, err := openLogFile(path, 10)
		require.NoError(t, err)
		defer l.Close()
		two[i] = l
	}
	for i, text := range []string{"a 0123456\n", "b\n", "c\n"} {
		_, err := two[i%2].Write([]byte(text))
		require.NoError(t, err)
	}
	require.Equal(t, "a 0123456\n", read(t, path+".1"))
	require.Equal(t, "b\nc\n", read(t, path))
}

// TestLogFileOfMany: several write to one path. Every line is whole, none is in both
// files, and neither grows beyond what each of them may add.
func TestLogFileOfMany(t *testing.T) {
	const writers, lines, most = 8, 500, 4096
	path := filepath.Join(t.TempDir(), "log")
	var all sync.WaitGroup
	for w := range writers {
		l, err := openLogFile(path, most)
		require.NoError(t, err)
		all.Go(func() {
			for i := range lines {
				if _, err := fmt.Fprintf(l, "writer %d line %03d\n", w, i); err != nil {
					panic(err)
				}
			}
			if err := l.Close(); err != nil {
				panic(err)
			}
		})
	}
	all.Wait()
	now, before := read(t, path), read(t, path+".1")
	require.NotEmpty(t, now)
	require.LessOrEqual(t, len(now), most+writers*len("writer 0 line 000\n"))
	require.LessOrEqual(t, len(before), most+writers*len("writer 0 line 000\n"))
	require.Greater(t, len(before), most/2, "the one before was full")
	seen := map[string]bool{}
	for line := range strings.Lines(before + now) {
		require.Regexp(t, `^writer \d line \d{3}\n$`, line)
		require.False(t, seen[line], line)
		seen[line] = true
	}
}
