package weights

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	flags "flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/mutate"
)

var (
	referee = flags.String("referee", "", "the program of testdata/differential, to ask it and not its recorded verdicts")
	record  = flags.Bool("record", false, "write the verdicts of -referee to "+verdictsFile)
)

// verdictsFile holds what the Rust crate said of the first mutants: the SHA-256
// of the files and a bit for each, in hexadecimal.
const (
	verdictsFile = "testdata/verdicts.txt"
	verdicts     = 4096
)

// strictness lists, by what our error says, the files that the Rust crate reads
// and we refuse: what nobody writes and what another reader would take for
// something else.
var strictness = []struct{ why, reason string }{
	{namesTwice, `appears twice`}, // also where the first of the two is wrong in itself
	{"members of an entry that the format does not have", `unknown field`},
	{"names that are empty or hold control characters", `tensor name .*(is empty|holds the control character)`},
	{"a file without tensors", `holds no tensors`},
	{"dimensions that MLX cannot index, beside a 0", `dimension \d+ is more than|shape: .*number ".*" is out of range`},
	{"no metadata, said as null", `__metadata__: byte \d+: found 'n', want '{'`},
}

const namesTwice = "a name that stands twice: the crate keeps the last"

// strictClass finds the class of a file that only we refuse, "" where none is
// listed.
func strictClass(file []byte, err error) string {
	if twice(file) {
		return namesTwice
	}
	for _, s := range strictness {
		if regexp.MustCompile(s.reason).MatchString(err.Error()) {
			return s.why
		}
	}
	return ""
}

// twice reports whether a name stands twice in a header of valid JSON.
func twice(file []byte) bool {
	d := json.NewDecoder(bytes.NewReader(file[8:]))
	_, err := d.Token() // the brace
	seen := map[any]bool{}
	for err == nil && d.More() {
		var name any
		if name, err = d.Token(); seen[name] {
			return true
		}
		seen[name] = true
		var value json.RawMessage
		err = errors.Join(err, d.Decode(&value))
	}
	return false
}

// TestDifferential reads mutants and asks the Rust crate safetensors, whose
// verdicts on the first of them are recorded, about the same. Nothing may be
// accepted that it refuses; what is refused that it accepts is of a class that
// strictness lists. make differential asks the crate itself about a million.
//
// Planted break: a reader that takes a tensor's place for its size.
func TestDifferential(t *testing.T) {
	count := verdicts
	if *referee != "" {
		count = max(*mutantCount, verdicts)
	}
	accepts, digest := ours(count)
	var theirs []byte
	if *referee != "" {
		theirs = ask(t, count)
		if *record {
			text := fmt.Sprintf("%x\n%s\n", digest, hex.EncodeToString(bitmap(theirs[:verdicts])))
			require.NoError(t, os.WriteFile(verdictsFile, []byte(text), 0o644))
		}
	} else {
		theirs = recorded(t, digest)
	}
	classes, unlisted := map[string]int{}, map[string]int{}
	both := 0
	for seed, err := range accepts {
		switch {
		case err == nil && theirs[seed] == 0:
			require.Fail(t, "accepted what the crate refuses", "seed %d: %q", seed, safetensorsMutant(mutate.Seeded(uint64(seed), nil)))
		case err == nil:
			both++
		case theirs[seed] == 1:
			class := strictClass(safetensorsMutant(mutate.Seeded(uint64(seed), nil)), err)
			if class == "" {
				unlisted[placeholders.ReplaceAllString(err.Error(), "_")] = seed
			}
			classes[class]++
		}
	}
	require.Empty(t, unlisted, "stricter than the crate for no listed reason: the error and a seed")
	require.Greater(t, both, count/10)
	t.Logf("%d mutants, %d accepted by both, none by us alone; refused by us alone:", count, both)
	for _, s := range strictness {
		t.Logf("%7d  %s", classes[s.why], s.why)
	}
}

// ours reads the mutants and returns the errors, nil for those accepted, and the
// digest of the first of the files.
func ours(count int) (errs []error, digest []byte) {
	hash, room := sha256.New(), make([]byte, 0, 512)
	for seed := range uint64(count) {
		file := safetensorsMutant(mutate.Seeded(seed, room))
		if seed < verdicts {
			_, _ = hash.Write(file)
		}
		m, err := OpenFolder(&memFolder{files: map[string][]byte{singleFile: file}})
		if err == nil {
			err = m.Close()
		}
		errs = append(errs, err)
	}
	return errs, hash.Sum(nil)
}

// ask gives the mutants to the crate. It answers a byte for each.
func ask(t *testing.T, count int) []byte {
	cmd := exec.Command(*referee)
	var answers bytes.Buffer
	cmd.Stdout = &answers
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	out, room := bufio.NewWriterSize(in, 1<<20), make([]byte, 0, 512)
	for seed := range uint64(count) {
		file := safetensorsMutant(mutate.Seeded(seed, room))
		_, _ = out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(file)))) // Flush tells
		_, _ = out.Write(file)
	}
	require.NoError(t, errors.Join(out.Flush(), in.Close(), cmd.Wait()))
	require.Equal(t, count, answers.Len())
	return answers.Bytes()
}

// recorded returns the verdicts on file, which must be about the same mutants.
func recorded(t *testing.T, digest []byte) []byte {
	text, err := os.ReadFile(verdictsFile)
	require.NoError(t, err)
	lines := strings.Fields(string(text))
	require.Len(t, lines, 2)
	require.Equal(t, hex.EncodeToString(digest), lines[0], "the mutants changed: run make differential")
	bits, err := hex.DecodeString(lines[1])
	require.NoError(t, err)
	all := make([]byte, verdicts)
	for i := range all {
		all[i] = bits[i/8] >> (i % 8) & 1
	}
	return all
}

// bitmap puts eight verdicts into a byte.
func bitmap(all []byte) []byte {
	bits := make([]byte, (len(all)+7)/8)
	for i, v := range all {
		bits[i/8] |= v << (i % 8)
	}
	return bits
}
