package job

import (
	"os"
	"testing"

	"harmonyd/engine/enginetest/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }
