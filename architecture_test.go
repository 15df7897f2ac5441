package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc"
	"harmonyd/schema"
)

var update = flag.Bool("update", false, "rewrite the generated parts of README.md")

// room is one package of the house: what it is for and which of our packages
// it may import. "x/..." means x and everything under it.
type room struct {
	pkg, purpose string
	may          []string
}

// rooms is the whole house. A package that is not here has no place yet.
var rooms = []room{
	{"main", "Parses the command line, wires engine, agent and rpc, maps the outcome to an exit code.", []string{"..."}},
	{"schema", "The wire types and error codes; validates client schemas and arguments.", nil},
	{"rpc", "Frames, dispatches and answers JSON-RPC over stdio; batches notifications; owns process life.", []string{"schema"}},
	{"rpc/rpctest", "In-process and spawned clients and the transcript runner.", []string{"schema", "rpc"}},
	{"rpc/rpctest/demo", "The program that make demo runs.", []string{"rpc/rpctest"}},
	{"rpc/rpctest/figures", "The program that make bench-wire runs.", []string{"rpc/rpctest"}},
	{"rpc/rpctest/record", "The program that records what clients of others and a server say.", []string{"rpc/rpctest"}},
	{"agent", "Keeps sessions and runs turns: render, generate, parse, call tools. Declares the Engine, Toolbox and Host it needs.", []string{"schema", "agent/...", "engine/job"}},
	{"agent/conversation", "Messages of a conversation and their durable append-only log.", []string{"schema"}},
	{"agent/loop", "Finds a model that writes the same again and again.", nil},
	{"agent/parse", "Finds text, reasoning and calls of tools in what a model writes, one file per format.", []string{"schema"}},
	{"agent/prompt", "Renders chats into token ids: through the model's chat template, or in the format of GPT-OSS.", []string{"schema", "agent/parse"}},
	{"agent/profile", "Prompt configs, profiles and the settings that come of them.", []string{"schema"}},
	{"engine", "Owns loaded models on one OS thread: scheduler, prefill, decode, cancel.", []string{"engine/..."}},
	{"engine/job", "The words both sides of the engine seam share. Plain data.", nil},
	{"engine/mlx", "Arrays and operations over mlx-c, and the kernels for the CPU.", nil},
	{"engine/native", "Tokenizers, chat templates and constrained decoding from the Rust library.", nil},
	{"engine/nn", "Layers: Linear, Embedding, RMSNorm, RoPE, attention, SwiGLU.", []string{"engine/mlx", "engine/kv"}},
	{"engine/kv", "Key/value caches.", []string{"engine/mlx"}},
	{"engine/models", "One file per architecture family, named after its model_type.", []string{"engine/nn", "engine/kv", "engine/mlx"}},
	{"engine/sample", "Logits to token, on the device.", []string{"engine/mlx"}},
	{"engine/weights", "Reads and validates safetensors, GGUF and config files in pure Go.", nil},
	{"engine/hub", "Finds, imports, pulls, lists and verifies model folders.", []string{"engine/weights"}},
	{"engine/bench", "The measurement harness of the engine in process: workloads, peers, figures, report.", []string{"engine/..."}},
	{"engine/enginetest", "The scripted engine and tiny random checkpoints, for tests; no cgo.", []string{"engine/job", "engine/weights"}},
	{"engine/enginetest/mutate", "Makes files that are valid but for a few changes of their structure.", nil},
	{"engine/enginetest/leaks", "Fails the tests of a package that leave goroutines, files or children behind.", nil},
	{"tools", "The registry of tools.", []string{"schema"}},
	{"editors/terminal", "The commands a person types.", []string{"schema", "agent"}},
}

