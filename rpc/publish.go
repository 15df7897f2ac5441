package rpc

import (
	"slices"

	"harmonyd/schema"
)

// Methods is what both sides may send, in the order of the documentation:
// first the methods of the client's, then the requests and the notifications of
// the server's.
func Methods() []schema.Method {
	var all []schema.Method
	for i := range methods {
		m := &methods[i]
		row := schema.Method{Name: m.name, Doc: m.doc, Kind: m.kind.published(), Side: schema.SideServer, Params: m.params}
		if m.kind != notify {
			row.Result = m.result
		}
		all = append(all, row)
	}
	for _, e := range slices.Concat(questions, notifications) {
		row := schema.Method{Name: e.name, Doc: e.doc, Kind: schema.MethodNotification, Side: schema.SideClient, Params: e.params}
		if e.result != nil {
			row.Kind, row.Result = schema.MethodRequest, e.result
		}
		all = append(all, row)
	}
	return all
}

// Publish is the protocol in a language, with a line end: see schema.Publish.
func Publish(l schema.Language) ([]byte, error) { return schema.Publish(Methods(), l) }

func (k kind) published() schema.MethodKind {
	switch k {
	case call:
		return schema.MethodRequest
	case notify:
		return schema.MethodNotification
	}
	return schema.MethodEither
}
