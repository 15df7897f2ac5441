package terminal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of the history.
const (
	maxHistory      = 1000    // entries
	maxHistoryEntry = 8 << 10 // bytes; what is longer was hardly typed
)

// history is what a person said before, the newest last. Its file has a JSON string a line
// and is only appended to, so that several programs can share it.
type history struct {
	file    string // empty where it is not written down
	entries []string
	torn    bool // the file's last line has no end
}

// openHistory reads a history. Lines that make no sense are left out.
func openHistory(file string) (*history, error) {
	h := &history{file: file}
	data, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return h, nil
		}
		return &history{}, fmt.Errorf("history: %w", err)
	}
	h.torn = len(data) > 0 && data[len(data)-1] != '\n'
	for line := range bytes.Lines(data) {
		var text string
		if json.Unmarshal(line, &text) == nil && text != "" {
			h.entries = append(h.entries, text)
		}
	}
	if n := len(h.entries); n > maxHistory {
		h.entries = slices.Clone(h.entries[n-maxHistory:])
		if n > 2*maxHistory {
			h.torn = false
			return h, h.rewrite()
		}
	}
	return h, nil
}

// rewrite leaves the file with the entries that count.
func (h *history) rewrite() error {
	var b bytes.Buffer
	for _, text := range h.entries {
		b.Write(historyLine(text))
	}
	return replaceFile(h.file, b.Bytes())
}

func historyLine(text string) []byte {
	line, _ := json.Marshal(text) // of a string, which cannot fail
	return append(line, '\n')
}

// add adds what was said, unless it is what was said last.
func (h *history) add(text string) error {
	text = strings.TrimRight(text, "\n")
	if text == "" || len(text) > maxHistoryEntry || len(h.entries) > 0 && h.entries[len(h.entries)-1] == text {
		return nil
	}
	h.entries = append(h.entries, text)
	if h.file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(h.file), 0o700); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	f, err := os.OpenFile(h.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	line := historyLine(text)
	if h.torn {
		line = append([]byte("\n"), line...)
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	h.torn = false
	return nil
}

// before is the newest entry older than the ith that begins with prefix, -1 where there is
// none; after is the oldest newer one.
func (h *history) before(i int, prefix string) int {
	for i--; i >= 0; i-- {
		if strings.HasPrefix(h.entries[i], prefix) {
			return i
		}
	}
	return -1
}

func (h *history) after(i int, prefix string) int {
	for i++; i < len(h.entries); i++ {
		if strings.HasPrefix(h.entries[i], prefix) {
			return i
		}
	}
	return -1
}
