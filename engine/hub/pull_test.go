package hub

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"harmonyd/engine/weights"
)

// pulls is a hub on disk that pulls from a fake one.
func pulls(t *testing.T) (*Hub, *fakeHub, *Remote) {
	t.Helper()
	from := newFakeHub(t)
	return New(filepath.Join(t.TempDir(), "models")), from, from.remote(t)
}

// requireNothingInstalled sees that a pull that failed left no model.
func requireNothingInstalled(t *testing.T, h *Hub) {
	t.Helper()
	list, err := h.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
}

// requireInstalled sees that a model is there with the bytes that the fake hub has.
func requireInstalled(t *testing.T, h *Hub, from *fakeHub, id string) {
	t.Helper()
	folder, err := h.Resolve(id)
	require.NoError(t, err)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if e.Name() != originFile {
			got, err := os.ReadFile(filepath.Join(folder, e.Name()))
			require.NoError(t, err)
			require.Equal(t, from.files[e.Name()], got)
		}
	}
	require.Equal(t, []string{originFile, "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}, names)
	entries, err = os.ReadDir(filepath.Dir(folder))
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, strings.HasPrefix(e.Name(), pullPrefix), e.Name())
	}
}

func TestPull(t *testing.T) {
	h, from, r := pulls(t)
	var plan Planned
	at := make(map[string][2]int64)
	configured := func(folder string) {
		require.FileExists(t, filepath.Join(folder, "config.json"))
		require.Len(t, from.read(&from.requests), 1, "before anything else is fetched")
	}
	p, err := h.Pull(t.Context(), r, Pull{Repo: testRepo, Planned: func(p Planned) { plan = p }, Configured: configured,
		Progress: func(file string, done, total int64) {
			require.LessOrEqual(t, done, total)
			require.GreaterOrEqual(t, done, at[file][0])
			at[file] = [2]int64{done, total}
		}})
	require.NoError(t, err)
	require.Equal(t, testRepo, p.ID)
	require.Equal(t, testCommit, p.Commit)
	require.Empty(t, p.Problem)
	require.Equal(t, "llama", p.Family)
	require.False(t, p.Before)
	requireInstalled(t, h, from, testRepo)
	require.Equal(t, "/api/models/"+testRepo+"/revision/main", from.read(&from.lookups)[0].URL.Path)

	var sum int64
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} {
		n := int64(len(from.files[name]))
		require.Equal(t, [2]int64{n, n}, at[name])
		sum += n
	}
	require.Equal(t, [2]int64{sum, sum}, at[""])
	require.Len(t, at, 5)
	require.Equal(t, Planned{ID: testRepo, Commit: testCommit, Files: 4, Bytes: sum}, plan)

	for _, req := range from.read(&from.requests) {
		require.Equal(t, "identity", req.Header.Get("Accept-Encoding"), "what is hashed is what is sent")
	}

	// What is kept elsewhere is fetched from there, without the token.
	weights := from.asked("model.safetensors")
	require.Len(t, weights, 1)
	require.Empty(t, weights[0].Header.Get("Authorization"))
	require.Equal(t, "secret", weights[0].URL.Query().Get("signature"))
	require.Equal(t, "Bearer "+testToken, from.asked("config.json")[0].Header.Get("Authorization"))

	list, err := h.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, p.Model, list[0])

	// The same again fetches nothing.
	n := len(from.read(&from.requests))
	p, err = h.Pull(t.Context(), r, Pull{Repo: testRepo, Revision: "v1.0"})
	require.NoError(t, err)
	require.True(t, p.Before)
	require.Len(t, from.read(&from.requests), n)
	require.Equal(t, "/api/models/"+testRepo+"/revision/v1.0", from.read(&from.lookups)[1].URL.Path)

	_, err = h.Pull(t.Context(), r, Pull{Repo: testRepo, ID: "other"})
	require.NoError(t, err)
	requireInstalled(t, h, from, "other")
}

// TestPullFromABareMirror: sizes and checksums come from the files' headers.
func TestPullFromABareMirror(t *testing.T) {
	h, from, r := pulls(t)
	from.bare = true
	_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.NoError(t, err)
	requireInstalled(t, h, from, testRepo)
	require.Len(t, from.read(&from.lookups), 5, "the listing and the headers of four files")
	for _, l := range from.read(&from.lookups) {
		require.NotEmpty(t, l.Header.Get("Authorization"), "no header was asked for elsewhere")
	}
}

