package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// A table is lines of cells, written in columns.
type table [][]string

func (t *table) add(cells ...string) { *t = append(*t, cells) }

// write writes the lines with nothing after their last cell, and an empty line.
func (t table) write(w io.Writer) {
	var b strings.Builder
	columns := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, cells := range t {
		fmt.Fprintln(columns, strings.Join(cells, "\t")+"\t")
	}
	_ = columns.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	fmt.Fprintln(w)
}

// WriteTable writes s for people.
func (s *Summary) WriteTable(w io.Writer) error {
	var b strings.Builder
	s.writeHead(&b)
	s.writePrograms(&b)
	s.writeRatios(&b)
	s.writeCounts(&b)
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "Note: %s.\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeHead says what was measured and on what.
func (s *Summary) writeHead(w io.Writer) {
	join := func(parts ...string) {
		kept := parts[:0]
		for _, p := range parts {
			if p != "" {
				kept = append(kept, p)
			}
		}
		fmt.Fprintln(w, strings.Join(kept, ", "))
	}
	m, v := s.Machine, s.Versions
	join(s.Model.ID, s.Model.Family, s.Model.Quantization)
	cores := m.CPU
	if cores == "" {
		cores = m.OS + " " + m.Arch
	}
	join(cores, fmt.Sprintf("cores: %d", m.Cores), m.GPU, fmt.Sprintf("load average %.2f", m.LoadAverage), m.quietness())
	blas := v.BLAS
	if words := strings.Fields(v.BLASConfig); len(words) > 1 {
		blas = words[0] + " " + words[1] + " with the kernels of " + v.BLASCore
	}
	join(v.build(), "MLX "+v.MLX, blas, fmt.Sprintf("threads: %d", m.Threads))
	wl := s.Workload
	random := ""
	if wl.Temperature > 0 {
		random = fmt.Sprintf("seed %d", wl.Seed)
	}
	join(fmt.Sprintf("%d tokens after a prompt of %d", wl.Tokens, wl.PromptTokens), fmt.Sprintf("temperature %g", wl.Temperature),
		random, fmt.Sprintf("%d repetitions in turn", wl.Runs), "median (least to most)")
	fmt.Fprintln(w)
}

// build names what was measured.
func (v Versions) build() string {
	if v.Label == "" {
		return Ours + " " + v.Harmonyd
	}
	return Ours + " " + v.Harmonyd + " (" + v.Label + ")"
}

// quietness words what else the processors did.
func (m Machine) quietness() string {
	if m.OthersBusy < 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %% used by others, %.0f %% stolen", 100*m.OthersBusy, 100*m.Stolen)
}

// writePrograms writes a column for each program and one for the roofline.
func (s *Summary) writePrograms(w io.Writer) {
	var t table
	line := func(name, unit string, cell func(*Program) string, roofline string) {
		cells := []string{name, unit}
		for _, p := range s.Programs {
			if p.Problem == "" {
				cells = append(cells, cell(p))
			}
		}
		if s.Roofline.Decode.Measured() {
			cells = append(cells, roofline)
		}
		t.add(cells...)
	}
	line("", "", func(p *Program) string { return p.Name }, "roofline")
	for _, m := range metrics {
		roof := ""
		if m.name == "decode" {
			roof = s.Roofline.Decode.text()
		}
		line(m.name, m.unit, func(p *Program) string { return m.of(p).text() }, roof)
	}
	line("weights", "", func(p *Program) string { return p.Weights }, float32Form)
	line("read a token", "MB", func(p *Program) string { return megabytes(p.BytesPerToken) }, megabytes(s.Roofline.Bytes))
	line("decode reads", "GB/s", func(p *Program) string {
		return number(p.Decode.Median * float64(p.BytesPerToken) / 1e9)
	}, fmt.Sprintf("%s of %s", number(s.Roofline.GBPerSecond()), s.Roofline.Read.text()))
	line("peak memory", "MB", func(p *Program) string { return megabytes(p.PeakBytes) }, "")
	line("same tokens", "", func(p *Program) string {
		if s.Workload.Temperature > 0 && p.Name != Ours {
			return "" // dice of another make
		}
		return fmt.Sprintf("%d of %d", p.Agrees, len(p.IDs))
	}, "")
	t.write(w)
	for _, p := range s.Programs {
		if p.Problem != "" {
			fmt.Fprintf(w, "%s was not measured: %s\n\n", p.Name, p.Problem)
		}
	}
	if s.Roofline.Problem != "" {
		fmt.Fprintf(w, "The roofline was not measured: %s\n\n", s.Roofline.Problem)
	}
}

func (s *Summary) writeRatios(w io.Writer) {
	if len(s.Ratios) == 0 {
		return
	}
	t := table{{"ratio", "", "goal"}}
	for _, r := range s.Ratios {
		goal := ""
		if r.Goal > 0 {
			sign, verdict := "≥", "missed"
			if r.AtMost {
				sign = "≤"
			}
			if r.Reached() {
				verdict = "reached"
			}
			goal = fmt.Sprintf("%s %g %s", sign, r.Goal, verdict)
		}
		t.add(r.Name, r.text(), goal)
	}
	t.write(w)
}

func (s *Summary) writeCounts(w io.Writer) {
	c := s.Counts
	if c.Decode.Tokens == 0 {
		return
	}
	t := table{{"counts", fmt.Sprintf("prompt of %d", c.Prefill.Tokens), "a token after it"}}
	each := c.Decode.fields()
	for i, f := range c.Prefill.fields() {
		t.add(f.name, strconv.FormatUint(f.n, 10), c.Decode.perToken(each[i].n))
	}
	t.write(w)
}

// perToken divides a count by the tokens, without digits where there is no rest.
func (c Count) perToken(n uint64) string {
	if n%uint64(c.Tokens) == 0 {
		return strconv.FormatUint(n/uint64(c.Tokens), 10)
	}
	return number(float64(n) / float64(c.Tokens))
}

// text is the median and the range.
func (f Figure) text() string {
	if !f.Measured() {
		return "–"
	}
	if len(f.Values) == 1 {
		return number(f.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", number(f.Median), number(f.Min), number(f.Max))
}

// number writes three digits, or all of a whole part that has more.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// megabytes writes a size, – where it is not known.
func megabytes(n int64) string {
	if n == 0 {
		return "–"
	}
	return number(float64(n) / 1e6)
}
