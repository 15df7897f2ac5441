package profile

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"harmonyd/schema"
)

// Key is a key of a prompt config.
type Key struct {
	Name string
	When schema.SettingWhen
	// Default says in words what counts where no one has a value.
	Default string
	// Refused says why the key has no effect; empty where it has.
	Refused string

	index int // of the field
	typ   reflect.Type
}

// keys are those of Config, in its order.
var keys = func() (all []Key) {
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		k := Key{name, schema.SettingWhen(f.Tag.Get("when")), f.Tag.Get("default"), f.Tag.Get("refused"), i, f.Type}
		if k.typ.Kind() == reflect.Pointer {
			k.typ = k.typ.Elem()
		}
		all = append(all, k)
	}
	return all
}()

// Keys lists all keys.
func Keys() []Key { return slices.Clone(keys) }

func keyNamed(name string) (Key, bool) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return keys[i], true
}

// has reports whether c has a value for a key.
func (c *Config) has(k Key) bool { return !reflect.ValueOf(c).Elem().Field(k.index).IsNil() }

// value is the value of a key, which c has, as JSON.
func (k Key) value(c *Config) json.RawMessage {
	text, err := schema.Encode(reflect.ValueOf(c).Elem().Field(k.index).Interface())
	if err != nil {
		panic(err) // numbers and texts that were read from JSON
	}
	return text
}

// take takes the value of a key from another config.
func (c *Config) take(k Key, from *Config) {
	reflect.ValueOf(c).Elem().Field(k.index).Set(reflect.ValueOf(from).Elem().Field(k.index))
}

// Merge returns c with the values that other has put in the place of c's.
func (c Config) Merge(other Config) Config {
	for _, k := range keys {
		if other.has(k) {
			c.take(k, &other)
		}
	}
	return c
}

// near is the key that a mistyped name may mean, or "".
func near(name string) string {
	if len(name) > 64 { // longer than all keys
		return ""
	}
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(s))
	}
	best, least := "", 3
	for _, k := range keys {
		if d := distance(plain(name), plain(k.Name)); d < least {
			best, least = k.Name, d
		}
	}
	return best
}

// distance is how many letters must be put in, left out or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