// forbidden holds the edges that must never be, each with its reason. They
// repeat what rooms implies, so that a change of rooms does not lose a reason.
var forbidden = []struct{ from, to, why string }{
	{"engine/...", "agent/...", "the engine must run under any agent"},
	{"engine/...", "rpc/...", "the engine must run without a wire"},
	{"engine/...", "schema", "the engine speaks token ids, not JSON"},
	{"engine/...", "tools/...", "the engine must run under any agent"},
	{"agent/...", "engine", "tests of the agent must not need cgo"},
	{"agent/...", "engine/mlx", "tests of the agent must not need cgo"},
	{"agent/...", "engine/native", "tests of the agent must not need cgo"},
	{"agent/...", "tools/...", "tools are handed in as a Toolbox"},
	{"agent/conversation", "agent/prompt", "history must be readable without rendering"},
	{"agent/conversation", "agent/parse", "history must be readable without parsing"},
	{"rpc/...", "engine/...", "rpc knows the Agent interface and nothing behind it"},
	{"rpc/...", "tools/...", "rpc knows the Agent interface and nothing behind it"},
	{"rpc/...", "agent/...", "rpc knows the Agent interface and nothing behind it"},
	{"engine/models", "engine/native", "a model is a graph"},
	{"engine/models", "engine/sample", "a model is a graph"},
	{"engine/models", "engine/weights", "a model is a graph"},
	{"engine/weights", "engine/mlx", "file readers are pure Go, so they can be fuzzed"},
}

// reserved holds what only some packages may use, each with its reason.
var reserved = []struct {
	use   string // an import path, or a selector such as os.Exit
	only  []string
	tests bool // tests anywhere may use it
	why   string
}{
	{"C", []string{"engine/mlx", "engine/native"}, false, "cgo is confined to the two bindings"},
	{"unsafe", []string{"engine/mlx", "engine/native"}, false, "memory is confined to the two bindings"},
	{"os.Exit", []string{"main", "rpc/rpctest/demo", "rpc/rpctest/figures", "rpc/rpctest/record"}, true, "only main maps an outcome to an exit code"},
	{"log.Fatal", []string{"main"}, false, "only main ends the process"},
	{"log.Fatalf", []string{"main"}, false, "only main ends the process"},
	{"os.Stdin", []string{"main", "rpc", "rpc/rpctest/record", "editors/terminal"}, true, "stdin is the protocol"},
	{"os.Stdout", []string{"main", "rpc", "rpc/rpctest/demo", "rpc/rpctest/figures", "rpc/rpctest/record", "editors/terminal"}, true, "stdout is the protocol"},
	{"fmt.Print", nil, true, "stdout is the protocol"},
	{"fmt.Printf", nil, true, "stdout is the protocol"},
	{"fmt.Println", nil, true, "stdout is the protocol"},
	{"github.com/sourcegraph/jsonrpc2", []string{"rpc"}, false, "one package speaks JSON-RPC"},
	{"github.com/invopop/jsonschema", []string{"schema"}, false, "the published schema is made where the wire types are"},
	{"github.com/stretchr/testify/require", []string{"rpc/rpctest", "engine/enginetest"}, true, "assertions belong to tests"},
	{"github.com/stretchr/testify/assert", nil, false, "require stops at the first failure"},
}

// seam lists the engine packages that tests outside the engine may import.
var seam = []string{"engine/job", "engine/enginetest", "engine/enginetest/leaks", "engine/enginetest/mutate"}

// source is one parsed Go file of the repository.
type source struct {
	file string // slash-separated, relative to the root
	pkg  string // folder; "main" for the root
	test bool
	text []byte
	ast  *ast.File
	fset *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != "." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "target" || name == "testdata" || name == "bin" || name == "dist") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(p))
		if pkg == "." {
			pkg = "main"
		}
		all = append(all, source{filepath.ToSlash(p), pkg, strings.HasSuffix(name, "_test.go"), text, f, fset})
		return nil
	})
	require.NoError(t, err)
	return all
}

func (s source) generated() bool { return ast.IsGenerated(s.ast) }

// imports returns the import paths of s, ours without the module's name.
func (s source) imports() (ours, all []string) {
	for _, spec := range s.ast.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		all = append(all, p)
		if rest, ok := strings.CutPrefix(p, "harmonyd/"); ok {
			ours = append(ours, rest)
		}
	}
	return ours, all
}

// within reports whether pkg is pattern or, for "x/...", x or below it.
func within(pkg, pattern string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pkg == pattern
}

func withinAny(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return within(pkg, p) })
}

