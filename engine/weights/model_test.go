package weights

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOpenSingleFile(t *testing.T) {
	m, err := OpenFolder(&memFolder{files: map[string][]byte{singleFile: twoTensors()}})
	require.NoError(t, err)
	require.Equal(t, int64(30), m.Bytes())
	require.Len(t, m.Tensors, 2)
	norm, ok := m.Tensor("model.norm.weight")
	require.True(t, ok)
	require.Equal(t, m.Tensors[1], norm)
	require.Equal(t, []int{3}, norm.Shape)
	_, ok = m.Tensor("model.norm")
	require.False(t, ok)
	for _, tensor := range m.Tensors {
		data := make([]byte, tensor.Bytes)
		require.NoError(t, m.ReadTensor(tensor, data))
		require.Equal(t, bytes.Repeat([]byte{byte(tensor.Bytes)}, int(tensor.Bytes)), data)
	}
	require.EqualError(t, m.ReadTensor(norm, make([]byte, 5)),
		`model.safetensors: read tensor "model.norm.weight": buffer of 5 bytes, want 6`)
	require.NoError(t, m.Close())
	require.EqualError(t, m.ReadTensor(norm, make([]byte, 6)),
		`model.safetensors: read tensor "model.norm.weight": the file is not open`)
}

func TestHeadersThatAreUnusualAndValid(t *testing.T) {
	for _, header := range []string{
		" \n\t\r{" + `"t":{` + good + "}} \n",
		`{"t":{"data_offsets":[ 0 , 4 ] , "shape" : [ 4 ],"dtype":"I8"}}`,
		`{"\u0074":{"dtype":"I\u0038","shape":[4],"data_offsets":[0,4]}}`,
		`{"__metadata__":{"a":"\"\\\/\b\f\n\r\t","é":"\ud83d\ude00"},"t":{` + good + `}}`,
		`{"t":{` + good + `},"empty":{"dtype":"F64","shape":[0,3],"data_offsets":[4,4]}}`,
		`{"empty":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"t":{` + good + `}}`,
		`{"t":{"dtype":"F4","shape":[4,2],"data_offsets":[0,4]}}`,
		`{"t":{"dtype":"F6_E3M2","shape":[4],"data_offsets":[0,3]},"u":{"dtype":"BOOL","shape":[],"data_offsets":[3,4]}}`,
	} {
		m, err := OpenFolder(&memFolder{files: map[string][]byte{singleFile: safetensors(header, 4)}})
		require.NoError(t, err, header)
		require.Equal(t, int64(4), m.Bytes())
	}
}

func TestIndexWinsOverSingleFile(t *testing.T) {
	m, err := OpenFolder(&memFolder{files: map[string][]byte{
		singleFile: []byte("the left-over of another layout"),
		indexFile:  []byte(`{"metadata":{"total_size":4},"weight_map":{"t":"a","model.norm.weight":"b","model.embed_tokens.weight":"b"}}`),
		"a":        safetensors(`{"t":{`+good+`}}`, 4), "b": twoTensors(),
	}})
	require.NoError(t, err)
	require.Equal(t, int64(34), m.Bytes())
	require.Equal(t, "a", m.Tensors[2].File)
}

func TestDtypeBits(t *testing.T) {
	require.Equal(t, 16, BF16.Bits())
	require.Equal(t, 6, F6E2M3.Bits())
	require.Zero(t, Dtype("Q4").Bits())
}

func TestFolderWithoutWeights(t *testing.T) {
	_, err := Open(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "model.safetensors: ")
}

func TestTooManyTensors(t *testing.T) {
	m := &Model{files: map[string]*openFile{}, Tensors: make([]Tensor, maxTensors-1)}
	err := m.add(&memFolder{files: map[string][]byte{"x": twoTensors()}}, "x")
	require.EqualError(t, err, "x: brings the model to more than 1000000 tensors")
}

