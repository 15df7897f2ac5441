package rpc

import (
	"errors"

	"harmonyd/schema"
)

// stage is what a request has the engine do.
type stage int

const (
	waiting stage = iota
	loading
	running
	stages
)

// activity is what agent/status tells. conn.mu guards it.
type activity struct {
	told  bool        // the client wants to know
	doing [stages]int // requests by stage
	last  schema.AgentStatus
}

// note says that a request has reached a stage, and tells the client where that
// changes what the server as a whole does. failed is the error that it ended with.
// It is called with conn.mu held, so that the notifications keep their order.
func (c *conn) note(r *request, s stage, failed error) {
	if r.left { // a report that comes late
		return
	}
	a := &c.activity
	a.doing[r.stage]--
	a.doing[s]++
	r.stage = s
	now := schema.AgentStatus{State: schema.AgentIdle, Model: r.model}
	var e *schema.Error
	switch broken := errors.As(failed, &e) && (e.Data.Kind == schema.KindModelLoadFailed ||
		e.Data.Kind == schema.KindEngine || e.Data.Kind == schema.KindOutOfMemory); {
	case a.doing[loading] > 0:
		now.State = schema.AgentLoading
	case a.doing[running] > 0:
		now.State = schema.AgentBusy
	case broken:
		now.State, now.Message = schema.AgentError, e.Message
	case a.last.State == schema.AgentError:
		return // until something works again
	}
	if now.State == a.last.State && now.Message == a.last.Message {
		return
	}
	a.last = now
	if a.told {
		c.notify("agent/status", now)
	}
}
