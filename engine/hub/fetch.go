package hub

import (
	"context"
	"crypto/sha1" // how git names content
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	partSuffix = ".part" // of a file that is being fetched
	etagSuffix = ".etag" // of what the server called that file's version
)

// errChanged says that what there is of a file is not the beginning of what the
// server has now.
var errChanged = errors.New("the file changed on the server")

// A fetch brings one file into a folder.
type fetch struct {
	remote *Remote
	list   *listing
	file   remoteFile
	folder string
	// done is told by how many bytes the file grew, or shrank where it had to
	// begin anew.
	done func(n int64)

	out  *os.File  // the part
	have int64     // bytes of it
	hash hash.Hash // over these
	bad  int       // times that the whole had another checksum
}

func (f *fetch) path() string     { return filepath.Join(f.folder, f.file.Name) }
func (f *fetch) partPath() string { return f.path() + partSuffix }
func (f *fetch) etagPath() string { return f.partPath() + etagSuffix }

// run fetches the file, or what is missing of it, unless it is there. It appears
// under its name with all its bytes and the right checksum or not at all.
func (f *fetch) run(ctx context.Context) error {
	err := f.bring(ctx)
	var answer *statusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer):
		err = f.remote.explain(err, f.list.Repo, f.list.Commit)
	case errors.Is(err, syscall.ENOSPC):
		err = fmt.Errorf("the disk is full: %w", err)
	}
	return fmt.Errorf("%s: %w", f.file.Name, err)
}

func (f *fetch) bring(ctx context.Context) (err error) {
	if ok, err := f.present(); ok || err != nil {
		return err
	}
	if f.out, err = os.OpenFile(f.partPath(), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return err
	}
	defer func() {
		if e := f.out.Close(); err == nil {
			err = e
		}
		if err == nil {
			err = errors.Join(os.Rename(f.partPath(), f.path()), removeFile(f.etagPath()))
		}
	}()
	if err := f.read(f.out); err != nil {
		return err
	}
	if f.have > f.file.Size {
		if err := f.restart(); err != nil {
			return err
		}
	}
	err = f.remote.retry(ctx, func() (gained bool, err error) {
		before := f.have
		err = f.try(ctx)
		// A server that gives a little and breaks off must not keep us for ever.
		return f.have-before >= 1<<20, err
	})
	if err != nil {
		return err
	}
	return f.out.Sync()
}

// present looks whether an earlier pull has fetched the file.
func (f *fetch) present() (bool, error) {
	in, err := os.Open(f.path())
	if err != nil {
		return false, nil // whatever is there will be replaced
	}
	defer func() { _ = in.Close() }() // was only read from
	err = f.read(in)
	return f.have == f.file.Size && f.sum() == f.file.Hash, err
}

// read takes what there is of the file.
func (f *fetch) read(in io.Reader) error {
	f.reset()
	n, err := io.Copy(f.hash, io.LimitReader(in, f.file.Size+1))
	f.grow(n)
	return err
}

// reset forgets what was read, and starts the checksum that the listing has.
func (f *fetch) reset() {
	f.grow(-f.have)
	if len(f.file.Hash) == hex.EncodedLen(sha256.Size) {
		f.hash = sha256.New()
		return
	}
	f.hash = sha1.New()
	fmt.Fprintf(f.hash, "blob %d\x00", f.file.Size)
}

func (f *fetch) sum() string { return hex.EncodeToString(f.hash.Sum(nil)) }

func (f *fetch) grow(n int64) {
	f.have += n
	if n != 0 {
		f.done(n)
	}
}

// try makes one request for what is missing and checks the whole.
func (f *fetch) try(ctx context.Context) error {
	if f.have < f.file.Size {
		err := f.request(ctx)
		if errors.Is(err, errChanged) {
			if e := f.restart(); e != nil {
				return e
			}
		}
		if err != nil {
			return err
		}
	}
	got := f.sum()
	if got == f.file.Hash {
		return nil
	}
	if err := f.restart(); err != nil {
		return err
	}
	err := fmt.Errorf("the checksum is %s, want %s", got, f.file.Hash)
	if f.bad++; f.bad == 1 {
		return &temporaryError{err: err} // its beginning may have been of another file
	}
	return err
}

// restart drops what there is of the file.
func (f *fetch) restart() error {
	f.reset()
	_, err := f.out.Seek(0, io.SeekStart)
	return errors.Join(err, f.out.Truncate(0), removeFile(f.etagPath()))
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// request asks for the rest and appends it.
func (f *fetch) request(ctx context.Context) error {
	header := make(http.Header)
	var etag string
	if f.have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", f.have))
		if text, err := os.ReadFile(f.etagPath()); err == nil {
			etag = string(text)
			header.Set("If-Range", etag)
		}
	}
	address := f.remote.repoURL("", f.list.Repo, "resolve", f.list.Commit, f.file.Name)
	resp, err := f.remote.send(ctx, http.MethodGet, address, header)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return &temporaryError{err: errChanged}
	}
	if err := status(resp); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusPartialContent {
		if f.have == 0 || !f.continues(resp, etag) {
			return &temporaryError{err: errChanged}
		}
	} else if f.have > 0 { // all of it, from the beginning
		if err := f.restart(); err != nil {
			return err
		}
	}
	// -1 where the server does not announce it; then the copy below counts.
	if n := resp.ContentLength; n >= 0 && n != f.file.Size-f.have {
		return fmt.Errorf("%s sends %d bytes, want %d", resp.Request.URL.Host, n, f.file.Size-f.have)
	}
	if err := f.keepETag(resp); err != nil {
		return err
	}
	return f.copy(resp)
}

// continues tells whether an answer is the rest of the same file.
func (f *fetch) continues(resp *http.Response, etag string) bool {
	if now := resp.Header.Get("ETag"); etag != "" && now != "" && now != etag {
		return false
	}
	spans, total, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes "), "/")
	first, last, _ := strings.Cut(spans, "-")
	return first == strconv.FormatInt(f.have, 10) && last == strconv.FormatInt(f.file.Size-1, 10) &&
		(total == "*" || total == strconv.FormatInt(f.file.Size, 10))
}

// keepETag remembers what a later request for the rest has to match. A weak one
// does not promise the same bytes.
func (f *fetch) keepETag(resp *http.Response) error {
	etag := resp.Header.Get("ETag")
	if len(etag) < 2 || len(etag) > 256 || etag[0] != '"' || etag[len(etag)-1] != '"' || etag != printable(etag) {
		return removeFile(f.etagPath())
	}
	return os.WriteFile(f.etagPath(), []byte(etag), 0o644)
}

// copy appends the body, which must be the rest of the file and no byte more.
func (f *fetch) copy(resp *http.Response) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(buf)
		if int64(n) > f.file.Size-f.have {
			return fmt.Errorf("%s sends more than the %d bytes that it listed", resp.Request.URL.Host, f.file.Size)
		}
		if _, err := f.out.Write(buf[:n]); err != nil {
			return err
		}
		_, _ = f.hash.Write(buf[:n]) // never fails
		f.grow(int64(n))
		switch {
		case err == io.EOF && f.have == f.file.Size:
			return nil
		case err == io.EOF:
			return &temporaryError{err: io.ErrUnexpectedEOF}
		case err != nil:
			return err
		}
	}
}
