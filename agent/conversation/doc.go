// Package conversation keeps conversations: the messages of each, with what was
// known about them, in a durable log of its own. It must never render or parse
// what a model reads or writes, and a message that was appended must survive
// whatever happens to the process or the machine.
//
// A log is a file of one JSON object a line. Each line holds its number and the
// CRC-32C of all that stands before it:
//
//	{"header":{…},"seq":0,"crc":"0a1b2c3d"}
//	{"id":"…","parent":"root","message":{…},"seq":1,"crc":"…"}
//
// Lines are only ever added, and Append returns after an fsync. Where a line is
// torn or damaged the lines before it are the conversation; whoever opens the log
// to write moves the rest into a file beside it before adding lines.
//
// Messages form a tree, for each names the one that it follows: a message that
// was asked anew has several successors. The path from the root to the newest
// message is what a model reads.
//
// Start with Store, then Log.
package conversation

// Version is the version of the logs that this package writes. A log of a newer
// version is refused and never written to.
const Version = 1

// MaxRecordBytes bounds one line of a log.
const MaxRecordBytes = 64 << 20

// Root stands for the parent of a message that follows no other.
const Root = "root"
