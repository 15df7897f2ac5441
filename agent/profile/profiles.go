package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"harmonyd/schema"
)

// Profile is a named choice of a model and how to talk to it.
type Profile struct {
	// Name is its name in the file.
	Name string `json:"-"`
	// Model is the id or folder of the model.
	Model string `json:"model,omitempty"`
	// PromptConfig is the file of a prompt config.
	PromptConfig string `json:"prompt_config,omitempty"`
	// MaxContextTokens is the most that a prompt may be, in tokens.
	MaxContextTokens *int `json:"max_context_tokens,omitempty" jsonschema:"minimum=1,maximum=2147483647"`
}

// Profiles are those of a file.
type Profiles struct {
	file string
	all  map[string]Profile
}

// ReadProfiles reads a profiles file. Members that a profile does not have are warnings.
func ReadProfiles(file string, data []byte) (Profiles, []Problem, error) {
	r := reader{file: file, data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))}
	p := Profiles{file, map[string]Profile{}}
	r.members(func(name string, value json.RawMessage) {
		if name == "$schema" {
			return
		}
		one := Profile{Name: name}
		if value = bytes.TrimSpace(value); value[0] != '{' {
			r.fail("/"+name, "want an object")
			return
		}
		_ = schema.Scan(value, 32, func(key string, _ []byte) {
			if !slices.Contains([]string{"model", "prompt_config", "max_context_tokens"}, key) {
				r.complain("/"+name+"/"+key, "is no member of a profile; those are model, prompt_config and max_context_tokens")
			}
		})
		var bad *schema.Error
		if errors.As(schema.Decode(value, &one), &bad) {
			for _, e := range bad.Data.Errors {
				r.fail("/"+name+e.InstancePath, "%s", e.Message)
			}
		}
		one.Model, one.PromptConfig = home(one.Model), home(one.PromptConfig)
		p.all[name] = one
	})
	return p, r.warning, r.err()
}

// Named is the profile of a name.
func (p Profiles) Named(name string) (Profile, error) {
	one, ok := p.all[name]
	if !ok {
		return one, fmt.Errorf("%s: no profile %q; there are %q", p.file, name, p.Names())
	}
	return one, nil
}

// Names are the names of the profiles, sorted.
func (p Profiles) Names() []string { return slices.Sorted(maps.Keys(p.all)) }

// home puts the user's folder in the place of a ~ at the beginning of a path.
func home(path string) string {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || rest != "" && rest[0] != '/' {
		return path
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(dir, rest)
}

// Find is where a prompt config or a profiles file is: at an absolute path as it is, else
// where it exists first of the current folder and the folders given, else unchanged.
func Find(name string, folders ...string) string {
	name = home(name)
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	for _, folder := range append([]string{""}, folders...) {
		if st, err := os.Stat(filepath.Join(folder, name)); err == nil && !st.IsDir() {
			return filepath.Join(folder, name)
		}
	}
	return name
}

// LoadConfig reads the prompt config of a file, see ReadConfig and Find.
func LoadConfig(name string, folders ...string) (Config, []Problem, error) {
	file := Find(name, folders...)
	data, err := read("prompt config", file, folders)
	if err != nil {
		return Config{}, nil, err
	}
	return ReadConfig(file, data)
}

// LoadProfiles reads a profiles file, see ReadProfiles and Find.
func LoadProfiles(name string, folders ...string) (Profiles, []Problem, error) {
	file := Find(name, folders...)
	data, err := read("profiles", file, folders)
	if err != nil {
		return Profiles{}, nil, err
	}
	return ReadProfiles(file, data)
}

// maxFile bounds a file of settings.
const maxFile = 16 << 20

func read(what, file string, folders []string) ([]byte, error) {
	st, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(file) && len(folders) > 0:
		return nil, fmt.Errorf("%s %s: there is no such file, neither here nor in %s", what, file, strings.Join(folders, ", "))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	case !st.Mode().IsRegular(): // it may have no end, or never begin
		return nil, fmt.Errorf("%s %s: is no regular file; give a file", what, file)
	case st.Size() > maxFile:
		return nil, fmt.Errorf("%s %s: has %d bytes, more than %d", what, file, st.Size(), maxFile)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return data, nil
}
