//go:build !scripted

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
)

// serveRepository serves a folder as a hub serves a repository of that name.
func serveRepository(t *testing.T, folder, repo string) string {
	t.Helper()
	const commit = "0123456789abcdef0123456789abcdef01234567"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/models/"+repo+"/revision/main", func(w http.ResponseWriter, _ *http.Request) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			panic(err)
		}
		var siblings []any
		for _, e := range entries {
			data, err := os.ReadFile(filepath.Join(folder, e.Name()))
			if err != nil {
				panic(err)
			}
			siblings = append(siblings, map[string]any{"rfilename": e.Name(), "size": len(data),
				"lfs": map[string]string{"sha256": fmt.Sprintf("%x", sha256.Sum256(data))}})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": siblings})
	})
	mux.Handle("GET /"+repo+"/resolve/"+commit+"/", http.StripPrefix("/"+repo+"/resolve/"+commit+"/", http.FileServer(http.Dir(folder))))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// TestPulledModelsGenerate fetches models with the program, lists them, and has the
// one that this engine knows write.
func TestPulledModelsGenerate(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, enginetest.Checkpoint{Seed: 1}.Write(folder))
	endpoint := serveRepository(t, folder, "mlx-community/tiny")
	strange := t.TempDir()
	require.NoError(t, enginetest.Checkpoint{ModelType: "llama", Config: map[string]any{"model_type": "odd"}}.Write(strange))
	models := t.TempDir()
	run := func(endpoint string, args ...string) (out, errs string) {
		ctx, cancel := context.WithTimeout(t.Context(), hang)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], args...)
		cmd.Env = append(os.Environ(), asProgram+"=1", "HARMONYD_MODELS="+models, "HF_ENDPOINT="+endpoint, "HF_TOKEN=", "HF_HUB_OFFLINE=")
		var o, e bytes.Buffer
		cmd.Stdout, cmd.Stderr = &o, &e
		require.NoError(t, cmd.Run(), "%s", e.String())
		return o.String(), e.String()
	}
	out, errs := run(endpoint, "pull", "mlx-community/tiny")
	require.Contains(t, out, "Pulled mlx-community/tiny at commit 0123456789ab.")
	require.Contains(t, errs, "3 files")
	out, errs = run(serveRepository(t, strange, "mlx-community/odd"), "pull", "mlx-community/odd")
	require.Contains(t, out, "Pulled mlx-community/odd")
	require.Contains(t, errs, `warning: this model cannot be used as it is: config.json: model_type: "odd" is not supported`)
	out, _ = run("", "models")
	require.Regexp(t, `mlx-community/tiny +llama +plain +4096`, out)
	require.Regexp(t, `mlx-community/odd +unusable: config.json: model_type`, out)
	out, _ = run("", "generate", "-m", "mlx-community/tiny", "--raw", "-n", "8", "t1 t2 t3")
	require.Len(t, strings.Split(strings.TrimSpace(out), "t"), 9, "eight tokens: %q", out)

	// And a packed copy of it.
	out, _ = run("", "convert", "mlx-community/tiny", "--bits", "8", "--group-size", "32", "-o", "packed")
	require.Contains(t, out, "Converted mlx-community/tiny to packed: ")
	out, _ = run("", "models")
	require.Regexp(t, `packed +llama +affine 8-bit, groups of 32 +4096`, out)
	out, _ = run("", "generate", "-m", "packed", "--raw", "-n", "8", "t1 t2 t3")
	require.Len(t, strings.Split(strings.TrimSpace(out), "t"), 9, "eight tokens: %q", out)
}
