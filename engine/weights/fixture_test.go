package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"time"
)

// memFolder is a Folder in memory. Every call on it or its files takes a turn;
// the turn numbered fail, from 1, gives errFault instead.
type memFolder struct {
	files map[string][]byte
	turns int
	fail  int
	how   fault
	open  int  // files open now
	hit   bool // the turn was a read of at least one byte
}

type fault int

const (
	failing   fault = iota // the call returns errFault
	short                  // a read returns fewer bytes than asked for
	truncated              // the file is cut before the read
)

var errFault = errors.New("input/output error")

func (m *memFolder) turn() bool {
	m.turns++
	return m.turns == m.fail
}

func (m *memFolder) Open(name string) (File, error) {
	if m.turn() && m.how == failing {
		return nil, errFault
	}
	data, ok := m.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	m.open++
	return &memFile{folder: m, name: name, data: data}, nil
}

type memFile struct {
	folder *memFolder
	name   string
	data   []byte
	time   time.Time
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if f.folder.turn() {
		f.folder.hit = len(p) > 0
		switch f.folder.how {
		case short:
			p = p[:len(p)/2]
			n, err := bytes.NewReader(f.data).ReadAt(p, off)
			return n, err
		case truncated:
			f.data = f.data[:min(off, int64(len(f.data)))]
		default:
			return 0, errFault
		}
	}
	return bytes.NewReader(f.data).ReadAt(p, off)
}

func (f *memFile) Close() error {
	f.folder.open--
	if f.folder.turn() && f.folder.how == failing {
		return errFault
	}
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	if f.folder.turn() && f.folder.how == failing {
		return nil, errFault
	}
	return memInfo{f.name, int64(len(f.data)), f.time}, nil
}

type memInfo struct {
	name string
	size int64
	time time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return 0o644 }
func (i memInfo) ModTime() time.Time { return i.time }
func (i memInfo) IsDir() bool        { return false }
func (i memInfo) Sys() any           { return nil }

// safetensors assembles a file from the text of its header and the size of its
// data.
func safetensors(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	return append(b, make([]byte, data)...)
}

// twoTensors is a small valid file with metadata.
func twoTensors() []byte {
	var b bytes.Buffer
	err := Write(&b, map[string]string{"format": "mlx"}, []Tensor{
		{Name: "model.norm.weight", Dtype: F16, Shape: []int{3}},
		{Name: "model.embed_tokens.weight", Dtype: F32, Shape: []int{2, 3}},
	}, func(t Tensor, w io.Writer) error {
		_, err := w.Write(bytes.Repeat([]byte{byte(t.Bytes)}, int(t.Bytes)))
		return err
	})
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}
