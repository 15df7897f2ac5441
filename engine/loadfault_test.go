package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/native"
	"harmonyd/engine/weights"
)

var errFault = errors.New("input/output error")

// A fault is what goes wrong once with a folder: at a call, counted from 1 over
// all files, or at the first read that covers an offset of a file.
type fault struct {
	how    string // error, short, truncated or changed
	call   int
	file   string
	offset int64
}

// faultyFolder is a folder in memory with at most one fault. Its files may be
// read from many goroutines.
type faultyFolder struct {
	fault

	mu    sync.Mutex
	files map[string][]byte
	calls int
	hit   string // the file at fault, where the fault has happened
	at    [2]int64
	time  map[string]time.Time
}

func newFaultyFolder(files map[string][]byte, f fault) *faultyFolder {
	return &faultyFolder{fault: f, files: maps.Clone(files), time: map[string]time.Time{}}
}

// strike counts a call and reports whether it is the one that goes wrong. Open
// and Stat have no range.
func (f *faultyFolder) strike(file string, from, to int64) bool {
	f.calls++
	if f.hit != "" || f.calls != f.call && (file != f.file || f.offset < from || f.offset >= to) {
		return false
	}
	f.hit, f.at = file, [2]int64{from, to}
	return true
}

func (f *faultyFolder) Open(name string) (weights.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.files[name]; !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if f.strike(name, 0, 0) {
		return nil, errFault
	}
	return &faultyFile{f, name}, nil
}

type faultyFile struct {
	folder *faultyFolder
	name   string
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	d := f.folder
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.strike(f.name, off, off+int64(len(p))) {
		switch d.how {
		case "error":
			return 0, errFault
		case "short":
			return copy(p[:len(p)/2], d.files[f.name][off:]), nil
		case "truncated":
			cut := off + int64(len(p))/2
			if d.file != "" {
				cut = d.offset
			}
			d.files[f.name] = d.files[f.name][:cut]
		case "changed": // by someone who writes the file anew meanwhile
			d.time[f.name] = time.Unix(1, 0)
		}
	}
	return bytes.NewReader(d.files[f.name]).ReadAt(p, off)
}

func (f *faultyFile) Stat() (fs.FileInfo, error) {
	d := f.folder
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.strike(f.name, 0, 0) {
		return nil, errFault
	}
	return fileInfo{f.name, int64(len(d.files[f.name])), d.time[f.name]}, nil
}

func (f *faultyFile) Close() error { return nil }

type fileInfo struct {
	name string
	size int64
	time time.Time
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return 0o644 }
func (i fileInfo) ModTime() time.Time { return i.time }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }

// faultBench loads one model over folders that go wrong.
type faultBench struct {
	*Engine
	files   map[string][]byte
	tensors []weights.Tensor
	want    []int32 // what the whole model generates

	arrays, natives int
	active, buffers int64
}

func newFaultBench(t *testing.T, c enginetest.Checkpoint) *faultBench {
	root := t.TempDir()
	path := filepath.Join(root, "tiny")
	require.NoError(t, c.Write(path))
	b := &faultBench{files: map[string][]byte{}}
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	for _, e := range entries {
		b.files[e.Name()], err = os.ReadFile(filepath.Join(path, e.Name()))
		require.NoError(t, err)
	}
	m, err := weights.Open(path)
	require.NoError(t, err)
	b.tensors = m.Tensors
	require.NoError(t, m.Close())
	b.Engine = newTestEngine(t, Options{Root: root})
	_, err = b.Open(t.Context(), "tiny") // the tokenizer stays
	require.NoError(t, err)
	healthy := newFaultyFolder(b.files, fault{})
	b.folder = func(string) weights.Folder { return healthy }
	b.want = b.generate(t)
	require.NoError(t, b.Unload(t.Context(), "tiny"))
	b.arrays, b.natives, b.buffers, b.active = mlx.Live(), native.Live(), mlx.BufferMemory(), mlx.ActiveMemory()
	return b
}

func (b *faultBench) generate(t *testing.T) []int32 {
	o := generate(t, b.Engine, job.Request{Model: "tiny", Prompt: pseudoPrompt(9, 96), MaxTokens: 6})
	require.NoError(t, o.err)
	return o.ids
}

