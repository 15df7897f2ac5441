package schema

import "encoding/json"

// ToolSpec describes a tool that a model may call.
type ToolSpec struct {
	// Name is how the model calls the tool.
	Name string `json:"name" jsonschema:"pattern=^[A-Za-z0-9_-]{1\\,64}$"`
	// Title is a name for people to read.
	Title string `json:"title,omitempty" jsonschema:"maxLength=256"`
	// Description tells the model what the tool does.
	Description string `json:"description,omitempty" jsonschema:"maxLength=8192"`
	// InputSchema is the JSON Schema of the arguments, an object. Its bytes are
	// kept as they came, in the order in which the model will read them.
	InputSchema json.RawMessage `json:"inputSchema"`
	// Strict holds the model to InputSchema while it writes the arguments. A schema
	// that no grammar can hold is then refused. All arguments are validated when they
	// are there.
	Strict bool `json:"strict,omitempty"`
	// OutputSchema is the JSON Schema of a structured result.
	OutputSchema json.RawMessage `json:"outputSchema,omitempty"`
	// Annotations are hints about what the tool does to the world.
	Annotations *ToolAnnotations `json:"annotations,omitempty"`
	// Kind says what sort of work the tool does, for icons: read, edit, delete,
	// move, search, execute, think, fetch, other or one of the client's own.
	Kind string `json:"kind,omitempty" jsonschema:"maxLength=64"`
	// Approval says whether a person is asked before each call. Absent means
	// never.
	Approval Approval `json:"approval,omitempty" jsonschema:"enum=never,enum=ask"`
	// TimeoutMS is the most time that one call may take, the asking not counted;
	// absent means any.
	TimeoutMS int `json:"timeoutMs,omitempty" jsonschema:"minimum=1,maximum=86400000"`
}

// Approval says whether a person is asked before a tool is called.
type Approval string

// The kinds of approval.
const (
	ApprovalNever Approval = "never"
	ApprovalAsk   Approval = "ask"
)

// ToolAnnotations are hints about a tool, not promises.
type ToolAnnotations struct {
	// ReadOnly says that the tool changes nothing.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Destructive says that what the tool changes may be lost.
	Destructive bool `json:"destructive,omitempty"`
	// Idempotent says that a second call with the same arguments does nothing.
	Idempotent bool `json:"idempotent,omitempty"`
	// OpenWorld says that the tool reaches beyond this machine.
	OpenWorld bool `json:"openWorld,omitempty"`
}

// ToolRef is a tool of one generation. On the wire it is the name of a
// registered tool, or a whole ToolSpec.
type ToolRef struct {
	// Name is the name of a registered tool; empty where Spec is given.
	Name string
	// Spec is a tool given in place.
	Spec *ToolSpec
}

// ToolRegisterParams registers tools for later generations. All are registered
// or none.
type ToolRegisterParams struct {
	// Tools are the tools, in the order in which models will read them.
	Tools []ToolSpec `json:"tools" jsonschema:"maxItems=256"`
	// SessionID registers them for one session, until it is closed. Absent means
	// for all generations.
	SessionID string `json:"sessionId,omitempty" jsonschema:"minLength=1,maxLength=128"`
	// Replace lets a tool take the place of one with the same name. It is off where
	// that one was.
	Replace bool `json:"replace,omitempty"`
}

// ToolRegisterResult answers tool-register.
type ToolRegisterResult struct {
	// Registered are the tools of the request, in their order.
	Registered []RegisteredTool `json:"registered"`
	// Revision grows with each change of the set of tools or of what is enabled.
	Revision int64 `json:"revision"`
}

// RegisteredTool names a registered tool.
type RegisteredTool struct {
	// Name is the tool's name.
	Name string `json:"name"`
	// Digest is the SHA-256 of the tool's definition in hexadecimal.
	Digest string `json:"digest"`
	// Warnings are the places in the tool's schemas that are not checked.
	Warnings []FieldError `json:"warnings,omitempty"`
	// Unconstrained are the keywords of the tool's inputSchema that no grammar holds a
	// model to while it writes. The finished arguments are checked against them, and
	// what is wrong goes back to the model. A strict tool with such a keyword is refused.
	Unconstrained []Unconstrained `json:"unconstrained,omitempty"`
}

// Unconstrained is a keyword that is only checked in finished arguments.
type Unconstrained struct {
	// Keyword is its name; empty where it is all of the schema.
	Keyword string `json:"keyword"`
	// InstancePath is the place as a JSON Pointer from params.
	InstancePath string `json:"instancePath"`
}

// ToolsUnregisterParams takes tools away from later generations: all that are
// named, or none where one of them is not registered. Generations that run
// keep the tools that they began with.
type ToolsUnregisterParams struct {
	// Names are the names of the tools.
	Names []string `json:"names" jsonschema:"maxItems=256,minLength=1,maxLength=64"`
	// SessionID takes away what was registered for this session.
	SessionID string `json:"sessionId,omitempty" jsonschema:"minLength=1,maxLength=128"`
}

// ToolsSetEnabledParams switches registered tools off or on: all that are named, or
// none where one of them is not registered. One that is off keeps its place and its
// name, and is in no generation, whoever names it. Generations that run keep the
// tools that they began with.
type ToolsSetEnabledParams struct {
	// Names are the names of the tools.
	Names []string `json:"names" jsonschema:"maxItems=256,minLength=1,maxLength=64"`
	// Enabled is false to switch them off.
	Enabled bool `json:"enabled"`
	// SessionID switches them for the generations of this session alone, until it is
	// closed; that counts before what is set for all.
	SessionID string `json:"sessionId,omitempty" jsonschema:"minLength=1,maxLength=128"`
}

// ToolsListParams asks for the registered tools.
type ToolsListParams struct {
	// SessionID asks for the tools that a generation of this session can use.
	// Absent means those registered for all generations.
	SessionID string `json:"sessionId,omitempty" jsonschema:"minLength=1,maxLength=128"`
}

// ToolSource says where a tool comes from.
type ToolSource string

// The sources of tools.
const (
	SourceClient ToolSource = "client"
)

// ToolsListResult answers tools/list, tools/unregister and tools/setEnabled.
type ToolsListResult struct {
	// Tools are the tools in the order of their registration.
	Tools []ToolInfo `json:"tools"`
	// Revision grows with each change of the set of tools or of what is enabled.
	Revision int64 `json:"revision"`
}

// ToolInfo is a registered tool.
type ToolInfo struct {
	ToolSpec
	// Source says where the tool comes from.
	Source ToolSource `json:"source"`
	// Digest is the SHA-256 of the tool's definition in hexadecimal.
	Digest string `json:"digest"`
	// SessionID is the session that the tool was registered for, where it was.
	SessionID string `json:"sessionId,omitempty"`
	// Enabled says that generations may call the tool; see tools/setEnabled.
	Enabled bool `json:"enabled"`
}

// Tool is a tool whose schemas are compiled. It is immutable.
type Tool struct {
	ToolInfo
	Input *Validator
	// Held is what a grammar holds of InputSchema.
	Held json.RawMessage
	// Output is nil where the tool has no outputSchema.
	Output *Validator
}
