package conversation

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"
)

// The cache of lists is a file of a line for each conversation, with tabs between its
// parts, and of a last line with the CRC-32C of the others. It saves opening thousands of
// logs, and is never believed where a log has another size or time than it says; without
// it, or with one that cannot be read, lists take longer.
const (
	cacheName  = ".list"
	cacheFirst = "harmonyd conversations 1\n"
)

// unchanged reports whether a log is still as it was when it was summarized.
func (s *Store) unchanged(m Summary) bool {
	st, err := s.fs.stat(s.file(m.ID, logSuffix))
	return err == nil && st.Size() == m.Bytes && st.ModTime().Equal(m.Updated)
}

// remember keeps what the next list may use: not what has a problem, and not a log that
// changed so lately that its time may stay the same when it changes again.
func (s *Store) remember(all []Summary) {
	s.known = make(map[string]Summary, len(all))
	settled := time.Now().Add(-2 * time.Second)
	for _, m := range all {
		if m.Problem == "" && m.Updated.Before(settled) {
			s.known[m.ID] = m
		}
	}
}

// writeCache writes what is known. That it cannot does no harm.
func (s *Store) writeCache(all []Summary) {
	release, err := s.lock(cacheName)
	if err != nil {
		return // another process does
	}
	text := []byte(cacheFirst)
	for _, m := range all {
		if _, ok := s.known[m.ID]; !ok {
			continue
		}
		for _, part := range []string{
			m.ID, strconv.FormatInt(m.Bytes, 10), strconv.FormatInt(m.Updated.UnixNano(), 10),
			strconv.FormatInt(m.Created.UnixNano(), 10), strconv.Itoa(m.Messages), m.ForkedFrom, m.Title,
		} {
			text = append(append(text, part...), '\t')
		}
		text[len(text)-1] = '\n'
	}
	text = fmt.Appendf(text, "%08x\n", crc32.Checksum(text, castagnoli))
	name := s.file(cacheName, newSuffix)
	err = s.writeFile(name, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err == nil {
		err = s.fs.rename(name, s.file(cacheName, ""))
	}
	if err != nil {
		_ = s.discard(name)
	}
	_ = release()
}

// readCache reads what another process knew. It is never nil.
func (s *Store) readCache() map[string]Summary {
	known := map[string]Summary{}
	f, err := s.fs.open(s.file(cacheName, ""))
	if err != nil {
		return known
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return known
	}
	text, err := readAt(f, 0, st.Size())
	if n := len(text) - len("01234567\n"); err == nil && n >= 0 {
		lines, sum := text[:n], text[n:]
		if string(sum) == fmt.Sprintf("%08x\n", crc32.Checksum(lines, castagnoli)) && bytes.HasPrefix(lines, []byte(cacheFirst)) {
			for line := range strings.Lines(string(lines[len(cacheFirst):])) {
				if m, ok := cached(strings.Split(strings.TrimSuffix(line, "\n"), "\t")); ok {
					known[m.ID] = m
				}
			}
		}
	}
	return known
}

// cached is the summary of a line of the cache.
func cached(parts []string) (m Summary, ok bool) {
	if len(parts) != 7 {
		return m, false
	}
	var numbers [4]int64
	for i := range numbers {
		var err error
		if numbers[i], err = strconv.ParseInt(parts[1+i], 10, 64); err != nil {
			return m, false
		}
	}
	return Summary{
		ID: parts[0], Bytes: numbers[0], Updated: time.Unix(0, numbers[1]), Created: time.Unix(0, numbers[2]).UTC(),
		Messages: int(numbers[3]), ForkedFrom: parts[5], Title: parts[6],
	}, true
}
