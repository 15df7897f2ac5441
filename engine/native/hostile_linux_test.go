package native

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// residentMiB is a line of /proc/self/status.
func residentMiB(t *testing.T, name string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			var kib int
			_, err := fmt.Sscan(rest, &kib)
			require.NoError(t, err)
			return kib >> 10
		}
	}
	require.Fail(t, "no "+name)
	return 0
}

// TestHostileTemplatesStayBelow64MiB, each of them, with all that compiling and the stack
// of a deep expression take.
func TestHostileTemplatesStayBelow64MiB(t *testing.T) {
	most, worst := 0, ""
	for _, source := range hostileTemplates() {
		debug.FreeOSMemory()
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // resets VmHWM
			t.Skipf("this kernel does not let a process forget its peak: %v", err)
		}
		before := residentMiB(t, "VmRSS")
		if tmpl, err := CompileTemplate(source, TemplateOptions{Now: clock}); err == nil {
			_, err = tmpl.Render([]byte(`{"messages": []}`), time.Time{})
			require.Error(t, err)
			tmpl.Close()
		}
		if took := residentMiB(t, "VmHWM") - before; took > most {
			most, worst = took, source
		}
	}
	require.LessOrEqual(t, most, 64, "%.100s", worst)
	t.Logf("at most %d MiB, for %.40q", most, worst)
}