// load loads over f and demands that a load which met the fault says where, and
// leaves nothing, and that any other one is of the whole model. It returns how
// many calls there were, 0 where the fault came to pass.
func (b *faultBench) load(t *testing.T, f fault) (calls int) {
	t.Helper()
	name := fmt.Sprintf("%+v", f)
	folder := newFaultyFolder(b.files, f)
	b.folder = func(string) weights.Folder { return folder }
	err := b.Load(t.Context(), "tiny", nil)
	if err == nil {
		require.Equal(t, b.want, b.generate(t), name)
		require.NoError(t, b.Unload(t.Context(), "tiny"))
		require.Empty(t, folder.hit, name)
		calls = folder.calls
	} else {
		var failed *job.LoadError
		require.ErrorAs(t, err, &failed, name)
		require.NotEmpty(t, folder.hit, name)
		require.ErrorContains(t, err, folder.hit, "%s: names the file", name)
		if tensor := b.tensorAt(folder.hit, folder.at); tensor != "" {
			require.True(t, b.names(err, folder.hit, tensor, f.how), "%s: names tensor %s: %v", name, tensor, err)
		}
	}
	require.Equal(t, b.arrays, mlx.Live(), "%s: arrays", name)
	require.Equal(t, b.natives, native.Live(), "%s: native handles", name)
	require.Equal(t, b.buffers, mlx.BufferMemory(), "%s: bytes of buffers", name)
	require.Equal(t, b.active, mlx.ActiveMemory(), "%s: bytes", name)
	return calls
}

// names reports whether err names the tensor, or where the whole file is no
// longer what it was any tensor of it: two are read at a time.
func (b *faultBench) names(err error, file, tensor, how string) bool {
	for _, t := range b.tensors {
		alike := t.Name == tensor || t.File == file && (how == "truncated" || how == "changed")
		if alike && strings.Contains(err.Error(), strconv.Quote(t.Name)) {
			return true
		}
	}
	return false
}

// tensorAt names the tensor that a read took.
func (b *faultBench) tensorAt(file string, at [2]int64) string {
	i := slices.IndexFunc(b.tensors, func(t weights.Tensor) bool {
		return t.File == file && t.Offset == at[0] && t.Offset+t.Bytes == at[1] && t.Bytes > 0
	})
	if i < 0 {
		return ""
	}
	return b.tensors[i].Name
}

// TestE3ReadFaults loads a model in one file and one in three, plain and packed,
// and lets each call fail in turn, as SQLite does, until none is left to fail.
//
// Planted break: weights.readFull that takes a short read for a whole one.
func TestE3ReadFaults(t *testing.T) {
	for name, c := range faultModels {
		t.Run(name, func(t *testing.T) {
			b := newFaultBench(t, c)
			failed := 0
			for _, how := range []string{"error", "short", "truncated", "changed"} {
				for call := 1; ; call++ {
					f := fault{how: how, call: call}
					if calls := b.load(t, f); calls > 0 {
						require.Less(t, calls, call, "%+v: a call that failed was not missed", f)
						require.Greater(t, call, 30)
						break
					}
					failed++
				}
			}
			t.Logf("%d loads failed, each with file and tensor, none left anything", failed)
		})
	}
}

// TestE3FaultsAtRandomOffsets fails the read of a byte somewhere in the files, in
// -offsets of them for each model.
func TestE3FaultsAtRandomOffsets(t *testing.T) {
	for name, c := range faultModels {
		t.Run(name, func(t *testing.T) {
			b := newFaultBench(t, c)
			rng := rand.New(rand.NewPCG(1, 2))
			var names []string
			for name := range b.files {
				if strings.Contains(name, ".safetensors") || name == "config.json" {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			for range 500 {
				f := fault{how: []string{"error", "short", "truncated", "changed"}[rng.IntN(4)], file: names[rng.IntN(len(names))]}
				f.offset = rng.Int64N(int64(len(b.files[f.file])))
				require.Zero(t, b.load(t, f), "%+v: the byte was not read", f)
			}
		})
	}
}

var faultModels = map[string]enginetest.Checkpoint{
	"one file": {Layers: 1},
	"shards":   {Layers: 1, Shards: 3, Bits: 4, Group: 32},
}
