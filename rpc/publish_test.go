package rpc_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc"
)

func TestSchemaIsFresh(t *testing.T) {
	got, err := rpc.Schema()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("testdata/schema.json", got, 0o644))
	}
}
