package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var planted = flag.Bool("planted", false, "plant every break of TestPlantedBreaks and demand that its tests turn red")

// A plant is a break of the program that a figure's test must find: text of a
// file that becomes other text.
type plant struct {
	figure   string // what the test shows, as the issues name it
	file     string
	old, new string
	pkg      string
	test     string   // the tests that must fail, as a pattern
	flags    []string // of go test; the first may be copied
}

// copied stands in a row whose test reads the source itself: it is run in a copy of
// the tree, where an overlay would not be seen.
const copied = "copied"

// plants are the breaks. A figure that has no row here is not held.
var plants = []plant{
	{"E1", "engine/mlx/shim.c", "    return hm_refuse(f, why);\n  }\n  hm_array h", "    return NULL;\n  }\n  hm_array h", "./engine/mlx", "TestE1WrongCallsAreErrors", nil},
	{"E1", "engine/mlx/shape.go", "// Contiguous ", "// Untried is in no wrong call.\nfunc (s *Scope) Untried(a Array) Array { return s.Contiguous(a) }\n\n// Contiguous ",
		"./engine/mlx", "TestE1EveryOperationHasAWrongCall", nil},
	{"E2", "engine/mlx/fast.go", "return 0, fmt.Errorf(\"mlx: quantization mode %q is not known\", name)", "return 0, nil", "./engine", "TestE2", nil},
	{"E3", "engine/weights/folder.go", "if n == len(p) {", "if n > 0 {", "./engine", "TestE3ReadFaults", nil},
	{"E3", "engine/load.go", "\t\tfor i := range l.slots {\n\t\t\tl.slots[i].Free()", "\t\tfor i := range l.slots {\n\t\t\t_ = i", "./engine", "TestE3FaultsAtRandomOffsets", nil},
	{"E5, turns", "engine/admission.go", "\t\tn += m.prefixes.bytes()", "\t\tn += 2 * m.prefixes.bytes()", "./engine", "TestKeptConversations", nil},
	{"E5, loads", "engine/admission.go", "if room = max(0, room); l.needed > room {", "if room = max(0, room); l.needed < 0 {", "./engine", "TestE5|TestIdleModels", nil},
	{"E5, promises", "engine/admission.go", "n -= max(0, g.promised-g.holds())", "n -= max(0, g.holds()-g.promised)", "./engine", "TestPromisesOfOthersCount", nil},
	{"E5, the oldest first", "engine/admission.go", "cmp.Compare(a.used, b.used)", "cmp.Compare(b.used, a.used)", "./engine", "TestIdleModels", nil},
	{"E5, bounded caches", "engine/kv/full.go", "next = min(next, bound)", "next = max(next, bound)", "./engine/kv", "TestCapacities", nil},
	{"E5, growing layer by layer", "engine/kv/buffer.go", "if err := own.Eval(more); err != nil {", "if err := own.Err(); err != nil {", "./engine/kv", "TestGrowth", nil},
	{"E8", "engine/mlx/tag_on.go", `r != nil && r.freed != ""`, `r != nil && r.freed == "x"`, "./engine/mlx", "TestE8", []string{"-tags=mlxdebug"}},
	{"E11", "engine/mlx/shim.c", "if (p) memcpy(dst, p, bytes);", "if (p) memcpy(dst, p, bytes + 64);", "./engine/mlx", "TestHost|TestCreate|Test.*Ops", []string{"-asan"}},
	{"E12", "engine/examine.go", `const wantMLX = "0.32.2"`, `const wantMLX = "0.32.1"`, "./engine", "TestE12", nil},
	{"H1", "engine/enginetest/leaks/leaks.go", "if now = descriptors(); len(now) <= len(before) {", "if now = descriptors(); len(now) <= 2*len(before) {",
		"./engine/enginetest/leaks", "TestH1", nil},
	{"H1", "schema/main_test.go", "leaks.Run(m)", "m.Run()", ".", "TestH1", []string{copied, "-tags=scripted"}},
	{"a load between steps", "engine/thread.go", "\t\tif isPiece {\n\t\t\tbreak\n\t\t}\n", "\t\t_ = isPiece\n", "./engine", "TestLoadGoesBetweenSteps|TestThreadOrders", nil},
	{"a chunk left half way", "engine/mlxbackend.go", "\tif q.done < len(q.ends) {", "\tif false {", "./engine", "TestLeavingAChunkHalfWay", nil},
	{"constrained output", "engine/constrain.go", "\tif err := w.matcher.Mask(w.mask); err != nil {", "\tif w.stats.Masks%2 == 1 {\n\t} else if err := w.matcher.Mask(w.mask); err != nil {",
		"./engine", "TestConstrainedTextsAreValid", nil},
	{"malformed safetensors", "engine/weights/safetensors.go", "case t.Offset < next:", "case t.Offset < 0:", "./engine/weights", "TestMalformedSafetensors|TestMutants", nil},
	{"malformed GGUF", "engine/weights/gguf.go", "case t.Offset < next:", "case t.Offset < 0:", "./engine/weights", "TestMalformedGGUF|TestMutants", nil},
	{"different files", "engine/weights/malformed_test.go", "\t\tone(\"empty\", nil,", "\t\tone(\"cut\", []byte{1}, `is 1 bytes, too short for a safetensors file`),\n\t\tone(\"empty\", nil,",
		"./engine/weights", "TestMalformedFilesAreDifferent", nil},
	{"error returns", "engine/weights/safetensors.go", "\tif next != size {\n", "\tif next > 1<<60 {\n\t\treturn fmt.Errorf(\"%s: is too large\", file)\n\t}\n\tif next != size {\n",
		"./engine/weights", "TestEveryErrorReturnIsCovered", []string{copied}},
	{"bounded memory", "engine/weights/ggufvalue.go", "list := make([]T, 0, min(n, 1<<12))", "list := make([]T, 0, maxGGUFElements)", "./engine/weights", "TestMutants|TestAllocation", nil},
	{"the Rust crate", "engine/weights/safetensors.go", "\tif end-begin != want {\n\t\treturn t, p.bad(name, \"data_offsets\", \"spans %d bytes, %s %v needs %d\", end-begin, t.Dtype, t.Shape, want)\n\t}\n\tif end > math.MaxInt64-p.base {\n\t\treturn t, p.bad(name, \"data_offsets\", \"end %d is out of range\", end)\n\t}\n\tt.Offset, t.Bytes = p.base+begin, want\n", "\tif end-begin > want+1<<40 {\n\t\treturn t, p.bad(name, \"data_offsets\", \"spans %d bytes, %s %v needs %d\", end-begin, t.Dtype, t.Shape, want)\n\t}\n\tif end > math.MaxInt64-p.base {\n\t\treturn t, p.bad(name, \"data_offsets\", \"end %d is out of range\", end)\n\t}\n\tt.Offset, t.Bytes = p.base+begin, end-begin\n",
		"./engine/weights", "TestDifferential", nil},
	{"P3, ids", "engine/native/tokenizer.go", "\tif special {\n\t\tflag = 1\n\t}\n\tvar message", "\tflag = 1\n\tvar message", "./engine", "TestP3Parity", nil},
	{"P3, round trip", "engine/native/stream.go", "dst = append(dst, text[0])", "dst = append(dst, text[0]|0x20)", "./engine", "TestP3RoundTrip", nil},
	{"P3, time", "engine/native/tokenizer.go", "\tids, err := t.encode(text, special)\n\tif err != nil {\n\t\treturn dst, err", "\tfor n := 4096; n < len(text)-4; n += 4096 {\n\t\t_, _ = t.encode(text[:n], special)\n\t}\n\tids, err := t.encode(text, special)\n\tif err != nil {\n\t\treturn dst, err",
		"./engine", "TestP3EncodingIsLinear", nil},
	{"D1", "agent/conversation/log.go", "n, err := l.file.Write(text)", "n, err := l.file.Write(text[:len(text)-1])\n\tn++", "./agent/conversation", "TestD1", nil},
	{"D2", "agent/conversation/record.go", "return covered, bytes.Equal(text[n:], appendSeal(want[:0], covered))", "return covered, len(appendSeal(want[:0], covered)) > 0 && bytes.HasSuffix(text, []byte(lineCloses))",
		"./agent/conversation", "TestD2", nil},
	{"D3", "agent/conversation/log.go", "if back := l.setBack(); back != nil {", "if back := error(nil); back != nil {", "./agent/conversation", "TestD3", nil},
	{"D4, messages", "agent/conversation/log.go", "\treturn l.file.Sync()\n", "\treturn nil\n", "./agent/conversation", "TestD4", nil},
	{"D4, conversations", "agent/conversation/store.go", "if err := s.fs.syncDir(s.dir); err != nil {", "if err := error(nil); err != nil {", "./agent/conversation", "TestD4", nil},
	{"D5, opening", "agent/conversation/scan.go", "l.buf, l.from, l.offset = buf, 0, l.offset+int64(n)", "l.buf, l.from, l.offset = buf, 0, l.offset+int64(n)\n\t\t_, _ = l.r.ReadAt(make([]byte, n), 0)",
		"./agent/conversation", "TestD5", nil},
	{"D5, listing", "agent/conversation/list.go", "headBytes    = 4 << 10", "headBytes    = 1 << 20", "./agent/conversation", "TestD5", nil},
	{"D6", "agent/conversation/filesystem.go", "return nil, &InUseError{PID: readPID(name)}", "return nil, &InUseError{}", "./agent/conversation", "TestD6", nil},
	{"P7, references", "schema/schemawalk.go", "return is == onePart && (kind == \"object\" || kind == \"boolean\")", "return kind == \"object\" || kind == \"boolean\"", "./schema", "TestReferencesThatTheWalkFollows", nil},
	{"P7, keywords", "schema/keywords.go", "n.negative || n.digits == \"\"", "n.negative", "./schema", "TestTheWalkSaysWhatTheLibrarySays", nil},
	{"loops, missed", "agent/loop/loop.go", "ringSize = 2 * fullPeriod", "ringSize = fullPeriod / 2", "./agent/loop", "TestEveryPeriodIsFound", nil},
	{"loops, none", "agent/loop/loop.go", "rich, poor = 320, 768", "rich, poor = 96, 96", "./agent/loop", "TestHonestTexts", nil},
	{"keys without effect", "agent/profile/settings.go", "v.TruncateResponse, 0)}", "v.TruncateThinking, 0)}", "./agent/profile", "TestEveryKey", nil},
	{"precedence", "agent/profile/resolve.go", "if layers[i].config.has(k) {", "if layers[i].config.has(k) && (i > 0 || !layers[2].config.has(k)) {", "./agent/profile", "TestPrecedence", nil},
	{"context overflow", "agent/conversation/fit.go", "\t\t\treach[from] = i\n", "\t\t\treach[i] = from\n", "./agent/conversation", "TestFit", nil},
}

