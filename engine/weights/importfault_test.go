package weights

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestImportNeedsAFreeDestination(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.gguf")
	require.NoError(t, os.WriteFile(path, tinyLlama{}.file().bytes(), 0o644))
	require.ErrorIs(t, ImportGGUF(t.Context(), path, dir, nil), os.ErrExist)
	require.ErrorContains(t, ImportGGUF(t.Context(), path, filepath.Join(path, "x", "y"), nil), "not a directory")
	require.ErrorIs(t, ImportGGUF(t.Context(), path+"x", filepath.Join(dir, "d"), nil), os.ErrNotExist)

	// Another import that is faster wins; this one leaves its folder alone.
	dest := filepath.Join(dir, "models", "d")
	err := ImportGGUF(t.Context(), path, dest, func(done, total int64, _ string) {
		if done == total {
			require.NoError(t, os.MkdirAll(filepath.Join(dest, "theirs"), 0o755))
		}
	})
	require.ErrorIs(t, err, os.ErrExist)
	entries, err := os.ReadDir(filepath.Dir(dest))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestImportReportsProgress(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.gguf")
	require.NoError(t, os.WriteFile(path, tinyLlama{}.file().bytes(), 0o644))
	var last, all int64
	names := map[string]bool{}
	require.NoError(t, ImportGGUF(t.Context(), path, filepath.Join(dir, "d"), func(done, total int64, what string) {
		require.Greater(t, done, last)
		last, all, names[what] = done, total, true
	}))
	require.Equal(t, all, last)
	m, err := Open(filepath.Join(dir, "d"))
	require.NoError(t, err)
	require.Equal(t, all, m.Bytes())
	require.Len(t, names, len(m.Tensors))
	require.NoError(t, m.Close())
}

func TestCancelledImportLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.gguf")
	require.NoError(t, os.WriteFile(path, tinyLlama{}.file().bytes(), 0o644))
	for stop := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		dest := filepath.Join(dir, "models", "d")
		if stop == 0 {
			cancel()
		}
		err := ImportGGUF(ctx, path, dest, func(int64, int64, string) {
			if calls++; calls == stop {
				cancel()
			}
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, stop, calls)
		requireNothingAt(t, dest)
		cancel()
	}
}

func TestFileThatChangesWhileImporting(t *testing.T) {
	folder := &memFolder{files: map[string][]byte{"m.gguf": tinyLlama{}.file().bytes()}}
	changing := changingFolder{folder, 3, func(f *memFile) { f.time = time.Unix(1, 0) }}
	dest := filepath.Join(t.TempDir(), "models", "d")
	require.EqualError(t, importGGUF(t.Context(), changing, "m.gguf", dest, 1<<30, nil),
		"m.gguf: the file changed while it was being read")
	requireNothingAt(t, dest)
}

func TestEveryFaultWhileImporting(t *testing.T) {
	model := tinyLlama{kinds: map[string]uint32{"blk.0.attn_v.weight": 2}, freqs: llama3Factors(10000, 8)}
	files := map[string][]byte{"m.gguf": model.file().bytes()}
	run := func(folder *memFolder) (written []byte, err error) {
		dest := filepath.Join(t.TempDir(), "models", "d")
		err = importGGUF(t.Context(), folder, "m.gguf", dest, 1<<30, nil)
		require.Zero(t, folder.open)
		if err != nil {
			requireNothingAt(t, dest)
			return nil, err
		}
		written, err = os.ReadFile(filepath.Join(dest, singleFile))
		require.NoError(t, err)
		return written, nil
	}
	healthy := &memFolder{files: files}
	want, err := run(healthy)
	require.NoError(t, err)
	require.Greater(t, healthy.turns, 30)
	// The last turn closes a file that has been read, which loses nothing.
	for fail := 1; fail < healthy.turns; fail++ {
		for _, how := range []fault{failing, short, truncated} {
			folder := &memFolder{files: files, fail: fail, how: how}
			got, err := run(folder)
			// A short read is made good where the header is read from a buffer.
			if how == failing || how == truncated && folder.hit || err != nil {
				require.ErrorContains(t, err, "m.gguf", "call %d", fail)
				require.ErrorIs(t, err, map[fault]error{failing: errFault, short: io.ErrUnexpectedEOF,
					truncated: io.ErrUnexpectedEOF}[how], "call %d", fail)
				continue
			}
			require.True(t, bytes.Equal(want, got), "call %d: read wrong", fail)
		}
	}
}

func TestImportMeetsDiskErrors(t *testing.T) {
	dir := t.TempDir()
	f := tinyLlama{}.file()
	folder := &memFolder{files: map[string][]byte{"m.gguf": f.bytes()}}
	run := func(dest string, progress func(int64, int64, string)) error {
		return importGGUF(t.Context(), folder, "m.gguf", dest, 20_000, progress)
	}
	require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "link")))
	require.ErrorIs(t, run(filepath.Join(dir, "link", "d"), nil), os.ErrExist)
	require.ErrorIs(t, run(filepath.Join(dir, strings.Repeat("d", 250)), nil), syscall.ENAMETOOLONG)
	g, err := OpenGGUFIn(folder, "m.gguf")
	require.NoError(t, err)
	imp, err := newImporter(t.Context(), g, nil)
	require.NoError(t, err)
	n := len(splitShards(imp.groups, 20_000))
	require.Greater(t, n, 1)
	for _, file := range []string{fmt.Sprintf("model-%05d-of-%05d.safetensors", n, n), indexFile} {
		dest := filepath.Join(dir, "models", "d")
		err := run(dest, func(int64, int64, string) {
			temp, err := filepath.Glob(filepath.Join(dir, "models", ImportPrefix+"*"))
			require.NoError(t, err)
			require.Len(t, temp, 1)
			require.NoError(t, os.WriteFile(filepath.Join(temp[0], file), nil, 0o644))
		})
		require.ErrorIs(t, err, os.ErrExist)
		require.ErrorContains(t, err, file)
		requireNothingAt(t, dest)
	}
	require.ErrorIs(t, imp.writeFolder(filepath.Join(dir, "nowhere"), 1), os.ErrNotExist)
	require.ErrorIs(t, SyncFolder(filepath.Join(dir, "nowhere")), os.ErrNotExist)
	room := full(3)
	require.ErrorIs(t, imp.write(&imp.groups[0][0], &room), syscall.ENOSPC)

	// A norm that was exact in 16 bits when it was looked at and no longer is.
	file := g.file.(*memFile)
	file.data = bytes.Clone(file.data)
	norm := imp.groups[1][0]
	require.Equal(t, narrowed, norm.part)
	copy(file.data[norm.tensor.Offset:], f32(1e-30))
	require.EqualError(t, imp.write(&norm, &room),
		`m.gguf: tensor "blk.0.attn_norm.weight": rows from 0: the file changed while it was being read`)
	require.NoError(t, g.Close())
}
