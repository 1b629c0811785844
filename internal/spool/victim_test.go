package spool

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// background is the context of the victim process, which has no test.
func background() context.Context { return context.Background() }

// killAfter kills the victim when it has stored n records, and returns the
// highest number it said it had stored.
func killAfter(t *testing.T, cmd *exec.Cmd, out io.Reader, n int) (highest uint64) {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "stored ")
		require.True(t, ok, lines.Text())
		number, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			break // the line was cut by the kill
		}
		highest = max(highest, number)
		if n--; n == 0 {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait()
	return highest
}
