package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
)

// fakeVariable makes the test's own binary a peer and says how it behaves.
const fakeVariable = "HARMONYD_TEST_PEER"

// fakePeer speaks as protocol.py does. A mode is "good" or what goes wrong, with
// the number of answers before it does: "die 3".
func fakePeer(mode string) int {
	kind, after := mode, -1
	_, _ = fmt.Sscanf(mode, "%s %d", &kind, &after)
	settings := os.Args[len(os.Args)-1]
	in := bufio.NewReader(os.Stdin)
	for n := 0; ; n++ {
		if n == after {
			switch kind {
			case "die":
				fmt.Fprintln(os.Stderr, "Traceback\nOutOfLuck: no more")
				return 3
			case "end":
				return 0
			case "garbage":
				fmt.Fprintln(os.Stdout, "Loading shards...")
				continue
			case "refuse":
				fmt.Fprintln(os.Stdout, `{"error": "ModuleNotFoundError: no module"}`)
				continue
			case "hang":
				_, _ = io.Copy(io.Discard, in)
				time.Sleep(time.Hour)
			}
		}
		if n == 0 {
			hello, _ := json.Marshal(map[string]any{"version": "1.2", "details": map[string]string{"settings": settings}})
			fmt.Fprintf(os.Stdout, "%s\n", hello)
			continue
		}
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var r peerRequest
		if err := json.Unmarshal(line, &r); err != nil {
			return 4
		}
		switch r.Do {
		case "load":
			fmt.Fprintln(os.Stdout, `{"load_ms": 12.5}`)
		case "memory":
			fmt.Fprintln(os.Stdout, `{"peak_bytes": 123456}`)
		case "generate":
			ids := make([]int32, r.Tokens)
			for i := range ids {
				ids[i] = int32(i) + int32(r.Seed)
			}
			if kind == "waver" {
				ids[1] += int32(n)
			}
			if kind == "short" {
				ids = ids[1:]
			}
			reply, _ := json.Marshal(peerReply{IDs: ids, FirstMS: 100, DecodeMS: float64(10 * (r.Tokens - 1))})
			fmt.Fprintf(os.Stdout, "%s\n", reply)
		}
	}
}

// startFake starts the fake peer.
func startFake(t *testing.T, mode string) (*peer, error) {
	t.Helper()
	p, err := newPeer(t.Context(), append(os.Environ(), fakeVariable+"="+mode), os.Args[0], `{"model":"m"}`)
	if err == nil {
		t.Cleanup(func() { _ = p.close() })
	}
	return p, err
}

func TestPeerIsAskedAndAnswers(t *testing.T) {
	p, err := startFake(t, "good")
	require.NoError(t, err)
	require.Equal(t, peerHello{"1.2", map[string]string{"settings": `{"model":"m"}`}}, p.hello)
	require.NotEqual(t, os.Getpid(), p.pid())
	d, err := p.load(t.Context())
	require.NoError(t, err)
	require.Equal(t, 12500*time.Microsecond, d)
	for range 2 {
		r, err := p.generate(t.Context(), workload{[]int32{5, 6}, 3, job.Sampling{Seed: 7}})
		require.NoError(t, err)
		require.Equal(t, result{ids: []int32{7, 8, 9}, first: 100 * time.Millisecond, decode: 20 * time.Millisecond}, r)
	}
	n, err := p.peakBytes(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 123456, n)
}

// TestPeerThatFailsSaysWhy lets peers fail at their first word and later.
func TestPeerThatFailsSaysWhy(t *testing.T) {
	for mode, want := range map[string]string{
		"die":     "it ended: exit status 3: OutOfLuck: no more",
		"end":     "it ended: EOF",
		"garbage": `its answer "Loading shards...\n"`,
		"refuse":  "ModuleNotFoundError: no module",
	} {
		_, err := startFake(t, mode+" 0")
		require.ErrorContains(t, err, want, "%s at once", mode)
		p, err := startFake(t, mode+" 2")
		require.NoError(t, err)
		_, err = p.load(t.Context())
		require.NoError(t, err)
		_, err = p.generate(t.Context(), workload{[]int32{1}, 2, job.Sampling{}})
		require.ErrorContains(t, err, want, "%s later", mode)
	}
	_, err := newPeer(t.Context(), nil, "/no/such/program")
	require.ErrorContains(t, err, "no such file")

	p, err := startFake(t, "short")
	require.NoError(t, err)
	_, err = p.generate(t.Context(), workload{[]int32{1}, 4, job.Sampling{}})
	require.EqualError(t, err, "it answered 3 tokens in 100 and 30 ms, want 4")

	require.NoError(t, p.cmd.Process.Kill())
	_, err = p.out.ReadBytes('\n') // until it is gone
	require.ErrorIs(t, err, io.EOF)
	_, err = p.load(t.Context())
	require.ErrorContains(t, err, "it ended: ")
}

