package terminal

import (
	"bufio"
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// TestGenerateWithSettings has a session of its own, or gives them to the turn of a raw
// prompt.
func TestGenerateWithSettings(t *testing.T) {
	f := &fake{reason: schema.StopEndTurn}
	r := run(t, withAgent(f), "generate", "--prompt-config", "p.json", "--profile", "x", "--profiles-file", "y.json", "--set", "top_k=4", "-t", "0", "Hi")
	require.NoError(t, r.failure)
	require.Equal(t, "harmonyd: p.json: odd\n", r.err)
	require.Equal(t, []string{"p.json", "x", "y.json"}, []string{f.session.PromptConfig, f.session.Profile, f.session.ProfilesFile})
	require.JSONEq(t, `{"top_k":"4","max_resume_attempts":"0"}`, string(f.session.Settings))
	require.Equal(t, []string{"s1", "of the profile"}, []string{f.asked.SessionID, f.asked.Model})
	require.Zero(t, *f.asked.Sampling.Temperature)
	require.Nil(t, f.asked.Settings)

	raw := &fake{reason: schema.StopEndTurn}
	require.NoError(t, run(t, withAgent(raw), "generate", "--raw", "--set", "max_resume_attempts=1", "Hi").failure)
	require.Empty(t, raw.asked.SessionID)
	require.JSONEq(t, `{"max_resume_attempts":"1"}`, string(raw.asked.Settings))

	for _, args := range [][]string{{"--raw", "--profile", "x"}, {"--set", "x"}} {
		require.Equal(t, ExitUsage, run(t, withAgent(f), append([]string{"generate", "Hi"}, args...)...).code, "%q", args)
	}
	bad := withAgent(f)
	bad.Folders = func(Options, schema.SessionNewParams) (Folders, error) { return Folders{}, errors.New("no such file") }
	require.ErrorContains(t, run(t, bad, "generate", "--profile", "x", "Hi").failure, "no such file")
	f.err = errors.New("no profile")
	require.ErrorContains(t, run(t, withAgent(f), "generate", "--profile", "x", "Hi").failure, "no profile")
}

// TestFoldersOfAPromptConfig go behind those of the command line.
func TestFoldersOfAPromptConfig(t *testing.T) {
	logs := filepath.Join(t.TempDir(), "a", "logs")
	c := Commands{Folders: func(Options, schema.SessionNewParams) (Folders, error) {
		return Folders{Logs: logs, Chats: "chats", Models: "models"}, nil
	}}
	var f configFlags
	o, err := f.begin(c, Options{}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"models", "chats", filepath.Join(logs, "harmonyd.log")}, []string{o.ModelsRoot, o.ConversationsRoot, o.LogFile})
	require.DirExists(t, logs)
	o, err = f.begin(c, Options{ModelsRoot: "m", ConversationsRoot: "c", LogFile: "l"}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"m", "c", "l"}, []string{o.ModelsRoot, o.ConversationsRoot, o.LogFile})
	logs = "/dev/null/x"
	_, err = f.begin(c, Options{}, nil)
	require.ErrorContains(t, err, "logs_dir")
}

// TestAnswersCannotSteerATerminal, and reach a pipe to the byte.
func TestAnswersCannotSteerATerminal(t *testing.T) {
	for isTerminal, want := range map[bool]string{true: "a\uFFFD]0;owned\uFFFD\nb\n", false: "a\x1b]0;owned\a\nb\n"} {
		var out bytes.Buffer
		p := &printer{w: bufio.NewWriter(&out), isTerminal: isTerminal}
		for _, piece := range []string{"a\x1b", "]0;owned\a", "\nb"} {
			p.Text(t.Context(), schema.ChannelText, piece, 1)
		}
		p.end()
		require.NoError(t, p.err)
		require.Equal(t, want, out.String())
	}
}