// A fault at every call in turn: the load fails, names the file, and leaves
// nothing open; no tensor is ever given out half read.
func TestEveryFaultWhileLoading(t *testing.T) {
	load := func(folder *memFolder) (err error) {
		m, err := OpenFolder(folder)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.Close()) }()
		for _, tensor := range m.Tensors {
			if err := m.ReadTensor(tensor, make([]byte, tensor.Bytes)); err != nil {
				require.ErrorContains(t, err, quote(tensor.Name))
				return err
			}
		}
		return nil
	}
	for name, files := range map[string]map[string][]byte{
		"single": {singleFile: twoTensors()},
		"sharded": {"a": twoTensors(), "b": safetensors(`{"t":{`+good+`}}`, 4), indexFile: []byte(
			`{"weight_map":{"t":"b","model.norm.weight":"a","model.embed_tokens.weight":"a"}}`)},
	} {
		healthy := &memFolder{files: files}
		require.NoError(t, load(healthy))
		require.Greater(t, healthy.turns, 8)
		for fail := 1; fail <= healthy.turns; fail++ {
			for _, how := range []fault{failing, short, truncated} {
				folder := &memFolder{files: files, fail: fail, how: how}
				err := load(folder)
				if how != failing && !folder.hit {
					require.NoError(t, err) // the turn was not a read
					continue
				}
				require.Error(t, err, "%s: call %d of %d", name, fail, healthy.turns)
				require.Regexp(t, `^(model\.safetensors|model\.safetensors\.index\.json|a|b): |^input/output error$`, err.Error())
				require.Zero(t, folder.open, "%s: call %d: %v", name, fail, err)
			}
		}
	}
}

// changing is a File that is another one after its header was read.
type changing struct {
	*memFile
	reads int
	at    int // the read after which it changes
	apply func(*memFile)
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.memFile.ReadAt(p, off)
	if c.reads++; c.reads == c.at {
		c.apply(c.memFile)
	}
	return n, err
}

type changingFolder struct {
	*memFolder
	at    int
	apply func(*memFile)
}

func (c changingFolder) Open(name string) (File, error) {
	f, err := c.memFolder.Open(name)
	if err != nil {
		return nil, err
	}
	return &changing{f.(*memFile), 0, c.at, c.apply}, nil
}

func TestFileThatChangesWhileLoading(t *testing.T) {
	for name, apply := range map[string]func(*memFile){
		"grows":     func(f *memFile) { f.data = append(bytes.Clone(f.data), 0) },
		"shrinks":   func(f *memFile) { f.data = f.data[:len(f.data)-1] },
		"rewritten": func(f *memFile) { f.time = time.Unix(1, 0) },
	} {
		m, err := OpenFolder(changingFolder{&memFolder{files: map[string][]byte{singleFile: twoTensors()}}, 3, apply}) // length, header, data
		require.NoError(t, err)
		tensor := m.Tensors[0]
		require.EqualError(t, m.ReadTensor(tensor, make([]byte, tensor.Bytes)),
			`model.safetensors: read tensor "model.embed_tokens.weight": the file changed while it was being read`, name)
	}
}

func TestReadTensorFromManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, singleFile), twoTensors(), 0o644))
	m, err := Open(dir)
	require.NoError(t, err)
	var wait sync.WaitGroup
	errs := make(chan error, 64)
	for i := range 64 {
		wait.Go(func() {
			tensor := m.Tensors[i%2]
			errs <- m.ReadTensor(tensor, make([]byte, tensor.Bytes))
		})
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, m.Close())
}

func TestDirRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o755))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	for name, want := range map[string]string{
		"folder":    "is not a regular file",
		"fifo":      "is not a regular file", // and does not hang
		"../x":      "is a path",
		"x\x1b[31m": "control character",
		"\xff":      "is not valid UTF-8",
	} {
		_, err := Dir(dir).Open(name)
		require.ErrorContains(t, err, want)
	}
}

func TestFormatErrorCutsLongNames(t *testing.T) {
	err := &FormatError{"f", strings.Repeat("é", 100), "shape", "is odd"}
	require.Equal(t, `f: tensor "`+strings.Repeat("é", 60)+`"… (200 bytes): shape: is odd`, err.Error())
	err.Tensor = "a" + err.Tensor // the cut falls inside a letter
	require.Equal(t, `f: tensor "a`+strings.Repeat("é", 59)+`"… (201 bytes): shape: is odd`, err.Error())
}

