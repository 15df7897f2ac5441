package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"harmonyd/engine"
	"harmonyd/engine/mlx"
	"harmonyd/engine/models"
	"harmonyd/engine/weights"
)

// A product is one matrix that every token is multiplied with, [rows, cols].
type product struct {
	rows, cols int
	stored     int64 // bytes in the files
}

// products lists the matrices of a model folder that one decode step reads whole.
// A table of embeddings is among them where it gives the scores too; otherwise a
// step reads one row of it.
func products(folder string) ([]product, error) {
	config, err := weights.ReadConfig(folder)
	if err != nil {
		return nil, err
	}
	m, err := models.New(config.ModelType, config.Raw)
	if err != nil {
		return nil, err
	}
	files, err := weights.Open(folder)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	_, head := files.Tensor("lm_head.weight")
	head = head && !m.Ignores("lm_head.weight")
	var all []product
	for _, t := range files.Tensors {
		path, ok := strings.CutSuffix(t.Name, ".weight")
		if !ok || len(t.Shape) != 2 || m.Ignores(t.Name) || head && strings.HasSuffix(path, "embed_tokens") {
			continue
		}
		p := product{rows: t.Shape[0], cols: t.Shape[1], stored: t.Bytes}
		if scales, ok := files.Tensor(path + ".scales"); ok && config.Quantization != nil {
			how, _, _ := config.Quantization.For(path)
			p.cols, p.stored = scales.Shape[1]*how.GroupSize, p.stored+scales.Bytes
			if biases, ok := files.Tensor(path + ".biases"); ok {
				p.stored += biases.Bytes
			}
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, errors.New("the model has no matrices")
	}
	return all, nil
}

// bytesPerToken is what a step reads of the weights in one form.
func bytesPerToken(all []product, form string) int64 {
	var n int64
	for _, p := range all {
		switch form {
		case float32Form:
			n += int64(p.rows) * int64(p.cols) * 4
		case engine.Packed:
			n += p.stored
		default: // 16-bit floats
			n += int64(p.rows) * int64(p.cols) * 2
		}
	}
	return n
}

// roofline multiplies a vector with every matrix of a model, back to back, with
// the BLAS that MLX calls: what no decode step of float32 weights on this machine
// can beat, as long as it makes one token a pass. The matrices have memory of
// their own, from the allocator that weights come from.
type roofline struct {
	products []product
	a        []*mlx.Buffer
	x, y     map[int]*mlx.Buffer // by length
	bytes    int64               // of all matrices
	threads  int
}

// A measurement is of this many passes, or of fewer where they take long.
const (
	mostPasses   = 20
	leastPasses  = 5
	rooflineTime = time.Second
)

// openRoofline makes the matrices.
func openRoofline(all []product, threads int) (*roofline, error) {
	r := &roofline{products: all, x: map[int]*mlx.Buffer{}, y: map[int]*mlx.Buffer{}, threads: threads}
	r.bytes = bytesPerToken(all, float32Form)
	if free := engine.FreeMemory(); r.bytes > free/2 {
		return nil, fmt.Errorf("its matrices would take %d MB of the %d MB that are free", r.bytes>>20, free>>20)
	}
	var err error
	for _, p := range all {
		err = errors.Join(err, r.fill(p))
	}
	if err == nil {
		err = r.pass()
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// fill makes one matrix, and its vectors where there are none of that length.
func (r *roofline) fill(p product) error {
	a, err := mlx.NewBuffer(4 * p.rows * p.cols)
	if err != nil {
		return err
	}
	r.a = append(r.a, a)
	// Numbers that stay normal however they are added up: others are slower.
	for b, i := a.Bytes(), 0; i < len(b); i += 4 {
		binary.LittleEndian.PutUint32(b[i:], math.Float32bits(float32(i/4%31+1)/64))
	}
	for _, v := range []struct {
		of map[int]*mlx.Buffer
		n  int
	}{{r.x, p.cols}, {r.y, p.rows}} {
		if v.of[v.n] != nil {
			continue
		}
		if v.of[v.n], err = mlx.NewBuffer(4 * v.n); err != nil {
			return err
		}
		for b, i := v.of[v.n].Bytes(), 0; i < len(b); i += 4 {
			binary.LittleEndian.PutUint32(b[i:], math.Float32bits(1))
		}
	}
	return nil
}

// pass multiplies with every matrix once.
func (r *roofline) pass() error {
	for i, p := range r.products {
		if err := mlx.Gemv(r.y[p.rows], r.a[i], r.x[p.cols], p.rows, p.cols); err != nil {
			return err
		}
	}
	return nil
}

// measure returns the medians of a few passes through the matrices and of as many
// reads of their memory.
func (r *roofline) measure(ctx context.Context) (step, read time.Duration, err error) {
	if before := mlx.DescribeBLAS().Threads; before != r.threads && mlx.SetBLASThreads(r.threads) {
		defer mlx.SetBLASThreads(before)
	}
	if step, err = medianTime(ctx, r.pass); err != nil {
		return 0, 0, err
	}
	read, err = medianTime(ctx, func() error {
		r.readAll()
		return nil
	})
	return step, read, err
}

// readAll reads every matrix, each thread its share of the bytes.
func (r *roofline) readAll() {
	var wait sync.WaitGroup
	for t := range r.threads {
		wait.Go(func() {
			for _, a := range r.a {
				b := a.Bytes()
				from, to := len(b)/128*t/r.threads*128, len(b)/128*(t+1)/r.threads*128
				mlx.ReadMemory(b[from:to])
			}
		})
	}
	wait.Wait()
}

// medianTime does something over and over.
func medianTime(ctx context.Context, do func() error) (time.Duration, error) {
	var times []time.Duration
	if err := do(); err != nil { // wakes the threads
		return 0, err
	}
	end := time.Now().Add(rooflineTime)
	for len(times) < leastPasses || len(times) < mostPasses && time.Now().Before(end) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

func (r *roofline) close() {
	for _, b := range r.a {
		b.Free()
	}
	for _, of := range []map[int]*mlx.Buffer{r.x, r.y} {
		for _, b := range of {
			if b != nil {
				b.Free()
			}
		}
	}
}
