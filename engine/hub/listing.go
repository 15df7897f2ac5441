package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"harmonyd/engine/weights"
)

const (
	maxFiles    = 2048
	maxFileSize = 1 << 40
)

// A remoteFile is a file of a repository that a model needs.
type remoteFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Hash string `json:"hash"` // hex: SHA-256 of the content, or the SHA-1 that git names it by
}

// A listing is what a repository holds at one commit.
type listing struct {
	Repo   string       `json:"repo"`
	Commit string       `json:"commit"`
	Files  []remoteFile `json:"files"` // sorted by name
}

func (l *listing) bytes() (n int64) {
	for _, f := range l.Files {
		n += f.Size
	}
	return n
}

var (
	commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)
	hashPattern   = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	// filePattern is what a file may be called: no folder, no hidden file, nothing
	// that a terminal or another file system takes for something else.
	filePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_ .+=,@-]*$`)
)

// list asks what a repository holds at a revision, and checks every word of it:
// names become paths, sizes become disk space.
func (r *Remote) list(ctx context.Context, repo, revision string) (*listing, error) {
	var info struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
			Size *int64 `json:"size"`
			Blob string `json:"blobId"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				OID    string `json:"oid"` // what some hubs call it
			} `json:"lfs"`
		} `json:"siblings"`
	}
	err := r.get(ctx, r.repoURL("/api/models", repo, "revision", revision)+"?blobs=true", &info)
	if err != nil {
		return nil, r.explain(err, repo, revision)
	}
	if !commitPattern.MatchString(info.SHA) {
		return nil, fmt.Errorf("%s: the hub names no commit", repo)
	}
	l := &listing{Repo: repo, Commit: info.SHA}
	var others []string
	for _, s := range info.Siblings {
		if strings.Contains(s.Name, "/") || !weights.IsModelFile(s.Name) {
			others = append(others, s.Name)
			continue
		}
		f := remoteFile{Name: s.Name, Size: -1, Hash: s.Blob}
		if s.Size != nil {
			f.Size = *s.Size
		}
		if s.LFS != nil {
			f.Hash = cmp.Or(s.LFS.SHA256, s.LFS.OID)
		}
		l.Files = append(l.Files, f)
		if len(l.Files) > maxFiles {
			return nil, fmt.Errorf("%s: lists more than %d files", repo, maxFiles)
		}
	}
	for i := range l.Files {
		if err := r.complete(ctx, l, &l.Files[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", repo, err)
		}
	}
	slices.SortFunc(l.Files, func(a, b remoteFile) int { return cmp.Compare(a.Name, b.Name) })
	if err := l.check(others); err != nil {
		return nil, fmt.Errorf("%s: %w", repo, err)
	}
	return l, nil
}

// complete checks a file of a listing. Where a hub lists no sizes or hashes, the
// headers of the file have them.
func (r *Remote) complete(ctx context.Context, l *listing, f *remoteFile) error {
	if !filePattern.MatchString(f.Name) || len(f.Name) > 200 {
		return fmt.Errorf("lists a file named %q", shorten(f.Name))
	}
	if f.Size < 0 || f.Hash == "" {
		if err := r.head(ctx, l, f); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	switch {
	case f.Size < 0 || f.Size > maxFileSize:
		return fmt.Errorf("%s: is listed with a size of %d bytes", f.Name, f.Size)
	case !hashPattern.MatchString(f.Hash):
		return fmt.Errorf("%s: the hub gives no checksum of it", f.Name)
	}
	return nil
}

// head reads size and hash from a file's headers. A file in large storage
// answers with a redirect, and itself knows best.
func (r *Remote) head(ctx context.Context, l *listing, f *remoteFile) error {
	stay := *r
	client := *r.client
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Host != r.endpoint.Host || req.URL.Scheme != r.endpoint.Scheme {
			return http.ErrUseLastResponse
		}
		return r.redirect(req, via)
	}
	stay.client = &client
	return r.retry(ctx, func() (bool, error) {
		resp, err := stay.send(ctx, http.MethodHead, r.repoURL("", l.Repo, "resolve", l.Commit, f.Name), nil)
		if err != nil {
			return false, err
		}
		defer func() { _ = resp.Body.Close() }()
		// A redirect that was not followed says enough.
		if err := status(resp); err != nil && (resp.StatusCode >= 400 || resp.Header.Get("X-Linked-Etag") == "") {
			return false, err
		}
		if resp.StatusCode < 300 {
			f.Size = resp.ContentLength
		}
		if n := resp.Header.Get("X-Linked-Size"); n != "" {
			if f.Size, err = strconv.ParseInt(n, 10, 64); err != nil {
				f.Size = -1
			}
		}
		etag := cmp.Or(resp.Header.Get("X-Linked-Etag"), resp.Header.Get("ETag"))
		f.Hash = strings.Trim(strings.TrimPrefix(etag, "W/"), `"`)
		return false, nil
	})
}

// check sees that the files make a model.
func (l *listing) check(others []string) error {
	config, tensors := false, false
	seen := make(map[string]string)
	for _, f := range l.Files {
		fold := strings.ToLower(f.Name) // as some file systems see it
		if first, ok := seen[fold]; ok {
			return fmt.Errorf("lists %s and %s, which may be one file", first, f.Name)
		}
		seen[fold] = f.Name
		config = config || f.Name == "config.json"
		tensors = tensors || strings.HasSuffix(f.Name, ".safetensors")
	}
	if config && tensors {
		return nil
	}
	for _, name := range others {
		if strings.HasSuffix(name, ".gguf") {
			return fmt.Errorf("holds no MLX model but %s: download it and import it with harmonyd import", shorten(printable(name)))
		}
	}
	return errors.New("holds no model of config.json and model*.safetensors")
}

// explain says what an answer means for a person, and what to do.
func (r *Remote) explain(err error, repo, revision string) error {
	var answer *statusError
	if !errors.As(err, &answer) {
		return fmt.Errorf("%s: %w", repo, err)
	}
	switch {
	case answer.code == "GatedRepo" || answer.status == http.StatusForbidden && r.token == "":
		return fmt.Errorf("%s: is gated; accept its terms at %s and set HF_TOKEN", repo, r.repoURL("", repo))
	case answer.status == http.StatusUnauthorized && r.token == "":
		return fmt.Errorf("%s: no such public model on %s; a private or gated one needs a token in HF_TOKEN", repo, answer.host)
	case answer.status == http.StatusUnauthorized:
		return fmt.Errorf("%s: %s does not accept the token in HF_TOKEN, or has no such model", repo, answer.host)
	case answer.status == http.StatusForbidden:
		return fmt.Errorf("%s: the token in HF_TOKEN may not read it", repo)
	case answer.code == "RevisionNotFound":
		return fmt.Errorf("%s: has no revision %s", repo, revision)
	case answer.status == http.StatusNotFound:
		return fmt.Errorf("%s: no such model or revision on %s", repo, answer.host)
	}
	return fmt.Errorf("%s: %w", repo, err)
}
