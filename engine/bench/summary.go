package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Ours is the name of this program in a summary.
const Ours = "harmonyd"

// float32Form is the Form of weights as float32, see engine.Engine.Form.
const float32Form = "float32"

// schemaVersion counts changes of Summary that make older ones unreadable.
const schemaVersion = 1

// Summary is everything that a run found out.
type Summary struct {
	Schema   int           `json:"schema"`
	Time     time.Time     `json:"time"`
	Versions Versions      `json:"versions"`
	Machine  Machine       `json:"machine"`
	Model    ModelFacts    `json:"model"`
	Workload WorkloadFacts `json:"workload"`
	// Programs begins with ours.
	Programs []*Program `json:"programs"`
	Roofline Roofline   `json:"roofline"`
	Ratios   []Ratio    `json:"ratios"`
	Counts   Counts     `json:"counts"`
	// Notes are what a reader of the figures must know besides.
	Notes []string `json:"notes"`
}

// Versions say what was measured.
type Versions struct {
	Harmonyd   string `json:"harmonyd"`
	Label      string `json:"label,omitempty"` // what a person calls this build
	MLX        string `json:"mlx"`
	BLAS       string `json:"blas"`        // its path
	BLASConfig string `json:"blas_config"` // of OpenBLAS only
	BLASCore   string `json:"blas_core"`   // of OpenBLAS only: whose kernels it uses
}

// Machine says on what.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Device string `json:"device"` // cpu or gpu
	GPU    string `json:"gpu,omitempty"`
	// Threads is how many every program gets for its products.
	Threads     int     `json:"threads"`
	LoadAverage float64 `json:"load_average"` // of the minute before
	// OthersBusy and Stolen are parts of the processors' time during the
	// repetitions: what programs used that were not measured, and what the host of
	// a virtual machine did not give. -1 where the system does not tell.
	OthersBusy float64 `json:"others_busy"`
	Stolen     float64 `json:"stolen"`
}

// ModelFacts say what every program ran.
type ModelFacts struct {
	ID           string `json:"id"`
	Family       string `json:"family"`
	Quantization string `json:"quantization"`
}

// WorkloadFacts say what was asked of it.
type WorkloadFacts struct {
	PromptTokens int     `json:"prompt_tokens"`
	PromptSHA256 string  `json:"prompt_sha256"` // of the ids, little-endian int32
	Tokens       int     `json:"tokens"`
	Temperature  float32 `json:"temperature"`
	Seed         uint64  `json:"seed"`
	Runs         int     `json:"runs"`
}

// Program is one that was measured, or that could not be.
type Program struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Details map[string]string `json:"details,omitempty"`
	// Problem says why there are no figures.
	Problem string `json:"problem,omitempty"`
	// Weights is the form of the weights in memory and BytesPerToken what a step
	// reads of them, 0 where that is not known.
	Weights       string `json:"weights"`
	BytesPerToken int64  `json:"bytes_per_token"`
	Load          Figure `json:"load_ms"`
	FirstToken    Figure `json:"first_token_ms"`
	Prefill       Figure `json:"prefill_tokens_per_second"` // prompt tokens over FirstToken
	Decode        Figure `json:"decode_tokens_per_second"`  // tokens after the first
	// TokensPerPass is how many tokens one pass through the weights makes, 0 where
	// that is not known.
	TokensPerPass float64 `json:"tokens_per_pass"`
	// PeakBytes is the most memory that the process held up to the first
	// generation's end.
	PeakBytes int64 `json:"peak_bytes"`
	// IDs are the tokens, the same in every repetition. Agrees is how many of them
	// are ours, up to the first that is not.
	IDs    []int32 `json:"ids"`
	Agrees int     `json:"agrees"`
}

// Roofline is what the machine can do at most.
type Roofline struct {
	// Problem says why it was not measured.
	Problem  string `json:"problem,omitempty"`
	Matrices int    `json:"matrices"`
	Bytes    int64  `json:"bytes"` // of all matrices as float32
	Threads  int    `json:"threads"`
	// Decode is how often a second all matrices are multiplied with a vector, and
	// Read what plain reading of their memory reaches, in GB/s.
	Decode Figure `json:"decode_tokens_per_second"`
	Read   Figure `json:"read_gb_per_second"`
}

// GBPerSecond is how fast the products read.
func (r Roofline) GBPerSecond() float64 { return r.Decode.Median * float64(r.Bytes) / 1e9 }

// Ratio is one of our figures over another program's, repetition by repetition.
type Ratio struct {
	Name string `json:"name"`
	Figure
	// Goal is what the ratio is to be at least, or at most where AtMost is set;
	// 0 where nothing is asked.
	Goal   float64 `json:"goal,omitempty"`
	AtMost bool    `json:"at_most,omitempty"`
}

// Reached says that the median is where the goal wants it.
func (r Ratio) Reached() bool {
	if r.AtMost {
		return r.Median <= r.Goal
	}
	return r.Median >= r.Goal
}

