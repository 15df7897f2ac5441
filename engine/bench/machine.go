package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"harmonyd/engine/mlx"
)

// describeMachine says what the run is on, with that many threads. What the system
// does not tell stays empty.
func describeMachine(threads int) Machine {
	device := mlx.DefaultStream().Device()
	m := Machine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Device: "cpu", Threads: threads,
	}
	if device.GPU {
		m.Device, m.GPU = "gpu", device.Name
	}
	if f := fields("/proc/loadavg"); len(f) > 0 {
		m.LoadAverage, _ = strconv.ParseFloat(f[0], 64)
	}
	return m
}

func versions(harmonyd, label string) Versions {
	blas := mlx.DescribeBLAS()
	return Versions{Harmonyd: harmonyd, Label: label, MLX: mlx.Version(), BLAS: mlx.BLAS(), BLASConfig: blas.Config, BLASCore: blas.Core}
}

// cpuModel is what the kernel calls the processor.
func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(text) {
		if key, value, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// peakMemory is the most memory that this process ever held.
func peakMemory() (int64, error) {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) == 3 && f[0] == "VmHWM:" {
			kB, err := strconv.ParseInt(f[1], 10, 64)
			return kB << 10, err
		}
	}
	// On Linux this one also counts what the parent held.
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	if runtime.GOOS == "darwin" {
		return u.Maxrss, nil // bytes there, kB elsewhere
	}
	return u.Maxrss << 10, nil
}

// watch looks at who uses the processor besides the programs under measurement:
// figures from a machine that does other work mean little.
type watch struct {
	pids []int
	from ticks
}

// ticks are times since the start of the system, in its own unit.
type ticks struct {
	all, idle, stolen, own int64
	known                  bool
}

func startWatch(pids []int) watch { return watch{pids, readTicks(pids)} }

// stop returns the parts of the processors' time that other programs used and
// that the host of a virtual machine did not give, both -1 where the system does
// not tell.
func (w watch) stop() (others, stolen float64) { return w.from.until(readTicks(w.pids)) }

func (t ticks) until(u ticks) (others, stolen float64) {
	all := float64(u.all - t.all)
	if !t.known || !u.known || all <= 0 {
		return -1, -1
	}
	stolen = float64(u.stolen-t.stolen) / all
	others = 1 - stolen - float64(u.idle-t.idle)/all - float64(u.own-t.own)/all
	return max(others, 0), stolen
}

// readTicks reads /proc/stat and the user and system times of processes. One that
// is gone counts for nothing.
func readTicks(pids []int) (t ticks) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	f := strings.Fields(string(first))
	if len(f) < 9 || f[0] != "cpu" {
		return t
	}
	for i, v := range f[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return t
		}
		t.all += n
		switch i {
		case 3, 4:
			t.idle += n
		case 7:
			t.stolen += n
		}
	}
	t.known = true
	for _, pid := range pids {
		t.own += processTicks(pid)
	}
	return t
}

// processTicks is the time that one process has used.
func processTicks(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything.
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return user + system
}

// fields are the words of a file, none where there is no such file.
func fields(file string) []string {
	text, _ := os.ReadFile(file)
	return strings.Fields(string(text))
}