func TestImportRules(t *testing.T) {
	byPkg := map[string]room{}
	for _, r := range rooms {
		byPkg[r.pkg] = r
	}
	for _, s := range sources(t) {
		r, known := byPkg[s.pkg]
		require.True(t, known, "%s: package %s has no row in rooms", s.file, s.pkg)
		ours, _ := s.imports()
		for _, to := range ours {
			if s.test && (to == s.pkg || withinAny(to, seam) || to == "rpc/rpctest") {
				continue
			}
			require.True(t, withinAny(to, r.may), "%s: %s may not import %s", s.file, s.pkg, to)
			if s.pkg == "main" {
				continue
			}
			for _, f := range forbidden {
				bad := within(s.pkg, f.from) && within(to, f.to)
				require.False(t, bad, "%s: %s may not import %s: %s", s.file, s.pkg, to, f.why)
			}
		}
	}
}

// uses lists what a file imports and every "path.Name" that it takes from an
// import, under whatever name it imports it.
func uses(f *ast.File) []string {
	var all []string
	paths := map[string]string{} // by the name in this file
	for _, spec := range f.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		paths[name] = p
		all = append(all, p)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Obj == nil && paths[x.Name] != "" {
				all = append(all, paths[x.Name]+"."+sel.Sel.Name)
			}
		}
		return true
	})
	if p, ok := paths["."]; ok {
		all = append(all, "a dot import of "+p)
	}
	return all
}

func TestReservedUses(t *testing.T) {
	for _, s := range sources(t) {
		used := uses(s.ast)
		for _, r := range reserved {
			if slices.Contains(r.only, s.pkg) || (s.test && r.tests) || !slices.Contains(used, r.use) {
				continue
			}
			t.Errorf("%s uses %s: %s", s.file, r.use, r.why)
		}
		for _, u := range used {
			require.False(t, strings.HasPrefix(u, "a dot import"), "%s has %s: it hides what is used", s.file, u)
		}
	}
}

func TestUsesSeeThroughNames(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
		import (sys "os"; "log"; . "fmt")
		func f(log interface{ Fatal() }) { sys.Exit(1); log.Fatal() }`, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"os", "log", "fmt", "os.Exit", "a dot import of fmt"}, uses(f))
}

// TestBudgets keeps every file and function readable in one sitting.
func TestBudgets(t *testing.T) {
	const maxFile, maxMain, maxFunc = 500, 150, 70
	for _, s := range sources(t) {
		if s.generated() {
			continue
		}
		lines, limit := bytes.Count(s.text, []byte("\n")), maxFile
		if s.file == "main.go" {
			limit = maxMain
		}
		if lines > limit {
			t.Errorf("%s has %d lines, more than %d", s.file, lines, limit)
		}
		if s.test {
			continue // a table of cases is data, however long
		}
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFunc {
					t.Errorf("%s: %s has %d lines, more than %d", s.file, f.Name.Name, n, maxFunc)
				}
			}
		}
	}
}

func TestFormat(t *testing.T) {
	for _, s := range sources(t) {
		want, err := format.Source(s.text)
		require.NoError(t, err, s.file)
		if !bytes.Equal(s.text, want) {
			t.Errorf("%s is not formatted; run gofmt -w %s", s.file, s.file)
		}
	}
}

// TestPackageComments makes every package say what it is.
func TestPackageComments(t *testing.T) {
	said := map[string]bool{}
	for _, s := range sources(t) {
		said[s.pkg] = said[s.pkg] || (!s.test && s.ast.Doc != nil)
	}
	for pkg, ok := range said {
		require.True(t, ok, "package %s has no package comment", pkg)
	}
}

// TestH1EveryPackageLooksForLeaks makes the tests of every package end with the
// same goroutines, files and children as they began with. make test-race runs
// those that need no cgo under the race detector.
func TestH1EveryPackageLooksForLeaks(t *testing.T) {
	looks := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			looks[s.pkg] = looks[s.pkg] || bytes.Contains(s.text, []byte("leaks.Run(m")) || s.pkg == "engine/enginetest/leaks"
		}
	}
	for pkg, ok := range looks {
		require.True(t, ok, "package %s has tests and no TestMain that calls leaks.Run", pkg)
	}
}

func TestTopLevel(t *testing.T) {
	want := []string{"rpc", "agent", "engine", "tools", "schema", "editors", "go.mod", "go.sum", "README.md", "Makefile", "LICENSE", "bin", "dist"}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		n := e.Name()
		ok := strings.HasPrefix(n, ".") || slices.Contains(want, n) || n == "main.go" ||
			(strings.HasPrefix(n, "wire") && strings.HasSuffix(n, ".go")) || strings.HasSuffix(n, "_test.go")
		require.True(t, ok, "%s has no place at the top level", n)
	}
}

// codeMap renders the rooms that exist and the graph of their imports.
func codeMap(t *testing.T) string {
	edges := map[string]map[string]bool{}
	for _, s := range sources(t) {
		if edges[s.pkg] == nil {
			edges[s.pkg] = map[string]bool{}
		}
		if s.test || strings.HasPrefix(s.file, "wire_scripted") {
			continue
		}
		ours, _ := s.imports()
		for _, to := range ours {
			edges[s.pkg][to] = true
		}
	}
	var b strings.Builder
	b.WriteString("| package | what it is | imports |\n|---|---|---|\n")
	for _, r := range rooms {
		to := []string{}
		for _, e := range slices.Sorted(maps.Keys(edges[r.pkg])) {
			to = append(to, "`"+e+"`")
		}
		list := strings.Join(to, ", ")
		if list == "" {
			list = "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.pkg, r.purpose, list)
	}
	b.WriteString("\n```mermaid\ngraph TD\n")
	for _, r := range rooms {
		for _, to := range slices.Sorted(maps.Keys(edges[r.pkg])) {
			fmt.Fprintf(&b, "  %s --> %s\n", r.pkg, to)
		}
	}
	b.WriteString("```\n")
	return b.String()
}

