package engine

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"harmonyd/engine/hub"
	"harmonyd/engine/mlx"
)

// Grade says how good a Finding is.
type Grade string

// The grades. Lacking is what no model can run without.
const (
	Fine    Grade = "ok"
	Poor    Grade = "warn"
	Lacking Grade = "missing"
)

// Finding is one fact of an installation.
type Finding struct {
	Name   string
	State  Grade
	Detail string
	// Mend is the command that puts it right, where there is one.
	Mend string
}

// wantMLX is the version of MLX that the binding was written against. Later
// ones change C++ signatures that mlx-c calls; earlier ones abort the process
// on errors.
const wantMLX = "0.32.2"

// Examine says what an installation has, what it lacks and how to mend it. It
// loads no model. Root is the folder of models.
func Examine(ctx context.Context, root string) []Finding {
	var found []Finding
	t := newThread()
	go t.run(func() bool { return false }, func() {})
	err := t.do(control, func() error {
		mlx.BindThread()
		found = append(found, examineMLX(mlx.Version()), examineDevice(mlx.DefaultStream().Device()))
		return nil
	})
	t.close()
	if err != nil {
		found = append(found, Finding{Name: "engine", State: Lacking, Detail: err.Error()})
	}
	return append(append(found, examineBLAS(mlx.BLAS()), examineMemory(hostMemory())), examineModels(ctx, root)...)
}

// checkMLX refuses a library that another program brought along.
func checkMLX(version string) error {
	if version != wantMLX {
		return fmt.Errorf("MLX is %s, want %s", version, wantMLX)
	}
	return nil
}

func examineMLX(version string) Finding {
	if err := checkMLX(version); err != nil {
		return Finding{Name: "MLX", State: Lacking, Detail: fmt.Sprintf("%s, want %s", version, wantMLX), Mend: "make deps"}
	}
	return Finding{Name: "MLX", State: Fine, Detail: version}
}

func examineDevice(d mlx.Device) Finding {
	if d.GPU {
		return Finding{Name: "device", State: Fine, Detail: strings.TrimSpace("GPU " + d.Name)}
	}
	return Finding{Name: "device", State: Fine,
		Detail: fmt.Sprintf("CPU, %d cores; weights are computed with as they are stored", runtime.NumCPU())}
}

// examineBLAS judges the library that does the matrix products on the CPU by
// its name. MLX's wheel for Linux carries the reference BLAS, which is up to 60
// times slower.
func examineBLAS(path string) Finding {
	f := Finding{Name: "BLAS", State: Fine, Detail: path}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		f.Detail = real
	}
	switch name := strings.ToLower(filepath.Base(f.Detail)); {
	case runtime.GOOS == "darwin":
		f.Detail = "Accelerate"
	case strings.Contains(name, "openblas"), strings.Contains(name, "mkl"), strings.Contains(name, "blis"):
	case path == "":
		f.State, f.Detail = Poor, "not known"
	default:
		f.State = Poor
		f.Detail += " is the reference library; prompts on the CPU take up to 60 times as long as with OpenBLAS"
		f.Mend = "apt-get install libopenblas-dev && make deps build"
	}
	return f
}

func examineMemory(free int64) Finding {
	if free == math.MaxInt64 {
		return Finding{Name: "memory", State: Poor, Detail: "not known"}
	}
	return Finding{Name: "memory", State: Fine, Detail: bytesText(free) + " free"}
}

func examineModels(ctx context.Context, root string) []Finding {
	const mend = "make demo, harmonyd pull REPO, or harmonyd import FILE.gguf"
	list, err := hub.New(root).List(ctx)
	if err != nil {
		return []Finding{{Name: "models", State: Lacking, Detail: err.Error(), Mend: mend}}
	}
	if len(list) == 0 {
		if _, err := os.Stat(root); err != nil {
			root += ", which does not exist yet"
		}
		return []Finding{{Name: "models", State: Lacking, Detail: "none in " + root, Mend: mend}}
	}
	found := []Finding{{Name: "models", State: Fine, Detail: fmt.Sprintf("%d in %s", len(list), root)}}
	for _, m := range list {
		if m.Problem != "" {
			found = append(found, Finding{Name: "model " + m.ID, State: Poor, Detail: m.Problem})
		}
	}
	return found
}

// FreeMemory is how many bytes this process may still take of the machine, the
// largest number where that is not known.
func FreeMemory() int64 { return hostMemory() }
