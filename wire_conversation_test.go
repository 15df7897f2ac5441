package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/editors/terminal"
)

// TestChatLogsComeIn goes the way of a chat log of mlx-harmony through the commands of the
// program itself: it is imported, listed, found, shown, exported and deleted.
func TestChatLogsComeIn(t *testing.T) {
	root := filepath.Join(t.TempDir(), "conversations")
	say := func(args ...string) string {
		t.Helper()
		cmd := program(t, args...)
		cmd.Env = append(cmd.Env, "HARMONYD_CONVERSATIONS="+root)
		cmd.Stderr = nil
		out, err := cmd.Output()
		require.NoError(t, err)
		return string(out)
	}
	require.Contains(t, say("migrate-chat", "agent/conversation/testdata/chat_v2.json"), "Imported 20251217-193320-")
	require.Contains(t, say("sessions"), "chat_v2 (chat-1)")
	id := say("sessions", "search", "tokens")[:len("20251217-193320-abcdef")]
	require.Contains(t, say("sessions", "show", id), "> I could not find it.")
	require.Contains(t, say("sessions", "export", "--format", "json", id), `"sha1-of-something"`)
	require.Equal(t, "Deleted "+id+".\n", say("sessions", "delete", id))
	require.NotContains(t, say("sessions"), "chat-1")
	for _, file := range terminal.ConfigFiles {
		require.Contains(t, say("schema", file), `"max_context_tokens"`)
	}

	// A log with a torn end is shown as far as it goes.
	c, err := openConversations(terminal.Options{ConversationsRoot: root})
	require.NoError(t, err)
	list, err := c.List(t.Context())
	require.NoError(t, err)
	f, err := os.OpenFile(filepath.Join(root, list[0].ID+".jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("torn")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	var b bytes.Buffer
	problem, err := c.Export(&b, list[0].ID, terminal.ExportMarkdown)
	require.NoError(t, err)
	require.Contains(t, problem, "4 bytes follow")
	_, err = c.Export(&b, "none", terminal.ExportJSON)
	require.Error(t, err)
	_, _, err = migrateChat([]byte("{"))
	require.Error(t, err)
	_, _, err = c.ImportChat([]byte("{"), "x")
	require.Error(t, err)
	_, err = openConversations(terminal.Options{ConversationsRoot: "/dev/null/x"})
	require.Error(t, err)
}
