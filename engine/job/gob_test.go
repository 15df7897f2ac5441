package job

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// types are a value of each type of the package, as it is handed over.
// TestEveryTypeIsInTheTable sees that none is left out.
var types = []any{
	Background, Request{}, Sampling{}, LogitBias{}, Logprobs{}, Logprob{}, NoConstraint, Constraint{}, Queued, Event{}, StopEOS, Result{}, Usage{}, Stats{},
	Unloaded, Model{}, Progress{}, Ending(""), &ModelNotFoundError{}, &LoadError{}, &ContextOverflowError{}, &MemoryError{}, &RequestError{},
	&UnsupportedError{}, &EngineError{}, &ConstraintStats{},
}

func TestEveryTypeIsInTheTable(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	declared, listed := map[string]bool{}, map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				declared[spec.Name.Name] = true
			}
			return true
		})
	}
	for _, v := range types {
		listed[reflect.Indirect(reflect.ValueOf(v)).Type().Name()] = true
	}
	require.Equal(t, slices.Sorted(maps.Keys(declared)), slices.Sorted(maps.Keys(listed)))
}

// fill sets v and all within it to something that is not zero.
func fill(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			require.True(t, v.Type().Field(i).IsExported(), "%s has a field that gob does not see", v.Type())
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.String:
		v.SetString("some " + v.Type().Name())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7 + int64(v.Type().Size()))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(9)
	case reflect.Float32:
		v.SetFloat(0.25)
	default:
		require.Fail(t, "no plain data", "%s", v.Type())
	}
	require.False(t, v.IsZero(), v.Type())
}

// trip takes v through gob, as the value of an interface.
func trip(t *testing.T, v any) any {
	gob.Register(v)
	var b bytes.Buffer
	require.NoError(t, gob.NewEncoder(&b).Encode(&v))
	var got any
	require.NoError(t, gob.NewDecoder(&b).Decode(&got))
	return got
}

func TestTypesSurviveGob(t *testing.T) {
	for _, zero := range types {
		v := reflect.New(reflect.TypeOf(zero)).Elem()
		require.Equal(t, zero, trip(t, zero))
		fill(t, v)
		require.Equal(t, v.Interface(), trip(t, v.Interface()))
	}
}

// TestErrorsSurviveGob has a caller branch on what was decoded as on what was
// encoded.
func TestErrorsSurviveGob(t *testing.T) {
	all := []error{ErrCancelled, ErrUnloaded, ErrClosed}
	for i, err := range all {
		got, ok := trip(t, err).(error)
		require.True(t, ok)
		for k, other := range all {
			require.Equal(t, i == k, errors.Is(fmt.Errorf("load model: %w", got), other))
		}
	}
	var load *LoadError
	got, ok := trip(t, &LoadError{Model: "m", Cause: "torn", NeededBytes: 2}).(error)
	require.True(t, ok)
	require.ErrorAs(t, got, &load)
	require.EqualError(t, got, `load model "m": torn`)
}
