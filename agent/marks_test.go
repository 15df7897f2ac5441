package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// crash lets go of a mark as a process that ends does.
func crash(t *testing.T, k *mark) {
	t.Helper()
	require.NoError(t, k.lock.Close())
}

// entries counts the marks in a folder of state, or of marks.
func entries(t *testing.T, dir string) int {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "loading")); err == nil {
		dir = filepath.Join(dir, "loading")
	}
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	return len(list)
}

func TestMarks(t *testing.T) {
	m := newMarks(filepath.Join(t.TempDir(), "state", "marks"))
	require.Nil(t, m.left("a/b"))
	k, err := m.begin("a/b")
	require.NoError(t, err)
	require.Nil(t, m.left("a/b"), "its process lives")
	m.forget("a/b")
	k.end()
	k.end()
	require.Zero(t, entries(t, m.dir))

	k, err = m.begin("a/b")
	require.NoError(t, err)
	crash(t, k)
	left := m.left("a/b")
	require.Equal(t, os.Getpid(), left.Process)
	require.Equal(t, "a/b", left.Model)
	require.WithinDuration(t, time.Now(), left.Began, time.Hour)
	require.Nil(t, m.left("a"), "another model")
	// What another process loads meanwhile is not touched.
	other, err := m.begin("a/b")
	require.NoError(t, err)
	m.forget("a/b")
	require.Nil(t, m.left("a/b"))
	require.Equal(t, 1, entries(t, m.dir))
	m.close()
	require.Zero(t, entries(t, m.dir))
	other.end()

	// A file that nobody finished is no mark.
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, m.name("a/b")+".1"), []byte(`{"mod`), 0o600))
	require.Nil(t, m.left("a/b"))
}

// TestL7AfterACrash: a model whose load ended a process is refused by name, with
// the reason and the way round it, until a forced load has come to its end. The
// planted break is a guard that does not look.
func TestL7AfterACrash(t *testing.T) {
	dir := t.TempDir()
	fresh := func() *Agent {
		return New(newScripted(t, `{"models": [{"id": "m", "replies": [{"text": "fine"}]}, {"id": "other", "replies": [{"text": "fine"}]}]}`), noTools{}, Options{State: dir})
	}
	a := fresh()
	k, err := a.marks.begin("m")
	require.NoError(t, err)
	crash(t, k)

	a = fresh()
	for _, ask := range []func() error{
		func() error { _, err := a.Generate(t.Context(), raw("x"), &recorder{}, nil); return err },
		func() error {
			p := raw("x")
			p.Model = "m"
			_, err := a.Generate(t.Context(), p, &recorder{}, nil)
			return err
		},
		func() error { _, err := a.LoadModel(t.Context(), schema.ModelLoadParams{}, nil); return err },
	} {
		var wire *schema.Error
		require.ErrorAs(t, ask(), &wire)
		require.Equal(t, schema.KindModelLoadFailed, wire.Data.Kind)
		require.Contains(t, wire.Data.Cause, "ended while it loaded this model")
		require.Contains(t, wire.Data.Cause, "force:true")
	}
	models, err := a.Models(t.Context())
	require.NoError(t, err)
	require.Equal(t, schema.ModelUnloaded, models.Models[0].State, "nothing was loaded")
	p := raw("x")
	p.Model = "other"
	generate(t, a, p)

	_, err = a.LoadModel(t.Context(), schema.ModelLoadParams{Force: true}, nil)
	require.NoError(t, err)
	generate(t, a, raw("x"))
	require.Zero(t, entries(t, dir))
	generate(t, fresh(), raw("x"))
	require.Zero(t, entries(t, dir), "a load that ends leaves nothing")
}

// TestLoadsThatEndLeaveNoMark, however they end.
func TestLoadsThatEndLeaveNoMark(t *testing.T) {
	dir := t.TempDir()
	a := New(newScripted(t, `{"models": [{"id": "m", "loadMs": 60000}, {"id": "bad", "failLoad": "no such tensor"}]}`), noTools{}, Options{State: dir})
	_, err := a.LoadModel(t.Context(), schema.ModelLoadParams{Model: "bad"}, nil)
	require.Error(t, err)
	require.Zero(t, entries(t, dir))
	ctx, cancel := context.WithCancel(t.Context())
	marked := 0
	r := &recorder{status: func(s schema.GenerateStatus) {
		if s.State == schema.StateLoading {
			marked = entries(t, dir)
			cancel()
		}
	}}
	res, err := a.Generate(ctx, raw("x"), r, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopCancelled, res.StopReason)
	require.Equal(t, 1, marked)
	require.Zero(t, entries(t, dir))

	// Where no mark can be made, models load all the same.
	blocked := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	b := New(newScripted(t, model("", "fine")), noTools{}, Options{State: blocked})
	generate(t, b, raw("x"))
}
