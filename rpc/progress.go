package rpc

import (
	"sync"

	"harmonyd/schema"
)

// progress sends $/progress for one request that gave a token. A nil progress
// is that of a request that gave none.
type progress struct {
	c     *conn
	token schema.ProgressToken

	mu      sync.Mutex
	title   string
	begun   bool
	ended   bool
	message string
	floor   int // the percentage at which the stage began
	percent int // shown last
}

func (c *conn) newProgress(token schema.ProgressToken, title string) *progress {
	if token == nil {
		return nil
	}
	return &progress{c: c, token: token, title: title}
}

// share is the percentage that done is of total.
func share(done, total int64) int {
	if total <= 0 {
		return 0
	}
	return int(100 * min(max(done, 0), total) / total)
}

// report says what percentage of a stage is done. The stages share what is
// left of the bar, which never runs backwards. Reports that would show nothing
// new are left out, so there are about a hundred.
func (p *progress) report(stage string, percent int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if stage != p.message {
		p.floor = p.percent
	}
	shown := max(p.percent, p.floor+percent*(100-p.floor)/100)
	if p.ended || p.begun && stage == p.message && shown == p.percent {
		return
	}
	value := schema.WorkDoneProgress{Kind: "report", Message: stage, Percentage: &shown}
	if !p.begun {
		value.Kind, value.Title, value.Cancellable = "begin", p.title, true
	}
	p.begun, p.message, p.percent = true, stage, shown
	p.c.notify("$/progress", schema.ProgressParams{Token: p.token, Value: value})
}

// end closes what report began.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.begun {
		p.c.notify("$/progress", schema.ProgressParams{Token: p.token, Value: schema.WorkDoneProgress{Kind: "end"}})
	}
}
