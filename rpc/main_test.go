package rpc_test

import (
	"os"
	"testing"

	"harmonyd/engine/enginetest/leaks"
)

// TestMain fails where a test leaves a goroutine behind.
func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }
