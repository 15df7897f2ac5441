package hub

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPullGoesOn breaks a transfer off in several ways; each time only what is
// missing is asked for again.
func TestPullGoesOn(t *testing.T) {
	const file, half = "model.safetensors", 100
	for name, c := range map[string]struct {
		fault func(from *fakeHub) func(http.ResponseWriter, *http.Request) bool
		// ranges are those of the requests; etag is what the second one insists on.
		ranges []string
		etag   string
	}{
		"the connection drops": {func(from *fakeHub) func(http.ResponseWriter, *http.Request) bool {
			return sends(from.files[file], half, `"v1"`)
		}, []string{"", "bytes=100-"}, `"v1"`},
		"the server goes silent": {func(from *fakeHub) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Length", strconv.Itoa(len(from.files[file])))
				_, _ = w.Write(from.files[file][:half])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			}
		}, []string{"", "bytes=100-"}, ""},
		"the version is weak": {func(from *fakeHub) func(http.ResponseWriter, *http.Request) bool {
			return sends(from.files[file], half, `W/"v1"`)
		}, []string{"", "bytes=100-"}, ""},
		"the server is busy": {func(*fakeHub) func(http.ResponseWriter, *http.Request) bool { return answer(503) }, []string{"", ""}, ""},
		"too many requests":  {func(*fakeHub) func(http.ResponseWriter, *http.Request) bool { return answer(429, "Retry-After", "7") }, []string{"", ""}, ""},
		"an empty answer": {func(*fakeHub) func(http.ResponseWriter, *http.Request) bool {
			return answer(200, "Transfer-Encoding", "chunked")
		}, []string{"", ""}, ""},
		"a range out of nowhere": {func(*fakeHub) func(http.ResponseWriter, *http.Request) bool { return answer(206) }, []string{"", ""}, ""},
		"other bytes": {func(from *fakeHub) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, _ *http.Request) bool {
				_, _ = w.Write([]byte(strings.Repeat("x", len(from.files[file]))))
				return true
			}
		}, []string{"", ""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, from, r := pulls(t)
			if strings.Contains(name, "silent") {
				r.stall = time.Second / 2
			}
			var slept []time.Duration
			r.sleep = func(_ context.Context, d time.Duration) { slept = append(slept, d) }
			from.faults[file] = append(from.faults[file], c.fault(from))
			if c.etag != "" { // the next server knows that version
				from.faults[file] = append(from.faults[file], func(w http.ResponseWriter, r *http.Request) bool {
					w.Header().Set("ETag", c.etag)
					http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(from.files[file])))
					return true
				})
			}
			_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
			require.NoError(t, err)
			requireInstalled(t, h, from, testRepo)
			var ranges []string
			for _, req := range from.asked(file) {
				ranges = append(ranges, req.Header.Get("Range"))
			}
			require.Equal(t, c.ranges, ranges)
			require.Equal(t, c.etag, from.asked(file)[1].Header.Get("If-Range"))
			require.NotEmpty(t, slept)
			if strings.Contains(name, "too many") {
				require.Equal(t, 7*time.Second, slept[0])
			}
		})
	}
}

// TestPullOfAnotherVersion: what there is of a file is of no use once the server
// has another one.
func TestPullOfAnotherVersion(t *testing.T) {
	const file = "model.safetensors"
	for name, next := range map[string]func(from *fakeHub) func(http.ResponseWriter, *http.Request) bool{
		// http.ServeContent sees that If-Range does not match and sends all.
		"the server sees it":   func(*fakeHub) func(http.ResponseWriter, *http.Request) bool { return nil },
		"the range is no more": func(*fakeHub) func(http.ResponseWriter, *http.Request) bool { return answer(416) },
		"the server does not look": func(from *fakeHub) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				r.Header.Del("If-Range")
				return false
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, from, r := pulls(t)
			old := []byte(strings.Repeat("o", len(from.files[file])))
			from.faults[file] = append(from.faults[file], sends(old, 100, `"old"`))
			if f := next(from); f != nil {
				from.faults[file] = append(from.faults[file], f)
			}
			_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
			require.NoError(t, err)
			requireInstalled(t, h, from, testRepo)
		})
	}
}

