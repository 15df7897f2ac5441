package rpc_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
)

var update = flag.Bool("update", false, "write what the server says into the transcripts")

// settle gives the scripted agent the time that its commands take.
func settle() {
	time.Sleep(time.Millisecond)
	synctest.Wait()
}

// TestTranscripts plays testdata/*.txtar on a clock of their own, so that the
// times in them are exact and cost nothing.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 60)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			var got *txtar.Archive
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				c := rpctest.Start(ctx, &rpctest.Agent{Pace: time.Microsecond}, rpc.Options{Version: "1.2.3"})
				got, err = rpctest.Play(txtar.Parse(want), c, settle)
				cancel()
				c.Wait()
				require.NoError(t, err)
			})
			if *update {
				require.NoError(t, os.WriteFile(file, txtar.Format(got), 0o644))
				return
			}
			require.Equal(t, string(want), string(txtar.Format(got)))
		})
	}
}
