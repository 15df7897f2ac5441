package rpctest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/txtar"
)

// A transcript is a txtar archive that shows a conversation. Its comment says
// what is to be seen; its sections are played from the top:
//
//	framing   content-length; absent means a message a line
//	ready     initialize and initialized, and what they are answered
//	client    what the client sends: a message a line
//	bytes     what the client sends: Go strings, a line each, unframed
//	wait      time that passes, such as 33ms
//	server    all that the server has sent since: a message a line
//	sorted    the same, where the order is left to chance
//	end       the client closes its end
//	exit      the server's exit code
//
// Ids of internal errors are random and shown as ERRORID.

// Play plays a transcript with a client and returns it as it really went. The
// client is new. Settle waits until the server has nothing more to do.
func Play(archive *txtar.Archive, c *Client, settle func()) (*txtar.Archive, error) {
	played := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		data, err := play(f, c, settle)
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", f.Name, err)
		}
		played.Files = append(played.Files, txtar.File{Name: f.Name, Data: []byte(data)})
	}
	return played, nil
}

func play(f txtar.File, c *Client, settle func()) (string, error) {
	data := string(f.Data)
	switch f.Name {
	case "framing":
		c.Headers = strings.TrimSpace(data) == "content-length"
	case "ready":
		if _, err := c.Initialize(); err != nil {
			return "", err
		}
		settle()
	case "client":
		return data, c.Send(strings.Split(strings.TrimSpace(data), "\n")...)
	case "bytes":
		for line := range strings.Lines(data) {
			text, err := strconv.Unquote(strings.TrimSpace(line))
			if err != nil {
				return "", err
			}
			if _, err := c.Write([]byte(text)); err != nil {
				return "", err
			}
		}
	case "wait":
		d, err := time.ParseDuration(strings.TrimSpace(data))
		if err != nil {
			return "", err
		}
		time.Sleep(d)
	case "server":
		settle()
		return show(c.Received()), nil
	case "sorted":
		settle()
		lines := strings.SplitAfter(show(c.Received()), "\n")
		slices.Sort(lines)
		return strings.Join(lines, ""), nil
	case "end":
		return data, c.CloseInput()
	case "exit":
		return fmt.Sprintln(c.Wait()), nil
	default:
		return "", fmt.Errorf("no such section")
	}
	return data, nil
}

var errorID = regexp.MustCompile(`(internal error |"errorId":"|errorId=)[a-z0-9]{8}`)

func show(messages []Message) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(errorID.ReplaceAllString(m.Raw, "${1}ERRORID"))
		b.WriteByte('\n')
	}
	return b.String()
}
