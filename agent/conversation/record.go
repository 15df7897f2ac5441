package conversation

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"harmonyd/schema"
)

// Header is the first record of a log.
type Header struct {
	// Version is that of the log, see the constant.
	Version int `json:"version"`
	// ID names the conversation; it is the name of the file without its suffix.
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	// Title is the name that the conversation was given; empty where its first user
	// message has to do.
	Title string `json:"title,omitempty"`
	// ForkedFrom is the message of another conversation up to which this one is a
	// copy.
	ForkedFrom *Ref `json:"forkedFrom,omitempty"`
	// Origin says where an imported conversation comes from.
	Origin *Origin `json:"origin,omitempty"`
}

// Ref names a message.
type Ref struct {
	Conversation string `json:"conversation"`
	Message      string `json:"message"`
}

// Origin is what an imported conversation was before.
type Origin struct {
	Format string `json:"format"`
	// Metadata and Extra are JSON objects as they were: what was said about the
	// conversation, and the members that the format does not have.
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Extra    json.RawMessage `json:"extra,omitempty"`
	// Repairs are what was put right while importing.
	Repairs []string `json:"repairs,omitempty"`
}

// Entry is a message of a conversation with what is known about it. An assistant
// message carries its reasoning and its calls, a tool message names the call that
// it answers; see schema.Message.
type Entry struct {
	// ID names the entry within its conversation: up to 64 letters, digits, '-' and
	// '_'. Append gives one to an entry that has none.
	ID string `json:"id,omitempty"`
	// Parent is the entry that this one follows, or Root. Append takes the newest
	// entry where it is empty.
	Parent string `json:"parent,omitempty"`
	// Time is when the message was complete. Append takes the present where it is
	// zero.
	Time    time.Time      `json:"time"`
	Message schema.Message `json:"message"`
	// Turn says how a model came to write the message.
	Turn *Turn `json:"turn,omitempty"`
	// Extra is a JSON object with the members of an imported message that have no
	// other place, as they were.
	Extra json.RawMessage `json:"extra,omitempty"`
}

// Turn says how a model came to write a message.
type Turn struct {
	Model string `json:"model,omitempty"`
	// PromptConfig and Profile name what the settings came from, ProfilesFile where the
	// profile stands; empty where that is the usual file.
	PromptConfig string `json:"promptConfig,omitempty"`
	Profile      string `json:"profile,omitempty"`
	ProfilesFile string `json:"profilesFile,omitempty"`
	// Configured says that the conversation had settings, from wherever they came.
	Configured bool `json:"configured,omitempty"`
	// Hyperparameters is a JSON object with all that someone had given a value, under the
	// names of prompt configs.
	Hyperparameters json.RawMessage   `json:"hyperparameters,omitempty"`
	StopReason      schema.StopReason `json:"stopReason,omitempty"`
	StopSequence    string            `json:"stopSequence,omitempty"`
	Usage           *schema.Usage     `json:"usage,omitempty"`
}

// castagnoli is the table of CRC-32C, which processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The fixed parts of a line, see the package comment.
const (
	headerOpens  = `{"header":`
	idOpens      = `{"id":"`
	parentOpens  = `","parent":"`
	messageOpens = `","message":`
	seqOpens     = `,"seq":`
	crcOpens     = `,"crc":"`
	lineCloses   = `"}`
	// sealLen is the length of what follows the bytes that a CRC covers.
	sealLen = len(crcOpens) + 8 + len(lineCloses)
)

// seal ends the line that begins at from in b: its number, CRC and line end.
func seal(b []byte, from, seq int) []byte {
	b = strconv.AppendInt(append(b, seqOpens...), int64(seq), 10)
	return append(appendSeal(b, b[from:]), '\n')
}

// appendSeal appends what follows the covered bytes of a line.
func appendSeal(b, covered []byte) []byte {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.Checksum(covered, castagnoli))
	return append(hex.AppendEncode(append(b, crcOpens...), sum[:]), lineCloses...)
}

// appendHeader appends the line of h.
func appendHeader(b []byte, h Header) ([]byte, error) {
	body, err := schema.Encode(h)
	if err != nil {
		return b, err
	}
	return seal(append(append(b, headerOpens...), body...), len(b), 0), nil
}

// appendMessage appends the line of an entry, whose body is that of encodeBody.
func appendMessage(b []byte, id, parent string, body []byte, seq int) []byte {
	from := len(b)
	for _, part := range []string{idOpens, id, parentOpens, parent, messageOpens} {
		b = append(b, part...)
	}
	return seal(append(b, body...), from, seq)
}

// encodeBody is what a line holds of an entry beside its ids.
func encodeBody(e Entry) ([]byte, error) {
	e.ID, e.Parent = "", ""
	body, err := schema.Encode(e)
	if err == nil && len(body) > MaxRecordBytes-1024 { // room for the rest of the line
		err = fmt.Errorf("has %d bytes, more than the %d of a record", len(body), MaxRecordBytes-1024)
	}
	return body, err
}

// decodeBody is the entry of a line.
func decodeBody(id, parent string, body []byte) (Entry, error) {
	e := Entry{}
	if err := json.Unmarshal(body, &e); err != nil {
		return e, err
	}
	e.ID, e.Parent = id, parent
	return e, nil
}

// line is a sound line of a log, in parts that alias it. ID is nil in a header.
type line struct {
	id, parent, body []byte
}

// parseLine takes a line without its end apart. The problem says what is wrong
// with it. Only what seal wrote passes, byte for byte.
func parseLine(text []byte, seq int) (l line, problem string) {
	covered, ok := unseal(text)
	if !ok {
		return l, "its checksum does not match"
	}
	i := bytes.LastIndex(covered, []byte(seqOpens))
	var number [20]byte
	if i < 0 || !bytes.Equal(covered[i+len(seqOpens):], strconv.AppendInt(number[:0], int64(seq), 10)) {
		return l, fmt.Sprintf("it does not have the number %d", seq)
	}
	covered = covered[:i]
	if body, ok := bytes.CutPrefix(covered, []byte(headerOpens)); ok {
		l.body = body
	} else if rest, ok := bytes.CutPrefix(covered, []byte(idOpens)); ok {
		l.id, rest, _ = bytes.Cut(rest, []byte(parentOpens))
		l.parent, l.body, _ = bytes.Cut(rest, []byte(messageOpens))
	}
	if (l.id == nil) != (seq == 0) || len(l.body) == 0 {
		return l, "it is no record of this version"
	}
	return l, ""
}

// unseal returns the bytes that a line's CRC covers, where it matches.
func unseal(text []byte) (covered []byte, ok bool) {
	n := len(text) - sealLen
	if n < 0 {
		return nil, false
	}
	covered = text[:n]
	var want [sealLen]byte
	return covered, bytes.Equal(text[n:], appendSeal(want[:0], covered))
}

// lastSeq is the number of the line whose last bytes tail holds, or -1 where tail
// is not the end of a line.
func lastSeq(tail []byte) int {
	covered, ok := bytes.CutSuffix(tail, []byte(lineCloses+"\n"))
	if !ok || len(covered) < len(crcOpens)+8 {
		return -1
	}
	covered = covered[:len(covered)-len(crcOpens)-8]
	i := bytes.LastIndex(covered, []byte(seqOpens))
	if i < 0 {
		return -1
	}
	seq, err := strconv.Atoi(string(covered[i+len(seqOpens):]))
	if err != nil || seq < 0 {
		return -1
	}
	return seq
}

// validID reports whether an id can stand in a line and in a file's name.
func validID(id string) bool {
	if id == "" || len(id) > 64 || id == Root {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
