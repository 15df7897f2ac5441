package weights

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMalformedFilesAreDifferent holds the tables of malformed files to being
// more than many numbers: no two share both the text of their error, but for
// names and numbers, and the statements of the reader that ran.
//
// Planted break: a reader without its check of reversed offsets.
func TestMalformedFilesAreDifferent(t *testing.T) {
	program := filepath.Join(t.TempDir(), "paths")
	build := exec.Command("go", "build", "-cover", "-covermode=atomic", "-o", program,
		"-coverpkg=harmonyd/engine/weights,harmonyd/engine/weights/testdata/paths", "./testdata/paths")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	var safetensors, ggufs []map[string][]byte
	for _, c := range append(malformedFiles(), malformedIndexes()...) {
		safetensors = append(safetensors, c.files)
	}
	for _, c := range malformedGGUFs() {
		ggufs = append(ggufs, map[string][]byte{"m.gguf": c.file})
	}
	for reader, cases := range map[string][]map[string][]byte{"safetensors": safetensors, "GGUF": ggufs} {
		different := pathsOf(t, program, cases)
		t.Logf("%s: %d malformed files, all different", reader, different)
		require.GreaterOrEqual(t, different, 60, reader)
	}
}

// placeholders are what does not make two errors different.
var placeholders = regexp.MustCompile(`"(\\.|[^"\\])*"|\d+`)

// pathsOf runs the program over folders with those files and fails on two of the
// same error and path. It returns how many there are.
func pathsOf(t *testing.T, program string, cases []map[string][]byte) int {
	dir := t.TempDir()
	var names bytes.Buffer
	for i, files := range cases {
		folder := filepath.Join(dir, strconv.Itoa(i))
		require.NoError(t, os.Mkdir(folder, 0o755))
		for name, data := range files {
			require.NoError(t, os.WriteFile(filepath.Join(folder, name), data, 0o644))
		}
		fmt.Fprintln(&names, folder)
	}
	run := exec.Command(program)
	run.Env = append(os.Environ(), "GOCOVERDIR="+t.TempDir())
	run.Stdin = &names
	var complaints bytes.Buffer
	run.Stderr = &complaints
	out, err := run.Output()
	require.NoError(t, err, "%s", complaints.String())
	seen := map[[2]string]string{}
	var alike []string
	for line := range bytes.Lines(out) {
		var got struct{ Error, Path string }
		require.NoError(t, json.Unmarshal(line, &got))
		key := [2]string{placeholders.ReplaceAllString(got.Error, "_"), got.Path}
		if seen[key] != "" {
			alike = append(alike, seen[key]+" | "+got.Error)
		}
		seen[key] = got.Error
	}
	require.Empty(t, alike, "the same path and, but for names and numbers, the same error")
	require.Len(t, seen, len(cases))
	return len(seen)
}

// readerFiles are the sources of the two readers, from the folder to the tensors.
var readerFiles = []string{"folder.go", "gguf.go", "ggufvalue.go", "index.go", "jsonscan.go", "model.go", "safetensors.go"}

// TestEveryErrorReturnIsCovered lets the tests of the readers run in a child and
// fails where a return statement that gives an error was never reached.
//
// Planted break: an error return that no file leads to.
func TestEveryErrorReturnIsCovered(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "cover")
	child := exec.Command("go", "test", "-count=1", "-coverprofile="+profile,
		"-run=^Test(Malformed(Safetensors|GGUF|Config)|EveryFaultWhile(Reading|Loading)|HeaderBeyond|Open|File|Folder|TooMany|Dir|ImportRefuses)", ".")
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	ran := ranLines(t, profile)
	returns := 0
	var never []string
	for _, file := range readerFiles {
		for _, at := range errorReturns(t, file) {
			returns++
			if !ran(file, at) {
				never = append(never, at.String())
			}
		}
	}
	require.Empty(t, never, "no test comes to these error returns")
	t.Logf("%d error returns, all covered", returns)
	require.Greater(t, returns, 100)
}

// ranLines reads a coverage profile and returns whether the statement at a
// position ran.
func ranLines(t *testing.T, profile string) func(file string, at token.Position) bool {
	f, err := os.Open(profile)
	require.NoError(t, err)
	defer f.Close()
	type block struct{ fromLine, fromColumn, toLine, toColumn, statements, count int }
	blocks := map[string][]block{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		path, numbers, ok := strings.Cut(lines.Text(), ":")
		var b block
		if n, _ := fmt.Sscanf(numbers, "%d.%d,%d.%d %d %d", &b.fromLine, &b.fromColumn, &b.toLine, &b.toColumn,
			&b.statements, &b.count); !ok || n != 6 {
			continue // the mode
		}
		name := filepath.Base(path)
		blocks[name] = append(blocks[name], b)
	}
	return func(file string, at token.Position) bool {
		return slices.ContainsFunc(blocks[file], func(b block) bool {
			after := at.Line > b.fromLine || at.Line == b.fromLine && at.Column >= b.fromColumn
			before := at.Line < b.toLine || at.Line == b.toLine && at.Column < b.toColumn
			return after && before && b.count > 0
		})
	}
}

// errorReturns lists the return statements of a file whose error is not the
// literal nil.
func errorReturns(t *testing.T, file string) (all []token.Position) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, 0)
	require.NoError(t, err)
	var walk func(body ast.Node, givesError bool)
	walk = func(body ast.Node, givesError bool) {
		ast.Inspect(body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				walk(n.Body, errorIsLast(n.Type))
				return false
			case *ast.ReturnStmt:
				if !givesError || len(n.Results) == 0 {
					return true
				}
				if last, ok := n.Results[len(n.Results)-1].(*ast.Ident); !ok || last.Name != "nil" {
					all = append(all, fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			walk(fn.Body, errorIsLast(fn.Type))
		}
	}
	return all
}

func errorIsLast(f *ast.FuncType) bool {
	if f.Results == nil {
		return false
	}
	last, ok := f.Results.List[len(f.Results.List)-1].Type.(*ast.Ident)
	return ok && last.Name == "error"
}
