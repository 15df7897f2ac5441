package hub

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	defaultEndpoint = "https://huggingface.co"
	maxListing      = 32 << 20 // bytes; that of 10,000 files is 3 MB
	maxRedirects    = 10
	// maxAttempts is how often a request is tried while it gains nothing. With
	// the pauses between them that is about half a minute.
	maxAttempts = 6
	maxPause    = 5 * time.Minute // a server that wants more is told of, not waited for
)

// A Remote is a hub in the network that models are pulled from. It speaks the
// interface of huggingface.co. Its methods may be called from any goroutine.
type Remote struct {
	endpoint *url.URL
	token    string // empty for none
	client   *http.Client

	// stall is how long a server may say nothing.
	stall time.Duration
	// sleep waits between attempts.
	sleep func(ctx context.Context, d time.Duration)
}

// NewRemote returns the hub that the environment names, under the variables of
// Hugging Face's own tools: HF_ENDPOINT is its address, HF_TOKEN (or the file at
// HF_TOKEN_PATH, or the file token in HF_HOME) the secret that private and gated
// models need, and HF_HUB_OFFLINE forbids to use the network.
func NewRemote() (*Remote, error) {
	if v := os.Getenv("HF_HUB_OFFLINE"); v != "" && v != "0" && !strings.EqualFold(v, "false") {
		return nil, errors.New("HF_HUB_OFFLINE is set, so nothing is fetched")
	}
	address := cmp.Or(os.Getenv("HF_ENDPOINT"), defaultEndpoint)
	endpoint, err := url.Parse(strings.TrimRight(address, "/"))
	switch {
	case err != nil:
		return nil, errors.New("HF_ENDPOINT is no address") // err may hold a password
	case endpoint.Scheme != "http" && endpoint.Scheme != "https", endpoint.Host == "":
		return nil, fmt.Errorf("HF_ENDPOINT is %q, want http://… or https://…", endpoint.Redacted())
	}
	token, err := readToken()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	r := &Remote{endpoint: endpoint, token: token, stall: 30 * time.Second, sleep: sleep}
	r.client = &http.Client{Transport: transport, CheckRedirect: r.redirect}
	return r, nil
}

func readToken() (string, error) {
	from, token := "HF_TOKEN", os.Getenv("HF_TOKEN")
	if token == "" {
		file := os.Getenv("HF_TOKEN_PATH")
		if file == "" {
			home, _ := os.UserHomeDir() // without one there is no such file
			cache := cmp.Or(os.Getenv("XDG_CACHE_HOME"), filepath.Join(home, ".cache"))
			file = filepath.Join(cmp.Or(os.Getenv("HF_HOME"), filepath.Join(cache, "huggingface")), "token")
		}
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("read the token of the hub: %w", err)
		}
		from, token = file, string(text)
	}
	token = strings.TrimSpace(token)
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return "", fmt.Errorf("%s: holds a character that no token has", from)
		}
	}
	return token, nil
}

// pause is the time after attempt n. It doubles from half a second, with a random
// part so that clients that one failure hit do not all come back at once.
func pause(n int) time.Duration {
	d := min(time.Second<<(n-1), 30*time.Second)
	return d/2 + rand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// redirect follows to where files are kept. The token goes to the hub alone: not
// to another host, nor to another port of the same, nor back after such a hop.
func (r *Remote) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return &permanentError{fmt.Sprintf("redirected %d times", len(via))}
	}
	for _, earlier := range append(via[:len(via):len(via)], req) {
		if earlier.URL.Host != r.endpoint.Host || earlier.URL.Scheme != r.endpoint.Scheme {
			req.Header.Del("Authorization")
		}
		if earlier.URL.Scheme == "https" && req.URL.Scheme != "https" {
			return &permanentError{"redirected from https to " + req.URL.Scheme}
		}
	}
	return nil
}

// repoURL returns the address of a part of a repository. A revision with a slash
// is one part of it.
func (r *Remote) repoURL(prefix, repo string, parts ...string) string {
	u := r.endpoint.String() + prefix + "/" + repo
	for _, p := range parts {
		u += "/" + url.PathEscape(p)
	}
	return u
}

// A temporaryError is one that a later attempt may not meet.
type temporaryError struct {
	err   error
	after time.Duration // what the server asks to wait for; 0 leaves it to us
}

func (e *temporaryError) Error() string { return e.err.Error() }
func (e *temporaryError) Unwrap() error { return e.err }

// A permanentError is what a redirect runs into and every later attempt would.
type permanentError struct{ text string }

