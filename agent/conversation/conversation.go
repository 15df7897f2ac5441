package conversation

import (
	"fmt"
	"slices"
	"sync"

	"harmonyd/schema"
)

// Conversation is a log that can be read. It is safe for concurrent use. Messages
// stay on the disk until they are asked for.
type Conversation struct {
	mu     sync.RWMutex // a Log that embeds this one changes what follows
	file   file
	index  *index
	damage *Damage
}

// Header returns the first record.
func (c *Conversation) Header() Header { return c.index.header }

// Damage is what was found behind the sound part of the log when it was opened, or
// nil. Of a conversation that another process is writing to it may be a line that was
// not complete yet.
func (c *Conversation) Damage() *Damage { return c.damage }

// Len is the number of entries, those of all branches.
func (c *Conversation) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.index.items)
}

// Leaf is the newest entry, Root where there is none.
func (c *Conversation) Leaf() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.leaf()
}

func (c *Conversation) leaf() string {
	if n := len(c.index.items); n > 0 {
		return c.index.items[n-1].id
	}
	return Root
}

// Entries reads all entries in the order in which they were appended.
func (c *Conversation) Entries() ([]Entry, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]int, len(c.index.items))
	for i := range all {
		all[i] = i
	}
	return c.read(all)
}

// Path reads the entries from the root to leaf; an empty leaf is the newest entry.
func (c *Conversation) Path(leaf string) ([]Entry, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	path, err := c.path(leaf)
	if err != nil {
		return nil, err
	}
	return c.read(path)
}

// path is the indices of the entries from the root to leaf.
func (c *Conversation) path(leaf string) ([]int, error) {
	if leaf == "" {
		leaf = c.leaf()
	}
	if leaf == Root {
		return nil, nil
	}
	i, ok := c.index.byID[leaf]
	if !ok {
		return nil, fmt.Errorf("conversation %s has no message %q", c.index.header.ID, leaf)
	}
	var path []int
	for ; i >= 0; i = c.index.items[i].parent {
		path = append(path, i)
	}
	slices.Reverse(path)
	return path, nil
}

func (c *Conversation) read(indices []int) ([]Entry, error) {
	entries := make([]Entry, len(indices))
	for n, i := range indices {
		l, err := c.line(i)
		if err == nil {
			entries[n], err = decodeBody(c.index.items[i].id, c.index.parentID(i), l.body)
		}
		if err != nil {
			return nil, fmt.Errorf("conversation %s: message %s: %w", c.index.header.ID, c.index.items[i].id, err)
		}
	}
	return entries, nil
}

// line reads the line of item i anew and checks it again: it may have changed on the
// disk since it was scanned.
func (c *Conversation) line(i int) (line, error) {
	it := c.index.items[i]
	text := make([]byte, it.size)
	if _, err := c.file.ReadAt(text, it.offset); err != nil {
		return line{}, err
	}
	l, problem := parseLine(text[:it.size-1], i+1)
	if problem != "" {
		return line{}, fmt.Errorf("its line at %d has changed: %s", it.offset, problem)
	}
	return l, nil
}

// Close closes the log.
func (c *Conversation) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file.Close()
}

// Messages are the messages of entries.
func Messages(entries []Entry) []schema.Message {
	all := make([]schema.Message, len(entries))
	for i := range entries {
		all[i] = entries[i].Message
	}
	return all
}
