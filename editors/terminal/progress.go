package terminal

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows how far one piece of work is: a bar on a terminal, nothing
// anywhere else, so that logs and pipes stay clean.
type progress struct {
	pool *mpb.Progress
	bars map[string]*mpb.Bar // by the name of a file; the work's own is empty
	what string
}

// newProgress starts a display on w. Its reports may be called from any
// goroutine, but not from several at once.
func newProgress(w io.Writer, terminal bool, what string) *progress {
	p := &progress{what: what, bars: make(map[string]*mpb.Bar)}
	if terminal {
		p.pool = mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond))
	}
	return p
}

// report sets the bar to done of total bytes.
func (p *progress) report(done, total int64) { p.reportFile("", done, total) }

// reportFile sets the bar of a file, one of several that the work is about.
func (p *progress) reportFile(name string, done, total int64) {
	const small = 1 << 20 // a bar that is gone at once only flickers
	if p.pool == nil || total <= 0 || name != "" && total < small {
		return
	}
	bar := p.bars[name]
	if bar == nil {
		bar = p.pool.New(total, mpb.BarStyle().Rbound("]"),
			mpb.PrependDecorators(decor.Name(cmp.Or(name, p.what)+" ")),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.OnComplete(decor.Percentage(decor.WCSyncSpace), "  done")),
			mpb.BarRemoveOnComplete())
		p.bars[name] = bar
	}
	bar.SetTotal(total, false)
	bar.SetCurrent(done)
	if name != "" && done == total {
		bar.SetTotal(total, true)
	}
}

// done removes the bars, whether the work ended well or not.
func (p *progress) done() {
	if p.pool == nil {
		return
	}
	for _, bar := range p.bars {
		bar.Abort(true)
	}
	p.pool.Wait()
}

// status shows what is being done in place of what was shown last, on a terminal
// only. Nothing to show clears the line.
func (c Commands) status(what string) {
	if c.ErrIsTerminal {
		fmt.Fprintf(c.Err, "\r\x1b[K%s", what)
	}
}

// bytesText writes a size for people, such as "92.9 MB".
func bytesText(n int64) string {
	const k = 1000
	switch {
	case n >= k*k*k:
		return fmt.Sprintf("%.1f GB", float64(n)/(k*k*k))
	case n >= k*k:
		return fmt.Sprintf("%.1f MB", float64(n)/(k*k))
	case n >= k:
		return fmt.Sprintf("%.1f kB", float64(n)/k)
	}
	return fmt.Sprintf("%d B", n)
}