// methodTable renders the method rows.
func methodTable(*testing.T) string {
	direction := map[schema.Side]string{schema.SideServer: "client → server", schema.SideClient: "server → client"}
	kind := map[schema.MethodKind]string{schema.MethodEither: "request or notification"}
	var b strings.Builder
	b.WriteString("| method | direction | kind | what it does |\n|---|---|---|---|\n")
	for _, m := range rpc.Methods() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, direction[m.Side], cmp.Or(kind[m.Kind], string(m.Kind)), m.Doc)
	}
	return b.String()
}

// errorTable renders the error rows.
func errorTable(*testing.T) string {
	var b strings.Builder
	b.WriteString("| code | kind | retryable | meaning |\n|---|---|---|---|\n")
	for _, e := range schema.ErrorCodes {
		retryable := "no"
		if e.Retryable {
			retryable = "yes"
		}
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s |\n", e.Code, e.Kind, retryable, e.Meaning)
	}
	return b.String()
}

// TestREADMEIsFresh compares the generated parts of README.md, which stand
// between comments with their names.
func TestREADMEIsFresh(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	fresh := string(text)
	for _, part := range []struct {
		name   string
		render func(*testing.T) string
	}{
		{"methods", methodTable},
		{"errors", errorTable},
		{"code map", codeMap},
	} {
		from := "<!-- " + part.name + ": written by `go test -run README -update .` -->\n"
		to := "<!-- end of " + part.name + " -->"
		before, rest, ok := strings.Cut(fresh, from)
		require.True(t, ok, "README.md lacks the line %q", from)
		_, after, ok := strings.Cut(rest, to)
		require.True(t, ok, "README.md lacks the line %q", to)
		now := before + from + part.render(t) + to + after
		require.True(t, *update || now == fresh, "the part %q is stale; run go test -run README -update .", part.name)
		fresh = now
	}
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(fresh), 0o644))
	}
}

// TestDependenciesHaveReasons makes every direct dependency earn its place: it has
// a row in the README and a package that imports it, and no row is of another.
func TestDependenciesHaveReasons(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	imported := map[string]bool{}
	for _, s := range sources(t) {
		_, all := s.imports()
		for _, p := range all {
			imported[p] = true
		}
	}
	var direct []string
	for line := range strings.Lines(string(mod)) {
		f := strings.Fields(line)
		if len(f) != 2 || !strings.Contains(f[0], ".") {
			continue // indirect ones have a comment
		}
		direct = append(direct, f[0])
		used := slices.ContainsFunc(slices.Collect(maps.Keys(imported)), func(p string) bool { return within(p, f[0]+"/...") })
		require.True(t, used, "go.mod requires %s, which nothing imports", f[0])
	}
	_, table, ok := strings.Cut(string(readme), "| Go module | why |\n|---|---|\n")
	require.True(t, ok)
	var rows []string
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| `") {
			break
		}
		rows = append(rows, strings.Split(line, "`")[1])
	}
	require.ElementsMatch(t, direct, rows, "go.mod's direct dependencies and the README's rows")
}
