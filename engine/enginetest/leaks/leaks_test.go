package leaks

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of this package run once more in a child with one leak planted.
const planted = "HARMONYD_TEST_LEAK"

func TestMain(m *testing.M) { os.Exit(Run(m)) }

// kept is what a planted leak holds on to.
var kept []*os.File

func TestPlant(t *testing.T) {
	switch os.Getenv(planted) {
	case "goroutine":
		go func() { select {} }()
	case "file":
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		kept = append(kept, f)
	case "child":
		require.NoError(t, exec.Command("sleep", "5").Start())
	case "zombie":
		require.NoError(t, exec.Command("true").Start())
	}
}

func TestH1EveryLeakIsFound(t *testing.T) {
	if os.Getenv(planted) != "" {
		return
	}
	for leak, want := range map[string]string{
		"goroutine": "found unexpected goroutines", "file": "open files: ", "child": "child process", "zombie": "child process",
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPlant$")
		cmd.Env = append(os.Environ(), planted+"="+leak)
		out, err := cmd.CombinedOutput()
		require.Error(t, err, leak)
		require.Contains(t, string(out), want, leak)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPlant$")
	cmd.Env = append(os.Environ(), planted+"=none")
	require.NoError(t, cmd.Run())
}
