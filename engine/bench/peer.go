package bench

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"harmonyd/engine"
	"harmonyd/engine/hub"
	"harmonyd/engine/mlx"
	"harmonyd/engine/weights"
)

// The peers' scripts. Each begins with what all of them share.
var (
	//go:embed peers/protocol.py
	protocolScript string
	//go:embed peers/mlxlm.py
	mlxlmScript string
	//go:embed peers/llamacpp.py
	llamacppScript string
)

// peerKind is a program that can be a peer.
type peerKind struct {
	name, script string
	// blas says that it is given the BLAS that MLX has here.
	blas bool
	// model finds or makes what it runs.
	model func(s *session, ctx context.Context) (peerModel, error)
}

// peerModel is what a peer runs.
type peerModel struct {
	path  string
	form  string // of the weights
	bytes int64  // of them that a step reads
}

var peerKinds = []peerKind{
	{"mlx-lm", mlxlmScript, true, (*session).plainModel},
	{"mlx-lm-packed", mlxlmScript, true, (*session).ownModel},
	{"llama.cpp", llamacppScript, false, (*session).ggufModel},
}

// PeerNames lists the peers that there are: mlx-lm with the weights as float32,
// mlx-lm-packed with the weights as they are stored, and llama.cpp.
func PeerNames() []string {
	var names []string
	for _, k := range peerKinds {
		names = append(names, k.name)
	}
	return names
}

func findPeer(name string) (peerKind, bool) {
	i := slices.IndexFunc(peerKinds, func(k peerKind) bool { return k.name == name })
	if i < 0 {
		return peerKind{}, false
	}
	return peerKinds[i], true
}

// plainModel writes the model as float32, which is what mlx-lm gets to compute
// with the same numbers.
func (s *session) plainModel(ctx context.Context) (peerModel, error) {
	h := hub.New(s.scratch)
	_, err := engine.Convert(ctx, h, s.folder, float32Form,
		engine.Conversion{Dequantize: s.sum.Model.Quantization != "", Dtype: float32Form}, nil)
	if err != nil {
		return peerModel{}, err
	}
	path, err := h.Resolve(float32Form)
	return peerModel{path, float32Form, bytesPerToken(s.products, float32Form)}, err
}

func (s *session) ownModel(context.Context) (peerModel, error) {
	return peerModel{s.folder, engine.Packed, bytesPerToken(s.products, engine.Packed)}, nil
}

func (s *session) ggufModel(context.Context) (peerModel, error) {
	file := s.GGUF
	if file == "" {
		if file = findDeps(filepath.Join("models", s.sum.Model.ID+".gguf")); file == "" {
			return peerModel{}, fmt.Errorf("no GGUF file of %s: name it with --gguf", s.sum.Model.ID)
		}
	}
	g, err := weights.OpenGGUF(file)
	if err != nil {
		return peerModel{}, err
	}
	defer g.Close()
	m := peerModel{path: file, form: "GGUF"}
	head := slices.ContainsFunc(g.Tensors, func(t weights.GGUFTensor) bool { return t.Name == "output.weight" })
	for _, t := range g.Tensors {
		if len(t.Shape) == 2 && !(head && t.Name == "token_embd.weight") {
			m.bytes += t.Bytes
		}
	}
	return m, nil
}

