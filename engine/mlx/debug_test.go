//go:build mlxdebug

package mlx

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each misuse gets a dead array, a closed scope and a Var that changed, and must
// panic. offThread runs it on a thread that does not own the arrays.
func TestE8PlantedMisusesPanic(t *testing.T) {
	s := open(t)
	var v Var
	v.Set(s.Ones(Float32, 2))
	defer v.Free()
	old := v.Array()
	v.Set(s.Zeros(Float32, 2))

	other := NewScope(Stream{})
	dead := other.Ones(Float32, 2)
	other.Close()
	reset := NewScope(Stream{})
	defer reset.Close()
	gone := reset.Ones(Float32, 2)
	reset.Reset()
	live := s.Ones(Float32, 2)
	var freed Var
	freed.Set(live)
	kept := freed.Array()
	freed.Free()

	for name, c := range map[string]struct {
		offThread bool
		want      string
		do        func()
	}{
		"operation after Close":       {false, "freed at", func() { s.Exp(dead) }},
		"second operand after Close":  {false, "freed at", func() { s.Add(live, dead) }},
		"operation after Reset":       {false, "freed at", func() { s.Exp(gone) }},
		"old value of a Var":          {false, "freed at", func() { s.Exp(old) }},
		"value of a freed Var":        {false, "freed at", func() { s.Exp(kept) }},
		"shape after Close":           {false, "freed at", func() { dead.Shape(nil) }},
		"dimension after Close":       {false, "freed at", func() { dead.Dim(0) }},
		"dtype after Close":           {false, "freed at", func() { dead.Dtype() }},
		"Eval after Close":            {false, "freed at", func() { _ = s.Eval(live, dead) }},
		"AsyncEval after Reset":       {false, "freed at", func() { _ = s.AsyncEval(gone) }},
		"read after Close":            {false, "freed at", func() { s.Float32s(dead, nil) }},
		"item after Close":            {false, "freed at", func() { s.ItemInt32(dead) }},
		"list operand after Close":    {false, "freed at", func() { s.Concatenate(0, live, dead) }},
		"Var.Set after Close":         {false, "freed at", func() { v.Set(dead) }},
		"operation of a closed scope": {false, "used after Close", func() { other.Exp(live) }},
		"error of a closed scope":     {false, "used after Close", func() { _ = other.Err() }},
		"operation off the thread":    {true, "off the engine thread", func() { s.Exp(live) }},
		"scope off the thread":        {true, "off the engine thread", func() { NewScope(Stream{}) }},
		"Close off the thread":        {true, "off the engine thread", func() { reset.Close() }},
		"Var.Set off the thread":      {true, "off the engine thread", func() { v.Set(live) }},
		"Var.Free off the thread":     {true, "off the engine thread", func() { v.Free() }},
		"shape off the thread":        {true, "off the engine thread", func() { live.Shape(nil) }},
		"read off the thread":         {true, "off the engine thread", func() { s.ItemInt32(live) }},
		"first operation, off thread": {true, "off the engine thread", func() { s.Ones(Float32, 1) }},
	} {
		message := caught(c.do, c.offThread)
		require.NotNil(t, message, name)
		require.Contains(t, message, c.want, name)
		require.Contains(t, message, "debug_test.go:", name)
		require.NoError(t, s.Err(), name)
	}
}

// caught returns what do panics with, run here or on a thread of its own.
func caught(do func(), offThread bool) (message any) {
	run := func() {
		defer func() { message = recover() }()
		do()
	}
	if !offThread {
		run()
		return message
	}
	done := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		run()
		close(done)
	}()
	<-done
	return message
}

func TestLeaksNameTheirLines(t *testing.T) {
	onEngine(t)
	require.Empty(t, Leaks())
	s := NewScope(Stream{})
	s.Ones(Float32, 2)
	sites := Leaks()
	require.Len(t, sites, 1)
	require.Regexp(t, `debug_test\.go:\d+$`, sites[0])
	s.Close()
	require.Empty(t, Leaks())
}