func (e *permanentError) Error() string { return e.text }

// send makes one request and answers with a response below 300 or an error. The
// caller closes the body. A watchdog ends a request that nothing comes of.
func (r *Remote) send(ctx context.Context, method, address string, header http.Header) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watchdog := time.AfterFunc(r.stall, func() { cancel(errStalled) })
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "harmonyd")
	// What is stored is what is hashed, resumed and counted.
	req.Header.Set("Accept-Encoding", "identity")
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		err = r.networkError(ctx, err)
		watchdog.Stop()
		cancel(nil)
		return nil, err
	}
	watchdog.Reset(r.stall)
	resp.Body = &watchedBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, watchdog: watchdog, stall: r.stall}
	return resp, nil
}

var errStalled = errors.New("the server went silent")

// A watchedBody gives the watchdog its food and turns a read that it ended into
// errStalled.
type watchedBody struct {
	io.ReadCloser
	ctx      context.Context
	cancel   context.CancelCauseFunc
	watchdog *time.Timer
	stall    time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watchdog.Reset(b.stall)
	}
	if err != nil && err != io.EOF {
		err = &temporaryError{err: cmp.Or(context.Cause(b.ctx), err)}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.watchdog.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// networkError words what kept a request from an answer. The address stays out:
// after a redirect it may carry a signature that is as good as a password.
func (r *Remote) networkError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if cause == errStalled {
			return &temporaryError{err: cause}
		}
		return cause
	}
	var from *url.Error
	host := r.endpoint.Host
	if errors.As(err, &from) {
		if u, e := url.Parse(from.URL); e == nil {
			host = u.Host
		}
		err = from.Err
	}
	var permanent *permanentError
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &permanent) || errors.As(err, &certificate) {
		return fmt.Errorf("%s: %w", host, err)
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return &temporaryError{err: &offlineError{host, err}}
	}
	return &temporaryError{err: fmt.Errorf("%s: %w", host, err)}
}

// An offlineError says that there was no connection to be had.
type offlineError struct {
	host string
	err  error
}

func (e *offlineError) Error() string {
	return fmt.Sprintf("cannot reach %s: %v; is this machine online? HF_ENDPOINT names another hub", e.host, e.err)
}

func (e *offlineError) Unwrap() error { return e.err }

// A statusError is an answer that is not what was asked for.
type statusError struct {
	status int
	code   string // X-Error-Code
	host   string
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%s answers %d %s %s", e.host, e.status, http.StatusText(e.status), e.code))
}

// status returns the error of an answer of 300 or more.
func status(resp *http.Response) error {
	err := &statusError{status: resp.StatusCode, code: shorten(printable(resp.Header.Get("X-Error-Code"))),
		host: resp.Request.URL.Host}
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode >= 500:
		after := retryAfter(resp.Header.Get("Retry-After"), time.Now())
		if after > maxPause {
			return fmt.Errorf("%w; it asks to wait for %s", err, after.Round(time.Second))
		}
		return &temporaryError{err, after}
	}
	return err
}

// printable drops what would not show.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, s)
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// retry calls try until it succeeds, fails for good, or has failed maxAttempts
// times in a row without a gain, which try reports.
func (r *Remote) retry(ctx context.Context, try func() (gained bool, err error)) error {
	for n := 1; ; n++ {
		gained, err := try()
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var temporary *temporaryError
		if err == nil || !errors.As(err, &temporary) {
			return err
		}
		if gained {
			n = 1
		}
		if n >= maxAttempts {
			return fmt.Errorf("%w (tried %d times)", err, n)
		}
		r.sleep(ctx, cmp.Or(temporary.after, pause(n)))
	}
}

// get reads a JSON document of the hub.
func (r *Remote) get(ctx context.Context, address string, into any) error {
	return r.retry(ctx, func() (bool, error) {
		resp, err := r.send(ctx, http.MethodGet, address, nil)
		var offline *offlineError
		if errors.As(err, &offline) {
			return false, offline // nothing has begun yet, so that waiting gains little
		}
		if err != nil {
			return false, err
		}
		defer func() { _ = resp.Body.Close() }()
		if err := status(resp); err != nil {
			return false, err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxListing+1))
		switch {
		case err != nil:
			return false, err
		case len(body) > maxListing:
			return false, fmt.Errorf("the listing is longer than %d bytes", maxListing)
		}
		if err := json.Unmarshal(body, into); err != nil {
			return false, fmt.Errorf("%s answers no listing of a model: %w", resp.Request.URL.Host, err)
		}
		return false, nil
	})
}
