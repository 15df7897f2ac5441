package hub

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testRepo   = "mlx-community/tiny"
	testCommit = "0123456789abcdef0123456789abcdef01234567"
	testToken  = "hf_secret"
)

// fakeHub serves one repository as huggingface.co does, and fails as it is told.
type fakeHub struct {
	*httptest.Server
	files map[string][]byte
	// large names the files that are kept on cdn, which a redirect leads to.
	large map[string]bool
	cdn   *httptest.Server
	// bare leaves sizes and checksums out of the listing, as a plain mirror does.
	bare bool
	// edit changes the listing before it is sent.
	edit func(map[string]any)
	// faults are what happens to the next requests for a file, one after the
	// other, instead of a good answer. A fault that returns false was none.
	faults map[string][]func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	requests []*http.Request // for content, of hub and cdn
	lookups  []*http.Request // for listings and headers
}

func newFakeHub(t *testing.T) *fakeHub {
	t.Helper()
	folder := t.TempDir()
	writeModel(t, folder, quantized)
	h := &fakeHub{files: make(map[string][]byte), large: map[string]bool{"model.safetensors": true}}
	h.faults = make(map[string][]func(http.ResponseWriter, *http.Request) bool)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, e := range entries {
		h.files[e.Name()], err = os.ReadFile(filepath.Join(folder, e.Name()))
		require.NoError(t, err)
	}
	for _, name := range []string{"README.md", ".gitattributes", "onnx/config.json", "modeling.py", "pytorch_model.bin"} {
		h.files[name] = []byte("not needed")
	}
	h.cdn = httptest.NewServer(http.HandlerFunc(h.serveContent))
	h.Server = httptest.NewServer(h)
	t.Cleanup(func() { h.Close(); h.cdn.Close() })
	return h
}

// remote is what pulls from h, without the waits.
func (h *fakeHub) remote(t *testing.T) *Remote {
	t.Helper()
	t.Setenv("HF_ENDPOINT", h.URL)
	t.Setenv("HF_TOKEN", testToken)
	r, err := NewRemote()
	require.NoError(t, err)
	r.sleep = func(context.Context, time.Duration) {}
	r.stall = time.Minute
	return r
}

func gitHash(data []byte) string {
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(data), data))
	return hex.EncodeToString(sum[:])
}

func contentHash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/models/"+testRepo+"/revision/") {
		h.note(&h.lookups, r)
		if !h.fault("", w, r) {
			h.serveListing(w)
		}
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/"+testRepo+"/resolve/"+testCommit+"/")
	data, there := h.files[name]
	switch {
	case !ok || !there:
		w.WriteHeader(http.StatusNotFound)
	case h.large[name]:
		w.Header().Set("X-Linked-Etag", `"`+contentHash(data)+`"`)
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(data)))
		if r.Method == http.MethodHead {
			h.note(&h.lookups, r)
		}
		http.Redirect(w, r, h.cdn.URL+r.URL.Path+"?signature=secret", http.StatusFound)
	default:
		h.serveContent(w, r)
	}
}

func (h *fakeHub) note(list *[]*http.Request, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*list = append(*list, r.Clone(context.Background()))
}

func (h *fakeHub) fault(name string, w http.ResponseWriter, r *http.Request) bool {
	h.mu.Lock()
	var f func(http.ResponseWriter, *http.Request) bool
	if q := h.faults[name]; len(q) > 0 {
		f, h.faults[name] = q[0], q[1:]
	}
	h.mu.Unlock()
	return f != nil && f(w, r)
}

func (h *fakeHub) serveListing(w http.ResponseWriter) {
	var siblings []any
	for _, name := range slices.Sorted(maps.Keys(h.files)) {
		s := map[string]any{"rfilename": name}
		if data := h.files[name]; !h.bare {
			s["size"], s["blobId"] = len(data), gitHash(data)
			if h.large[name] {
				s["lfs"] = map[string]any{"sha256": contentHash(data), "size": len(data), "pointerSize": 130}
			}
		}
		siblings = append(siblings, s)
	}
	info := map[string]any{"id": testRepo, "sha": testCommit, "siblings": siblings}
	if h.edit != nil {
		h.edit(info)
	}
	_ = json.NewEncoder(w).Encode(info)
}

func (h *fakeHub) serveContent(w http.ResponseWriter, r *http.Request) {
	name := filepath.Base(r.URL.Path)
	if r.Method == http.MethodHead {
		h.note(&h.lookups, r)
	} else {
		h.note(&h.requests, r)
		if h.fault(name, w, r) {
			return
		}
	}
	w.Header().Set("ETag", `"`+gitHash(h.files[name])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.files[name]))
}

// read returns what note has put into a list.
func (h *fakeHub) read(list *[]*http.Request) []*http.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(*list)
}

func (h *fakeHub) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = nil
}

// asked lists the requests for a file's content.
func (h *fakeHub) asked(name string) (all []*http.Request) {
	for _, r := range h.read(&h.requests) {
		if filepath.Base(r.URL.Path) == name {
			all = append(all, r)
		}
	}
	return all
}

