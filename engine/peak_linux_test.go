package engine

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/weights"
)

// peakFolder tells the child process of TestPeakWhileLoading what to load.
const peakFolder = "HARMONYD_TEST_PEAK"

// memoryLine reads a line of /proc/self/status, in bytes.
func memoryLine(name string) (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) == 3 && f[0] == name+":" {
			kB, err := strconv.ParseInt(f[1], 10, 64)
			return kB << 10, err
		}
	}
	return 0, fmt.Errorf("no %s", name)
}

// TestPeakWhileLoading measures in a process of its own what loading the default
// model takes at most: the weights and no more than twice the largest tensor.
func TestPeakWhileLoading(t *testing.T) {
	if folder := os.Getenv(peakFolder); folder != "" {
		loadAndTell(t, folder)
		return
	}
	root, id := defaultModel(t)
	p, err := newPlan(weights.Dir(filepath.Join(root, id)), device{available: math.MaxInt64})
	require.NoError(t, err)
	p.close()
	largest := int64(0)
	for i := range p.slots {
		largest = max(largest, p.slotBytes(&p.slots[i]))
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPeakWhileLoading$", "-test.v")
	cmd.Env = append(os.Environ(), peakFolder+"="+filepath.Join(root, id))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, rest, ok := strings.Cut(string(out), "peak ")
	require.True(t, ok, "%s", out)
	peak, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	require.NoError(t, err)
	t.Logf("peak %.3f of the weights, %.3f allowed", float64(peak)/float64(p.bytes), 1+2*float64(largest)/float64(p.bytes))
	require.Greater(t, peak, p.bytes, "the measurement sees the weights")
	require.LessOrEqual(t, peak, p.bytes+2*largest)
}

// loadAndTell prints how far the resident memory rose during a load.
func loadAndTell(t *testing.T, folder string) {
	e := newTestEngine(t, Options{})
	before, err := memoryLine("VmRSS")
	require.NoError(t, err)
	loadFolder(t, e, folder, math.MaxInt64) // the weights alone, without a tokenizer
	peak, err := memoryLine("VmHWM")
	require.NoError(t, err)
	fmt.Printf("peak %d\n", peak-before)
}