// TestPlantedBreaks keeps the table true: each text stands in its file once. With
// -planted, as make planted-breaks has it, each break is planted, in an overlay of
// the compiler's, and its tests must fail. Figures that nothing turns red are not
// held (H3).
func TestPlantedBreaks(t *testing.T) {
	for _, p := range plants {
		t.Run(p.figure, func(t *testing.T) {
			text, err := os.ReadFile(p.file)
			require.NoError(t, err)
			require.Equal(t, 1, bytes.Count(text, []byte(p.old)), "%s: %q must stand there once", p.file, p.old)
			if *planted {
				p.mustFail(t, bytes.Replace(text, []byte(p.old), []byte(p.new), 1))
			}
		})
	}
}

// mustFail runs the tests over the broken file.
func (p *plant) mustFail(t *testing.T, broken []byte) {
	dir := t.TempDir()
	cmd := exec.Command("go", "test", "-count=1", "-run=^("+p.test+")")
	if len(p.flags) > 0 && p.flags[0] == copied {
		copyTree(t, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, p.file), broken, 0o644))
		cmd.Dir = dir
		// Tests that read the source need no cgo, which would be compiled anew there.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Args = append(cmd.Args, p.flags[1:]...)
	} else {
		// By the environment, for the compilers that tests start themselves.
		cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay(t, dir, p.file, broken)))
		cmd.Args = append(cmd.Args, p.flags...)
	}
	cmd.Args = append(cmd.Args, p.pkg)
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "%s: the tests do not see the break in %s:\n%s", p.figure, p.file, out)
	require.NotContains(t, string(out), "[build failed]", "%s: %s", p.figure, out)
	require.NotContains(t, string(out), "[setup failed]", "%s: %s", p.figure, out)
}

// overlay writes what makes the compiler read broken in the place of file.
func overlay(t *testing.T, dir, file string, broken []byte) string {
	file, err := filepath.Abs(file)
	require.NoError(t, err)
	replaced, overlay := filepath.Join(dir, filepath.Base(file)), filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(replaced, broken, 0o644))
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{file: replaced}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, text, 0o644))
	return overlay
}

// copyTree copies what git knows of the tree.
func copyTree(t *testing.T, dir string) {
	list, err := exec.Command("git", "ls-files", "-z").Output()
	require.NoError(t, err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
}
