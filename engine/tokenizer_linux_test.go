package engine

import (
	flags "flag"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const shortText = 256 << 10

var encodeBytes = flags.Int("encodebytes", shortText, "the longest text of TestP3EncodingIsLinear")

// threadTime is the processor time that this thread has had. Others on the machine
// do not count.
func threadTime(t *testing.T) time.Duration {
	var u unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestP3EncodingIsLinear encodes texts that are hard on tokenizers, of n and of 4n
// bytes. Twice the text may take 2.3 times the time, and so four times the text
// 5.3 times, which make tokenizer-long demands up to 4 MiB. Here, on short texts
// beside other tests, it is half of what quadratic work would take.
//
// Planted break: an Encode that encodes all halves of its text first.
func TestP3EncodingIsLinear(t *testing.T) {
	most := 8.0
	if *encodeBytes > shortText {
		most = 2.3 * 2.3
	}
	tokenizer := defaultTokenizer(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for name, unit := range map[string]string{
		"one letter": "a", "spaces": " ", "newlines": "\n", "CJK": "中", "emoji": "😀", "joined emoji": "👩‍👩‍👧‍👦", "marks": "e\u0301",
		"digits": "7", "apostrophes": "'", "words": "The quick brown fox. ", "special tokens": "<|im_start|>", "parts of them": "<|im_",
	} {
		encode := func(n int) time.Duration {
			text := strings.Repeat(unit, n/len(unit))
			start := threadTime(t)
			ids, err := tokenizer.Encode(text, true)
			took := threadTime(t) - start
			require.NoError(t, err)
			require.NotEmpty(t, ids)
			return took
		}
		for n := *encodeBytes / 4; n >= 64<<10; n /= 4 {
			// The fastest of some: others on the machine take caches and memory away.
			// What is not linear stays so however often it is tried.
			short, long, ratio := time.Hour, time.Hour, 0.0
			for tries := 0; tries < 1 || ratio > most && tries < 20; tries++ {
				short, long = min(short, encode(n), encode(n)), min(long, encode(4*n))
				ratio = float64(long) / float64(short)
			}
			t.Logf("%-14s %7d bytes %s, %7d bytes %s: %.2f", name, n, short, 4*n, long, ratio)
			require.LessOrEqual(t, ratio, most, "%s: %d bytes took %s, %d took %s", name, n, short, 4*n, long)
		}
	}
}