func TestWriteLaysOutAsTheRustCrate(t *testing.T) {
	var b bytes.Buffer
	tensors := []Tensor{{Name: "b", Dtype: F16, Shape: []int{1}}, {Name: "a", Dtype: F16, Shape: []int{2}},
		{Name: "c", Dtype: I64}, {Name: "d", Dtype: U8, Shape: []int{3}}, {Name: "e", Dtype: U32, Shape: []int{0, 7}}}
	var order []string
	err := Write(&b, nil, tensors, func(t Tensor, w io.Writer) error {
		order = append(order, t.Name)
		_, err := w.Write(make([]byte, t.Bytes))
		return err
	})
	require.NoError(t, err)
	require.Equal(t, []string{"c", "e", "a", "b", "d"}, order)
	require.Zero(t, (b.Len()-17)%8, "the data begin at a multiple of 8")
	m, err := OpenFolder(&memFolder{files: map[string][]byte{singleFile: b.Bytes()}})
	require.NoError(t, err)
	require.Len(t, m.Tensors, 5)
	require.Empty(t, tensors[0].Bytes, "the caller's tensors are left alone")
}

// full is a disk with room for some bytes.
type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	fine := func(t Tensor, w io.Writer) error { _, err := w.Write(make([]byte, t.Bytes)); return err }
	huge := make([]Tensor, 17) // of 2^59 bytes each
	for i := range huge {
		huge[i] = Tensor{Name: string(rune('a' + i)), Dtype: U8, Shape: []int{1 << 30, 1 << 29}}
	}
	many := make([]Tensor, 13000)
	for i := range many {
		many[i] = Tensor{Name: strings.Repeat("\u2028", 330) + strconv.Itoa(i), Dtype: U8, Shape: []int{0}}
	}
	for want, c := range map[string]struct {
		tensors []Tensor
		data    func(Tensor, io.Writer) error
	}{
		`tensor name "" is empty`:                                            {[]Tensor{{Dtype: F16}}, fine},
		`tensor "t": unknown type "Q4"`:                                      {[]Tensor{{Name: "t", Dtype: "Q4"}}, fine},
		`tensor "t": appears twice`:                                          {[]Tensor{{Name: "t", Dtype: F16}, {Name: "t", Dtype: F16}}, fine},
		`tensor "t": [3] of F4 is not a whole number of bytes`:               {[]Tensor{{Name: "t", Dtype: F4, Shape: []int{3}}}, fine},
		`tensor "p": brings the file to more than 9223372036854775807 bytes`: {huge, fine},
		`tensor "t": 2 of 2 bytes were not written`:                          {[]Tensor{{Name: "t", Dtype: F16}}, func(Tensor, io.Writer) error { return nil }},
		`tensor "t": 1 bytes too many`: {[]Tensor{{Name: "t", Dtype: F16}}, func(_ Tensor, w io.Writer) error {
			_, err := w.Write(make([]byte, 3))
			return err
		}},
	} {
		require.EqualError(t, Write(io.Discard, nil, c.tensors, c.data), want)
	}
	require.ErrorContains(t, Write(io.Discard, nil, many, fine), "at most 26214400 can be read back")
	room := full(100)
	err := Write(&room, nil, []Tensor{{Name: "t", Dtype: U8, Shape: []int{1 << 22}}}, fine)
	require.ErrorIs(t, err, syscall.ENOSPC)
	room = full(10)
	require.ErrorIs(t, Write(&room, nil, []Tensor{{Name: "t", Dtype: U8}}, fine), syscall.ENOSPC)
}

// copyFrom is the data function of Write that copies the tensors of m.
func copyFrom(m *Model) func(Tensor, io.Writer) error {
	return func(t Tensor, w io.Writer) error {
		source, _ := m.Tensor(t.Name)
		data := make([]byte, source.Bytes)
		if err := m.ReadTensor(source, data); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
}