// findDeps returns the path of what engine/deps.sh made, in the working folder or
// beside the binary's, empty where there is no such thing.
func findDeps(name string) string {
	roots := []string{"."}
	if exe, err := os.Executable(); err == nil {
		roots = append(roots, filepath.Join(filepath.Dir(exe), ".."))
	}
	for _, root := range roots {
		path := filepath.Join(root, ".deps", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// startPeer starts a peer and waits until it has said what it is.
func (s *session) startPeer(ctx context.Context, name string) (*peer, error) {
	kind, _ := findPeer(name)
	python := s.Python
	if python == "" {
		if python = findDeps("venv/bin/python"); python == "" {
			return nil, errors.New("no Python with its packages: run `engine/deps.sh venv`, which takes about 15 minutes, " +
				"or name one with --python")
		}
	}
	model, err := kind.model(s, ctx)
	if err != nil {
		return nil, err
	}
	threads := s.sum.Machine.Threads
	settings, err := json.Marshal(peerSettings{
		Model: model.path, Threads: threads, Context: s.PromptTokens + s.Tokens + 1, Device: s.sum.Machine.Device,
	})
	if err != nil {
		return nil, err
	}
	env := append(os.Environ(), "OPENBLAS_NUM_THREADS="+strconv.Itoa(threads), "OMP_NUM_THREADS="+strconv.Itoa(threads))
	if blas := mlx.BLAS(); kind.blas && s.sum.Versions.BLASCore != "" { // of OpenBLAS alone
		env = append(env, "LD_PRELOAD="+blas)
	}
	p, err := newPeer(ctx, env, python, "-I", "-c", protocolScript+kind.script, string(settings))
	if err != nil {
		return nil, err
	}
	p.model = model
	return p, nil
}

// peer is another program in a process of its own. protocol.py describes what is
// said.
type peer struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr tail
	hello  peerHello
	model  peerModel
}

type (
	peerSettings struct {
		Model   string `json:"model"`
		Threads int    `json:"threads"`
		Context int    `json:"context"`
		Device  string `json:"device"`
	}
	peerHello struct {
		Version string            `json:"version"`
		Details map[string]string `json:"details"`
	}
	peerRequest struct {
		Do          string  `json:"do"`
		Prompt      []int32 `json:"prompt,omitempty"`
		Tokens      int     `json:"tokens,omitempty"`
		Temperature float32 `json:"temperature"`
		Seed        uint64  `json:"seed"`
	}
	peerReply struct {
		LoadMS    float64 `json:"load_ms"`
		IDs       []int32 `json:"ids"`
		FirstMS   float64 `json:"first_ms"`
		DecodeMS  float64 `json:"decode_ms"`
		PeakBytes int64   `json:"peak_bytes"`
	}
)

// newPeer starts the command, which lives until close or the end of ctx.
func newPeer(ctx context.Context, env []string, command string, args ...string) (*peer, error) {
	p := &peer{cmd: exec.CommandContext(ctx, command, args...)}
	p.cmd.Env, p.cmd.Stderr = env, &p.stderr
	// What it started itself must not keep us waiting for its stderr.
	p.cmd.WaitDelay = 5 * time.Second
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.receive(&p.hello); err != nil {
		_ = p.close()
		return nil, err
	}
	return p, nil
}

// ask sends a request and waits for the answer.
func (p *peer) ask(r peerRequest) (reply peerReply, err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return reply, err
	}
	// Of a peer that has ended, the pipe may say so first; why it did is in what it
	// wrote last.
	if _, err := p.in.Write(append(line, '\n')); err != nil && !errors.Is(err, syscall.EPIPE) {
		return reply, p.died(err)
	}
	err = p.receive(&reply)
	return reply, err
}

// receive reads one answer.
func (p *peer) receive(into any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return p.died(err)
	}
	var failed struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(line, &failed); err != nil {
		return fmt.Errorf("its answer %.80q: %w", line, err)
	}
	if failed.Error != "" {
		return errors.New(failed.Error)
	}
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("its answer %.80q: %w", line, err)
	}
	return nil
}

// died words the end of a peer that was to answer: by the last that it wrote to
// stderr, which is where Python says why.
func (p *peer) died(err error) error {
	_ = p.in.Close()
	if e := p.cmd.Wait(); e != nil { // fills stderr
		err = e
	}
	if line := p.stderr.lastLine(); line != "" {
		return fmt.Errorf("it ended: %w: %s", err, line)
	}
	return fmt.Errorf("it ended: %w", err)
}

func (p *peer) load(context.Context) (time.Duration, error) {
	r, err := p.ask(peerRequest{Do: "load"})
	return fromMilliseconds(r.LoadMS), err
}

func (p *peer) generate(_ context.Context, w workload) (result, error) {
	r, err := p.ask(peerRequest{
		Do: "generate", Prompt: w.prompt, Tokens: w.tokens, Temperature: w.sampling.Temperature, Seed: w.sampling.Seed,
	})
	switch {
	case err != nil:
		return result{}, err
	case len(r.IDs) != w.tokens || r.FirstMS <= 0 || r.DecodeMS <= 0:
		return result{}, fmt.Errorf("it answered %d tokens in %g and %g ms, want %d", len(r.IDs), r.FirstMS, r.DecodeMS, w.tokens)
	}
	return result{ids: r.IDs, first: fromMilliseconds(r.FirstMS), decode: fromMilliseconds(r.DecodeMS)}, nil
}

func (p *peer) peakBytes(context.Context) (int64, error) {
	r, err := p.ask(peerRequest{Do: "memory"})
	return r.PeakBytes, err
}

func (p *peer) pid() int { return p.cmd.Process.Pid }

// close ends the peer, which has nothing to lose.
func (p *peer) close() error {
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	return p.cmd.Wait()
}

func fromMilliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// tail keeps the end of what is written to it. Only one goroutine writes, and who
// reads waits for it first.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.text = append(t.text, p...)
	t.text = slices.Delete(t.text, 0, max(0, len(t.text)-most))
	return len(p), nil
}

// lastLine is the last line that is not empty.
func (t *tail) lastLine() string {
	lines := strings.Split(string(bytes.TrimSpace(t.text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