// TestPullAfterAnInterruptedPull: another process goes on from what one left.
func TestPullAfterAnInterruptedPull(t *testing.T) {
	const file = "model.safetensors"
	h, from, r := pulls(t)
	ctx, cancel := context.WithCancel(t.Context())
	from.faults[file] = append(from.faults[file], func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", strconv.Itoa(len(from.files[file])))
		_, _ = w.Write(from.files[file][:100])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	_, err := h.Pull(ctx, r, Pull{Repo: testRepo, Progress: func(name string, done, _ int64) {
		if name == "" && done == int64(100+len(from.files["config.json"])+len(from.files["tokenizer.json"])+len(from.files["tokenizer_config.json"])) {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "what was fetched is kept for the next pull")
	requireNothingInstalled(t, h)

	// An import must leave it alone; what is of no version of the model goes.
	_, err = h.Import(t.Context(), ggufWithoutModel(t), "x", nil)
	require.Error(t, err)
	partial := pullFolder(h.folder(testRepo))
	require.NoError(t, os.WriteFile(filepath.Join(partial, "model-00001-of-00002.safetensors.part"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(partial, "config.json"), []byte("spoilt"), 0o644))
	require.NoError(t, os.Rename(filepath.Join(partial, "tokenizer.json"), filepath.Join(partial, "tokenizer.json.part")))
	require.NoError(t, os.WriteFile(filepath.Join(partial, "tokenizer.json.part"), []byte("longer than the whole"), 0o644))

	from.forget()
	var plan Planned
	_, err = h.Pull(t.Context(), from.remote(t), Pull{Repo: testRepo, Planned: func(p Planned) { plan = p }})
	require.NoError(t, err)
	requireInstalled(t, h, from, testRepo)
	require.Equal(t, int64(100+len("spoilt")+len(from.files["tokenizer.json"])+len(from.files["tokenizer_config.json"])), plan.Have)
	require.Len(t, from.read(&from.requests), 3, "the rest of the weights and the spoilt files")
	require.Equal(t, "bytes=100-", from.asked(file)[0].Header.Get("Range"))
}

// TestPullNeverStoresMoreThanListed: a server cannot fill the disk.
func TestPullNeverStoresMoreThanListed(t *testing.T) {
	const file = "model.safetensors"
	for want, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"sends 1000000 bytes, want": func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(make([]byte, 1_000_000))
			return true
		},
		"sends more than the": func(w http.ResponseWriter, _ *http.Request) bool {
			for range 100 { // without a length: chunks
				_, _ = w.Write(make([]byte, 10_000))
				w.(http.Flusher).Flush()
			}
			return true
		},
	} {
		h, from, r := pulls(t)
		if strings.Contains(want, "want") {
			inner := fault
			fault = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Length", "1000000")
				return inner(w, r)
			}
		}
		from.faults[file] = append(from.faults[file], fault)
		_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
		require.ErrorContains(t, err, want)
		requireNothingInstalled(t, h)
		info, err := os.Stat(filepath.Join(pullFolder(h.folder(testRepo)), file+partSuffix))
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(len(from.files[file])))
	}
}

// TestPullGivesUp: some things do not get better.
func TestPullGivesUp(t *testing.T) {
	const file = "model.safetensors"
	always := func(f func(http.ResponseWriter, *http.Request) bool) []func(http.ResponseWriter, *http.Request) bool {
		return slices.Repeat([]func(http.ResponseWriter, *http.Request) bool{f}, 100)
	}
	for want, c := range map[string]struct {
		fault    func(http.ResponseWriter, *http.Request) bool
		requests int
	}{
		"answers 503 Service Unavailable (tried 6 times)":       {answer(503), maxAttempts},
		"answers 429 Too Many Requests; it asks to wait for 1h": {answer(429, "Retry-After", "3600"), 1},
		"the token in HF_TOKEN may not read it":                 {answer(403), 1},
		"no such model or revision":                             {answer(404), 1},
		"answers 418 I'm a teapot":                              {answer(418), 1},
		"the file changed on the server (tried 6 times)":        {answer(416), maxAttempts},
		": redirected 10 times": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
			return true
		}, 0},
		"the checksum is": {func(w http.ResponseWriter, r *http.Request) bool {
			n, _ := strconv.Atoi(r.URL.Query().Get("n"))
			_, _ = w.Write(make([]byte, n))
			return true
		}, 2},
	} {
		h, from, r := pulls(t)
		if strings.Contains(want, "checksum") {
			n := len(from.files[file])
			c.fault = func(w http.ResponseWriter, _ *http.Request) bool {
				_, _ = w.Write(make([]byte, n))
				return true
			}
		}
		from.faults[file] = always(c.fault)
		_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
		require.ErrorContains(t, err, "pull mlx-community/tiny: model.safetensors: ", want)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret", "neither the token nor a signature")
		if c.requests > 0 {
			require.Len(t, from.asked(file), c.requests, want)
		}
		requireNothingInstalled(t, h)
	}
}

// TestPullOverABadLine: as long as a file grows, a pull does not give up.
func TestPullOverABadLine(t *testing.T) {
	const file, step = "model.safetensors", 1<<20 + 1000
	h, from, r := pulls(t)
	all := make([]byte, 9<<20)
	for i := range all {
		all[i] = byte(i * i >> 7)
	}
	from.files[file] = all
	for i := range 8 {
		from.faults[file] = append(from.faults[file], func(w http.ResponseWriter, r *http.Request) bool {
			if i > 0 {
				w.Header().Set("Content-Range", "bytes "+strconv.Itoa(i*step)+"-"+strconv.Itoa(len(all)-1)+"/"+strconv.Itoa(len(all)))
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(all[i*step : (i+1)*step])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
	}
	_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.NoError(t, err)
	requireInstalled(t, h, from, testRepo)
	require.Len(t, from.asked(file), 9)
}

// TestPullTrickle: a server that gives a few bytes and breaks off does not keep a
// pull for ever.
func TestPullTrickle(t *testing.T) {
	const file = "model.safetensors"
	h, from, r := pulls(t)
	for i := range 100 {
		from.faults[file] = append(from.faults[file], func(w http.ResponseWriter, _ *http.Request) bool {
			all := from.files[file]
			if i > 0 {
				w.Header().Set("Content-Range", "bytes "+strconv.Itoa(i)+"-"+strconv.Itoa(len(all)-1)+"/*")
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(all[i : i+1])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
	}
	_, err := h.Pull(t.Context(), r, Pull{Repo: testRepo})
	require.ErrorContains(t, err, "unexpected EOF (tried 6 times)")
	require.Len(t, from.asked(file), maxAttempts)
}