// TestPeerEndsWithItsContext hangs in the middle of an answer.
func TestPeerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := newPeer(ctx, append(os.Environ(), fakeVariable+"=hang 1"), os.Args[0], "{}")
	require.NoError(t, err)
	failed := make(chan error)
	go func() {
		_, err := p.load(ctx)
		failed <- err
	}()
	cancel()
	require.ErrorContains(t, <-failed, "it ended: ")
	_ = p.close()
}

func TestTailKeepsTheEnd(t *testing.T) {
	var all tail
	require.Empty(t, all.lastLine())
	for i := range 3000 {
		fmt.Fprintf(&all, "line %d\n", i)
	}
	require.Len(t, all.text, 4<<10)
	fmt.Fprint(&all, "  the last\n\n \n")
	require.Equal(t, "the last", all.lastLine())
}

// withPython starts a peer of protocol.py and a script of a test's own.
func withPython(t *testing.T, script string) (*peer, error) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	p, err := newPeer(t.Context(), os.Environ(), python, "-I", "-c", protocolScript+script, "{}")
	if err == nil {
		t.Cleanup(func() { _ = p.close() })
	}
	return p, err
}

func TestProtocolScript(t *testing.T) {
	p, err := withPython(t, `
def load(request):
    print("this is no answer")
    os.system("echo and neither is this")
    return {"load_ms": 1.5}

def ids(request):
    n = request["prompt"][0] + request["seed"]
    while True:
        yield n
        n += 1

serve(lambda: {"version": "3", "details": {"none": loaded_library("no such library")}}, {
    "load": load,
    "generate": lambda r: generate(ids(r), r),
    "memory": lambda r: {"peak_bytes": peak_bytes()},
})
`)
	require.NoError(t, err)
	require.Equal(t, peerHello{"3", map[string]string{"none": ""}}, p.hello)
	d, err := p.load(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1500*time.Microsecond, d)
	r, err := p.generate(t.Context(), workload{[]int32{5}, 4, job.Sampling{Seed: 10}})
	require.NoError(t, err)
	require.Equal(t, []int32{15, 16, 17, 18}, r.ids)
	require.Positive(t, r.first)
	require.Positive(t, r.decode)
	n, err := p.peakBytes(t.Context())
	require.NoError(t, err)
	require.Greater(t, n, int64(1<<20), "an interpreter takes more than a megabyte")
	_, err = p.ask(peerRequest{Do: "dance"})
	require.EqualError(t, err, "KeyError: 'dance'")
	_, err = p.load(t.Context())
	require.NoError(t, err, "an error is no end")

	_, err = withPython(t, "def describe():\n    import no_such_module\nserve(describe, {})\n")
	require.EqualError(t, err, "ModuleNotFoundError: No module named 'no_such_module'")
	_, err = withPython(t, "raise SystemExit('not today')")
	require.EqualError(t, err, "it ended: exit status 1: not today")
}

// TestPeerScriptsAreWhole compiles them, which finds what only a run with the
// peers' packages would otherwise.
func TestPeerScriptsAreWhole(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	for _, k := range peerKinds {
		require.Contains(t, k.script, "serve(", k.name)
		cmd := exec.Command(python, "-I", "-c", "import sys; compile(sys.stdin.read(), 'peer', 'exec')")
		cmd.Stdin = strings.NewReader(protocolScript + k.script)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", k.name, out)
	}
}
