package conversation

import (
	"fmt"
	"os"
	"testing"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/schema"
)

// childVariable makes the test binary a program that the tests of this package start:
// its value says which.
const childVariable = "HARMONYD_CONVERSATION_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "writer":
		os.Exit(writeForEver(os.Args[1], os.Args[2]))
	case "holder":
		os.Exit(hold(os.Args[1], os.Args[2]))
	}
	os.Exit(leaks.Run(m))
}

// said is the text of a test's n-th message: of different lengths, never the same.
func said(n int) string {
	text := fmt.Sprintf("message %d: ", n)
	for i := range n * 37 % 200 {
		text += string(rune('a' + (n+i)%26))
	}
	return text
}

// numbered are entries n to m-1 with ids that tell them apart.
func numbered(n, m int) []Entry {
	var all []Entry
	for ; n < m; n++ {
		e := Say(schema.RoleUser, said(n))
		e.ID = fmt.Sprintf("m%d", n)
		all = append(all, e)
	}
	return all
}
