// Package schema holds the words of the wire: the params and results of every
// method, the notifications, the error codes and the limits, with the rules
// that a value has to keep written next to each field. It is the only package
// with JSON tags for the wire; what it says is what is published.
//
// It must never do anything: no I/O, no goroutines, no state. It decodes more
// strictly than encoding/json (see Decode): member names are matched exactly,
// numbers are checked against their ranges, and an error names the place.
//
// Start with GenerateParams and GenerateResult, then the table in errors.go.
package schema

// Version is the protocol's major version, negotiated in initialize. It grows
// only when a client of the version before would misread what it receives;
// additions are told by the methods listed in initialize's result instead.
//
// History:
//
//	1  The first version: lifecycle, models/list, model/load, model/unload,
//	   tokens/count, generate with generate/delta, generate/status and
//	   generate/toolCall, cancel, sessions, tool-register, tools/list,
//	   tools/unregister, tool/call, tool/approve, tool/progress, agent/status.
const Version = 1

// Empty is the params or result of a method that has none. Members that a
// peer sends all the same are ignored.
type Empty struct{}