// TestPullExplains: what went wrong with the listing, and what to do.
func TestPullExplains(t *testing.T) {
	for _, c := range []struct {
		fault func(http.ResponseWriter, *http.Request) bool
		token bool
		want  string
	}{
		{answer(401), false, "no such public model on HOST; a private or gated one needs a token in HF_TOKEN"},
		{answer(401), true, "HOST does not accept the token in HF_TOKEN, or has no such model"},
		{answer(401, "X-Error-Code", "GatedRepo"), false, "is gated; accept its terms at http://HOST/mlx-community/tiny and set HF_TOKEN"},
		{answer(403, "X-Error-Code", "GatedRepo"), true, "is gated; accept its terms at http://HOST/mlx-community/tiny and set HF_TOKEN"},
		{answer(403), false, "is gated; accept its terms at http://HOST/mlx-community/tiny and set HF_TOKEN"},
		{answer(403), true, "the token in HF_TOKEN may not read it"},
		{answer(404, "X-Error-Code", "RevisionNotFound"), true, "has no revision main"},
		{answer(404, "X-Error-Code", "RepoNotFound"), true, "no such model or revision on HOST"},
		{answer(400, "X-Error-Code", "Odd\x9bCode"), true, "HOST answers 400 Bad Request OddCode"},
		{answer(200), true, "HOST answers no listing of a model: unexpected end of JSON input"},
	} {
		h, from, r := pulls(t)
		if !c.token {
			r.token = ""
			from.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.fault(w, r) })
		}
		from.faults[""] = append(from.faults[""], c.fault)
		_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
		require.ErrorContains(t, err, "pull mlx-community/tiny: ", c.want)
		require.ErrorContains(t, err, strings.ReplaceAll(c.want, "HOST", strings.TrimPrefix(from.URL, "http://")))
		requireNothingInstalled(t, h)
		_, err = os.Stat(h.Root())
		require.ErrorIs(t, err, fs.ErrNotExist, "nothing was made for a model that is not there")
	}
}

// TestPullDistrustsTheListing: its words become names and sizes on this disk.
func TestPullDistrustsTheListing(t *testing.T) {
	file := func(name string, size any, hash any) func(map[string]any) {
		return func(info map[string]any) {
			info["siblings"] = append(info["siblings"].([]any), map[string]any{"rfilename": name, "size": size, "blobId": hash})
		}
	}
	sum := strings.Repeat("ab", 20)
	for want, edit := range map[string]func(map[string]any){
		"names no commit":                                              func(info map[string]any) { info["sha"] = "main/../.." },
		`lists a file named "con\x00fig.json"`:                         file("con\x00fig.json", 1, sum),
		`lists a file named "a\\b.json"`:                               file(`a\b.json`, 1, sum),
		`lists a file named "C:x.json"`:                                file(`C:x.json`, 1, sum),
		`lists a file named "\x1b[2Jx.json"`:                           file("\x1b[2Jx.json", 1, sum),
		`lists a file named "-rf.json"`:                                file("-rf.json", 1, sum),
		`lists a file named "é.json"`:                                  file("é.json", 1, sum),
		"lists a file named \"" + strings.Repeat("x", 80) + "…":        file(strings.Repeat("x", 250)+".json", 1, sum),
		"big.json: is listed with a size of 9000000000000000000 bytes": file("big.json", int64(9e18), sum),
		"sum.json: the hub gives no checksum of it":                    file("sum.json", 1, "../../etc"),
		"lists CONFIG.json and config.json, which may be one file":     file("CONFIG.json", 1, sum),
		"lists config.json and config.json, which may be one file":     file("config.json", 1, sum),
		"missing.json: HOST answers 404 Not Found":                     file("missing.json", nil, nil),
		"lists more than 2048 files": func(info map[string]any) {
			info["siblings"] = slices.Repeat(info["siblings"].([]any), 600)
		},
		"holds no model of config.json and model*.safetensors": func(info map[string]any) {
			info["siblings"] = info["siblings"].([]any)[:1]
		},
		"holds no MLX model but tiny.gguf: download it and import it with harmonyd import": func(info map[string]any) {
			info["siblings"] = []any{map[string]any{"rfilename": "tiny.gguf", "size": 1}}
		},
		"no listing of a model": func(info map[string]any) { info["siblings"] = "none" },
	} {
		h, from, r := pulls(t)
		from.edit = edit
		_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
		require.ErrorContains(t, err, strings.ReplaceAll(want, "HOST", strings.TrimPrefix(from.URL, "http://")))
		require.Empty(t, from.read(&from.requests), want)
		requireNothingInstalled(t, h)
	}
	// Folders and hidden files of a repository are no part of a model.
	h, from, r := pulls(t)
	from.edit = func(info map[string]any) {
		for _, name := range []string{"../evil.json", "/etc/evil.json", "a/b.json", ".evil.json"} {
			file(name, 1, sum)(info)
		}
	}
	_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.NoError(t, err)
	requireInstalled(t, h, from, testRepo)
}

