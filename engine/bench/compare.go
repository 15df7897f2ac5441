package bench

import (
	"fmt"
	"io"
	"strings"
)

// WriteComparison writes what changed from old to s. A change of a figure is one
// only where the ranges of the two runs lie apart; counts have no noise.
func (s *Summary) WriteComparison(w io.Writer, old *Summary) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Compared with %s of %s\n", old.Versions.build(), old.Time.Format("2006-01-02 15:04 MST"))
	for _, d := range s.differences(old) {
		fmt.Fprintf(&b, "Not the same: %s.\n", d)
	}
	fmt.Fprintln(&b)
	t := table{{"", "", "then", "now", "change"}}
	line := func(name, unit string, then, now Figure, higherIsBetter bool) {
		if !then.Measured() || !now.Measured() {
			return
		}
		t.add(name, unit, then.text(), now.text(), percent(then.Median, now.Median), string(judge(then, now, higherIsBetter)))
	}
	for _, p := range s.Programs {
		before := old.program(p.Name)
		if before == nil {
			continue
		}
		for _, m := range metrics {
			line(p.Name+" "+m.name, m.unit, m.of(before), m.of(p), m.higherIsBetter)
		}
	}
	line("roofline", "tok/s", old.Roofline.Decode, s.Roofline.Decode, true)
	line("memory", "GB/s", old.Roofline.Read, s.Roofline.Read, true)
	for _, r := range s.Ratios {
		for _, o := range old.Ratios {
			if o.Name == r.Name {
				line(r.Name, "", o.Figure, r.Figure, !strings.HasPrefix(r.Name, metrics[0].name))
			}
		}
	}
	t.write(&b)
	s.compareCounts(&b, old)
	_, err := io.WriteString(w, b.String())
	return err
}

// compareCounts lists what rose or fell.
func (s *Summary) compareCounts(w io.Writer, old *Summary) {
	same := true
	for _, phase := range []struct {
		name      string
		then, now Count
	}{{"prefill", old.Counts.Prefill, s.Counts.Prefill}, {"decode", old.Counts.Decode, s.Counts.Decode}} {
		if phase.then.Tokens != phase.now.Tokens {
			fmt.Fprintf(w, "The counts of the %s are over %d tokens and were over %d.\n", phase.name, phase.now.Tokens, phase.then.Tokens)
			same = false
			continue
		}
		for _, change := range phase.now.changes(phase.then) {
			fmt.Fprintf(w, "%s: %s\n", phase.name, change)
			same = false
		}
	}
	if same {
		fmt.Fprintln(w, "All counts are the same.")
	}
}

// differences lists what makes the runs hard to compare.
func (s *Summary) differences(old *Summary) []string {
	var all []string
	for _, d := range []struct {
		what      string
		then, now any
	}{
		{"CPU", old.Machine.CPU, s.Machine.CPU}, {"cores", old.Machine.Cores, s.Machine.Cores},
		{"device", old.Machine.Device + old.Machine.GPU, s.Machine.Device + s.Machine.GPU},
		{"threads", old.Machine.Threads, s.Machine.Threads},
		{"MLX", old.Versions.MLX, s.Versions.MLX}, {"BLAS", old.Versions.BLASConfig, s.Versions.BLASConfig},
		{"model", old.Model, s.Model}, {"workload", old.Workload.asked(), s.Workload.asked()},
		{"weights in memory", old.Programs[0].Weights, s.Programs[0].Weights},
	} {
		if d.then != d.now {
			all = append(all, fmt.Sprintf("%s is %v, was %v", d.what, d.now, d.then))
		}
	}
	return all
}

// asked is w without what only makes it more certain.
func (w WorkloadFacts) asked() WorkloadFacts {
	w.Runs = 0
	return w
}

// program is the one of that name, nil where it was not measured.
func (s *Summary) program(name string) *Program {
	for _, p := range s.Programs {
		if p.Name == name && p.Problem == "" {
			return p
		}
	}
	return nil
}

// percent is the change of a median.
func percent(then, now float64) string {
	if then == 0 {
		return "–"
	}
	return fmt.Sprintf("%+.1f %%", 100*(now/then-1))
}