// A metric is a figure that every program has.
type metric struct {
	name, unit     string
	higherIsBetter bool
	of             func(*Program) Figure
}

var metrics = []metric{
	{"load", "ms", false, func(p *Program) Figure { return p.Load }},
	{"first token", "ms", false, func(p *Program) Figure { return p.FirstToken }},
	{"prefill", "tok/s", true, func(p *Program) Figure { return p.Prefill }},
	{"decode", "tok/s", true, func(p *Program) Figure { return p.Decode }},
}

// goals are what this project holds itself to on a CPU with float32 weights, by
// the names of ratios.
var goals = map[string]Ratio{
	"decode / roofline": {Goal: 0.85},
	"decode / mlx-lm":   {Goal: 1.25},
	"prefill / mlx-lm":  {Goal: 1},
	"load / mlx-lm":     {Goal: 1.2, AtMost: true},
}

// JSON renders s.
func (s *Summary) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

// ReadSummary reads what JSON wrote.
func ReadSummary(text []byte) (*Summary, error) {
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("not a summary of a benchmark: %w", err)
	}
	if head.Schema != schemaVersion {
		return nil, fmt.Errorf("a summary of schema %d, this program reads %d: measure anew", head.Schema, schemaVersion)
	}
	s := new(Summary)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("a broken summary: %w", err)
	}
	if len(s.Programs) == 0 || s.Programs[0] == nil || s.Programs[0].Name != Ours {
		return nil, fmt.Errorf("a broken summary: its first program is not %s", Ours)
	}
	return s, nil
}

// conclude turns what was measured into figures, ratios and notes.
func (s *session) conclude() {
	for _, c := range s.runs {
		c.Load, c.FirstToken = newFigure(c.loads), newFigure(c.firsts)
		c.Prefill, c.Decode = newFigure(c.prefills), newFigure(c.decodes)
		s.sum.Programs = append(s.sum.Programs, c.Program)
	}
	s.sum.conclude()
}

// conclude derives what can be derived from the figures.
func (s *Summary) conclude() {
	own := s.Programs[0]
	for _, p := range s.Programs {
		p.Agrees = agreement(p.IDs, own.IDs)
	}
	s.Ratios = nil
	ratio := func(name string, f Figure) {
		if !f.Measured() {
			return
		}
		r := Ratio{Name: name, Figure: f}
		if g, ok := goals[name]; ok && s.Machine.Device == "cpu" {
			r.Goal, r.AtMost = g.Goal, g.AtMost
		}
		s.Ratios = append(s.Ratios, r)
	}
	ratio("decode / roofline", own.Decode.over(s.Roofline.Decode))
	for _, m := range []metric{metrics[3], metrics[2], metrics[0]} {
		for _, p := range s.Programs[1:] {
			ratio(m.name+" / "+p.Name, m.of(own).over(m.of(p)))
		}
	}
	s.note()
}

// note writes down what a ratio alone would hide.
func (s *Summary) note() {
	s.Notes = nil
	note := func(format string, args ...any) { s.Notes = append(s.Notes, fmt.Sprintf(format, args...)) }
	own := s.Programs[0]
	if s.Roofline.Bytes > 0 && own.BytesPerToken > 0 && own.BytesPerToken < s.Roofline.Bytes {
		note("harmonyd's weights are %s: a step reads %.2f of the bytes that the roofline and float32 weights take",
			own.Weights, float64(own.BytesPerToken)/float64(s.Roofline.Bytes))
	}
	if own.TokensPerPass > 1.01 {
		note("harmonyd makes %.2f tokens a pass through the weights", own.TokensPerPass)
	}
	if s.Versions.BLASCore == "" && s.Machine.OS != "darwin" && s.Machine.Device == "cpu" {
		note("the BLAS is not OpenBLAS (%s): products and roofline are those of a slow one; install libopenblas-dev and run make deps build",
			s.Versions.BLAS)
	}
	for _, p := range s.Programs[1:] {
		if want := s.Versions.BLAS; p.Weights == float32Form && s.Versions.BLASCore != "" && p.Details["blas"] == "" && p.Problem == "" {
			note("%s did not get the BLAS %s", p.Name, want)
		}
		if p.Problem == "" && p.Weights == float32Form && s.Workload.Temperature == 0 && p.Agrees < len(s.Programs[0].IDs) {
			note("harmonyd and %s choose different tokens from token %d on", p.Name, p.Agrees+1)
		}
	}
	if m := s.Machine; m.OthersBusy > quietShare || m.Stolen > quietShare {
		note("the machine was not quiet: other programs used %.0f %% of its time, its host kept %.0f %%; measure again",
			100*m.OthersBusy, 100*m.Stolen)
	}
}

// quietShare is the part of the processors' time that may go elsewhere before a
// run is called disturbed.
const quietShare = 0.02