// answer is a fault that is a whole answer.
func answer(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		return true
	}
}

// sends is a fault that announces n bytes of data and breaks off after them.
func sends(data []byte, n int, etag string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:n])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestRemoteFromEnvironment(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	r, err := NewRemote()
	require.NoError(t, err)
	require.Equal(t, "https://huggingface.co", r.endpoint.String())
	require.Empty(t, r.token)

	save := func(text string, parts ...string) string {
		path := filepath.Join(append([]string{home}, parts...)...)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	token := func() string {
		r, err := NewRemote()
		require.NoError(t, err)
		return r.token
	}
	save("from-home\n", ".cache", "huggingface", "token")
	require.Equal(t, "from-home", token())
	save("from-cache", "cache", "huggingface", "token")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	require.Equal(t, "from-cache", token())
	save("from-hf-home", "hf", "token")
	t.Setenv("HF_HOME", filepath.Join(home, "hf"))
	require.Equal(t, "from-hf-home", token())
	t.Setenv("HF_TOKEN_PATH", save("from-path", "secret"))
	require.Equal(t, "from-path", token())
	t.Setenv("HF_TOKEN", " from-env ")
	require.Equal(t, "from-env", token())

	t.Setenv("HF_TOKEN", "two\nlines")
	_, err = NewRemote()
	require.EqualError(t, err, "HF_TOKEN: holds a character that no token has")
	t.Setenv("HF_TOKEN", "")
	t.Setenv("HF_TOKEN_PATH", home)
	_, err = NewRemote()
	require.ErrorContains(t, err, "read the token of the hub: ")
	t.Setenv("HF_TOKEN_PATH", "")

	t.Setenv("HF_ENDPOINT", "https://mirror.example/path/")
	r, err = NewRemote()
	require.NoError(t, err)
	require.Equal(t, "https://mirror.example/path/owner/name/resolve/refs%2Fpr%2F1/a%20b", r.repoURL("", "owner/name", "resolve", "refs/pr/1", "a b"))
	for _, bad := range []string{"mirror.example", "ftp://mirror.example", "http://", "http://a b", "/path"} {
		t.Setenv("HF_ENDPOINT", bad)
		_, err = NewRemote()
		require.ErrorContains(t, err, "HF_ENDPOINT is ", bad)
	}
	t.Setenv("HF_ENDPOINT", "ftp://user:password@mirror.example")
	_, err = NewRemote()
	require.ErrorContains(t, err, "user:xxxxx@")
	t.Setenv("HF_HUB_OFFLINE", "1")
	_, err = NewRemote()
	require.EqualError(t, err, "HF_HUB_OFFLINE is set, so nothing is fetched")
	t.Setenv("HF_ENDPOINT", "")
	for _, off := range []string{"0", "false", "False"} {
		t.Setenv("HF_HUB_OFFLINE", off)
		_, err = NewRemote()
		require.NoError(t, err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "99999999999": 0,
		"Thu, 01 Jan 2026 00:01:00 GMT": time.Minute, "Thu, 01 Jan 2015 00:01:00 GMT": 0,
	} {
		require.Equal(t, want, retryAfter(value, now), value)
	}
	for n := 1; n <= maxAttempts; n++ {
		require.Greater(t, pause(n), time.Duration(0))
		require.LessOrEqual(t, pause(n), 30*time.Second)
	}
}

// TestTheTokenStaysWithTheHub: after a hop to another host, another port or
// another scheme no request carries it, not even one that comes back.
func TestTheTokenStaysWithTheHub(t *testing.T) {
	t.Setenv("HF_TOKEN", testToken)
	t.Setenv("HF_ENDPOINT", "https://hub.example")
	r, err := NewRemote()
	require.NoError(t, err)
	hop := func(to string, via ...string) (*http.Request, error) {
		var earlier []*http.Request
		for _, v := range via {
			req, err := http.NewRequest(http.MethodGet, v, nil)
			require.NoError(t, err)
			earlier = append(earlier, req)
		}
		req, err := http.NewRequest(http.MethodGet, to, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+testToken)
		return req, r.redirect(req, earlier)
	}
	const hub = "https://hub.example/"
	req, err := hop(hub+"renamed", hub)
	require.NoError(t, err)
	require.NotEmpty(t, req.Header.Get("Authorization"))
	for _, to := range []string{"https://cdn.example", "https://cdn.hub.example", "https://hub.example:8443", "https://hub.example.evil"} {
		req, err := hop(to, hub)
		require.NoError(t, err)
		require.Empty(t, req.Header.Get("Authorization"), to)
		req, err = hop(hub, hub, to)
		require.NoError(t, err)
		require.Empty(t, req.Header.Get("Authorization"), "back from %s", to)
	}
	_, err = hop("http://hub.example/", hub)
	require.EqualError(t, err, "redirected from https to http")
	_, err = hop(hub, slices.Repeat([]string{hub}, maxRedirects)...)
	require.EqualError(t, err, "redirected 10 times")
}
