package weights

import (
	"cmp"
	"errors"
	flags "flag"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/mutate"
)

var mutantCount = flags.Int("mutants", 20_000, "how many mutants of each format TestMutants reads")

// TestMutants reads files that are valid but for a few changes of their structure,
// one for each seed. A long run of it is recorded in testdata/mutants.txt.
//
// Planted breaks: a reader that does not look for overlaps; one that allocates
// what a header claims.
func TestMutants(t *testing.T) {
	for _, format := range []struct {
		name  string
		make  func(*mutate.Choices) []byte
		check func([]byte) error
		least int // different errors that must be met
	}{
		{"safetensors", safetensorsMutant, checkSafetensors, 40},
		{"GGUF", ggufMutant, checkGGUF, 40},
	} {
		t.Run(format.name, func(t *testing.T) {
			room := make([]byte, 0, 512)
			met := map[string]bool{}
			accepted, start := 0, time.Now()
			for seed := range uint64(*mutantCount) {
				file := format.make(mutate.Seeded(seed, room))
				var err error
				if seed%64 == 0 { // asking costs more than reading
					err = boundedBy(file, func() error { return format.check(file) })
				} else {
					err = format.check(file)
				}
				var broken *FormatError
				switch {
				case err == nil:
					accepted++
				case errors.As(err, &broken):
					if len(met) < 1000 {
						met[placeholders.ReplaceAllString(broken.Field+": "+broken.Reason, "_")] = true
					}
				default:
					require.NoError(t, err, "seed %d: %q", seed, file)
				}
			}
			require.Greater(t, accepted, *mutantCount/10)
			require.Less(t, accepted, *mutantCount/2)
			require.Greater(t, len(met), format.least)
			t.Logf("%s: %d executions, %d accepted, at least %d different errors, no finding, %s", format.name, *mutantCount,
				accepted, len(met), time.Since(start).Round(time.Second))
		})
	}
}

// boundedBy runs read, which may allocate four times the file and what a reader
// needs besides: a read-ahead buffer of 64 KiB and its own small change.
func boundedBy(file []byte, read func() error) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := read()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(allowance*len(file))+96<<10 {
		return fmt.Errorf("%d bytes were allocated for a file of %d", took, len(file))
	}
	return err
}

// checkSafetensors reads a file whole. What is refused gives a *FormatError that
// says which file and why; what is accepted covers the file without holes or
// overlaps, each tensor as large as its type and shape, and can be read.
func checkSafetensors(file []byte) error {
	folder := &memFolder{files: map[string][]byte{singleFile: file}}
	m, err := OpenFolder(folder)
	if err != nil {
		return refusal(err, folder)
	}
	byOffset := slices.Clone(m.Tensors)
	slices.SortFunc(byOffset, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Bytes, b.Bytes))
	})
	next := int64(len(file)) - m.Bytes()
	for _, t := range byOffset {
		n, err := byteSize(t.Dtype, t.Shape)
		if err != nil || n != t.Bytes || t.Offset != next {
			return fmt.Errorf("tensor %+v: begins at %d, not at %d, or is not %d bytes long: %v", t, t.Offset, next, n, err)
		}
		next += n
		if err := m.ReadTensor(t, make([]byte, n)); err != nil {
			return err
		}
	}
	if next != int64(len(file)) {
		return fmt.Errorf("accounts for %d of %d bytes", next, len(file))
	}
	return m.Close()
}

// checkGGUF is checkSafetensors for GGUF.
func checkGGUF(file []byte) error {
	folder := &memFolder{files: map[string][]byte{"m.gguf": file}}
	g, err := OpenGGUFIn(folder, "m.gguf")
	if err != nil {
		return refusal(err, folder)
	}
	var end int64
	for i := range g.Tensors {
		t := &g.Tensors[i]
		n, err := t.kind.size(t.Shape)
		if err != nil || n != t.Bytes || t.Offset < end || t.Offset+n > int64(len(file)) {
			return fmt.Errorf("tensor %+v: begins before %d, ends behind %d, or is not %d bytes long: %v", *t, end, len(file), n, err)
		}
		end = t.Offset + n
		if err := g.ReadAt(t, make([]byte, n), 0); err != nil {
			return err
		}
	}
	for i := range g.values[min(1, len(g.values)):] {
		if g.values[i].key >= g.values[i+1].key {
			return fmt.Errorf("key %q stands twice or out of order", g.values[i].key)
		}
	}
	return g.Close()
}

// refusal passes on an error that is as it must be.
func refusal(err error, folder *memFolder) error {
	var broken *FormatError
	if !errors.As(err, &broken) || broken.File == "" || broken.Reason == "" {
		return fmt.Errorf("untyped refusal: %v", err)
	}
	if folder.open != 0 {
		return fmt.Errorf("a file was left open after %v", err)
	}
	return err
}