func TestPullOfALongListing(t *testing.T) {
	h, from, r := pulls(t)
	from.faults[""] = append(from.faults[""], func(w http.ResponseWriter, _ *http.Request) bool {
		line := []byte(strings.Repeat(" ", 1<<20))
		for range 40 {
			if _, err := w.Write(line); err != nil {
				break
			}
		}
		return true
	})
	_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.ErrorContains(t, err, "the listing is longer than 33554432 bytes")
}

func TestPullLooksForRoomFirst(t *testing.T) {
	h, from, r := pulls(t)
	t.Cleanup(func() { freeSpace = weights.FreeSpace })
	freeSpace = func(string) (int64, error) { return 64<<20 + 10, nil }
	_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.ErrorContains(t, err, "of disk and 67.1 MB to spare, 67.1 MB are free in ")
	require.Empty(t, from.read(&from.requests))
	_, err = os.Stat(filepath.Dir(h.folder(testRepo)))
	require.ErrorIs(t, err, fs.ErrNotExist, "no trace of it is left")
	freeSpace = func(string) (int64, error) { return 0, errors.New("no such disk") }
	_, err = h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.ErrorContains(t, err, "no such disk")
	require.ErrorContains(t, h.Create("x", 1, nil), "no such disk")
}

func TestOnePullOfAModelAtATime(t *testing.T) {
	h, from, r := pulls(t)
	folder := pullFolder(h.folder(testRepo))
	require.NoError(t, os.MkdirAll(folder, 0o755))
	other := flock.New(filepath.Join(folder, ".lock"))
	locked, err := other.TryLock()
	require.NoError(t, err)
	require.True(t, locked)
	_, err = h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.EqualError(t, err, "pull mlx-community/tiny: another process is pulling it")
	require.Empty(t, from.read(&from.requests))
	require.ErrorContains(t, h.Remove(testRepo), "another process is pulling it")
	require.NoError(t, other.Unlock())

	// An import that is under way is waited for, or not.
	imports := flock.New(filepath.Join(h.Root(), ".lock"))
	locked, err = imports.TryLock()
	require.NoError(t, err)
	require.True(t, locked)
	ctx, cancel := context.WithCancel(t.Context())
	var fetched int64
	whole := make(chan struct{})
	var once bool
	progress := func(name string, done, total int64) {
		if fetched = done; name == "" && done == total && !once {
			once = true
			close(whole)
		}
	}
	failed := make(chan error)
	go func() {
		_, err := h.Pull(ctx, r, Pull{Repo: testRepo, Progress: progress})
		failed <- err
	}()
	<-whole
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	require.Positive(t, fetched)
	requireNothingInstalled(t, h)
	go func() {
		_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
		failed <- err
	}()
	require.NoError(t, imports.Unlock())
	require.NoError(t, <-failed)
	requireInstalled(t, h, from, testRepo)
}

func TestPullIntoATakenID(t *testing.T) {
	h, from, r := pulls(t)
	writeModel(t, h.folder(testRepo), quantized)
	_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "there is another model with the id mlx-community/tiny; harmonyd remove mlx-community/tiny makes room")
	require.NoError(t, h.Remove(testRepo))
	_, err = h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.NoError(t, err)
	from.edit = func(info map[string]any) { info["sha"] = strings.Repeat("f", 40) }
	_, err = h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "commit 0123456789ab of it is installed, the hub has ffffffffffff; harmonyd remove")

	_, err = h.Pull(t.Context(), r, Pull{Repo: testRepo, ID: testRepo + "/x"})
	require.ErrorContains(t, err, "model id ")
	writeModel(t, h.folder("m"), quantized)
	_, err = h.Pull(t.Context(), r, Pull{Repo: testRepo, ID: "m/x"})
	require.ErrorContains(t, err, "m is a model, not an owner of models")
	for _, repo := range []string{"", "a/b/c", "../x", "a b", "https://x"} {
		_, err = h.Pull(t.Context(), r, Pull{Repo: repo})
		require.ErrorContains(t, err, "pull: model id ", repo)
	}
	for _, revision := range []string{"..", "a b", "-x", "refs/../x", "a\n"} {
		_, err = h.Pull(t.Context(), r, Pull{Repo: testRepo, Revision: revision})
		require.ErrorContains(t, err, "want a branch, a tag or a commit", revision)
	}
}

// TestPullKeepsWhatItCannotUse: the bytes are what the hub has; what is wrong with
// them is said.
func TestPullKeepsWhatItCannotUse(t *testing.T) {
	h, from, r := pulls(t)
	from.files["model.safetensors"] = []byte("not weights")
	p, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.NoError(t, err)
	require.Contains(t, p.Problem, "model.safetensors: ")
	requireInstalled(t, h, from, testRepo)
}

func TestPullWithoutANetwork(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	t.Setenv("HF_ENDPOINT", gone.URL)
	r, err := NewRemote()
	require.NoError(t, err)
	r.sleep = func(context.Context, time.Duration) { t.Error("waited for a network that is not there") }
	_, err = New(t.TempDir()).Pull(t.Context(), r, Pull{Repo: testRepo})
	require.ErrorContains(t, err, "pull mlx-community/tiny: cannot reach 127.0.0.1:")
	require.ErrorContains(t, err, "is this machine online? HF_ENDPOINT names another hub")
}

func TestPullFromAnImpostor(t *testing.T) {
	from := httptest.NewUnstartedServer(nil)
	from.Config.ErrorLog = log.New(io.Discard, "", 0)
	from.StartTLS()
	defer from.Close()
	t.Setenv("HF_ENDPOINT", from.URL)
	r, err := NewRemote()
	require.NoError(t, err)
	r.sleep = func(context.Context, time.Duration) { t.Error("waited for another certificate") }
	_, err = New(t.TempDir()).Pull(t.Context(), r, Pull{Repo: testRepo})
	require.ErrorContains(t, err, "failed to verify certificate")
}

func TestPullCancelledAtTheListing(t *testing.T) {
	h, from, r := pulls(t)
	ctx, cancel := context.WithCancel(t.Context())
	from.faults[""] = append(from.faults[""], func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	_, err := h.Pull(ctx, r, Pull{Repo: testRepo})
	require.ErrorIs(t, err, context.Canceled)
}

func TestRemoveAnInterruptedPull(t *testing.T) {
	h, from, r := pulls(t)
	from.faults["config.json"] = append(from.faults["config.json"], answer(404))
	_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.Error(t, err)
	require.NoError(t, h.Remove(testRepo))
	entries, err := os.ReadDir(h.Root())
	require.NoError(t, err)
	require.Len(t, entries, 1, "only the lock is left")
	require.ErrorIs(t, h.Remove(testRepo), ErrNotFound)
}

func TestCreate(t *testing.T) {
	h := New(filepath.Join(t.TempDir(), "models"))
	require.NoError(t, h.Create("owner/m", 1, func(folder string) error {
		writeModel(t, folder, quantized)
		list, err := h.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, list, "it appears complete")
		return nil
	}))
	list, err := h.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.ErrorIs(t, h.Create("owner/m", 1, nil), fs.ErrExist)
	failed := errors.New("failed")
	require.ErrorIs(t, h.Create("n", 1, func(string) error { return failed }), failed)
	require.ErrorContains(t, h.Create("../n", 1, nil), "model id")
	entries, err := os.ReadDir(h.Root())
	require.NoError(t, err)
	require.Len(t, entries, 2, "the lock and the owner")
}
