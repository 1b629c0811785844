package docs

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/internal/serial"
)

var update = flag.Bool("update", false, "write docs/spec")

const spec = "../../../docs/spec"

func pages() []Page {
	return Pages(
		Protocol{Name: modbus.Protocol, Tables: []*schema.Table{modbus.DeviceTable(), modbus.VisitorTable()}},
		Protocol{Name: serial.Protocol, Tables: []*schema.Table{serial.DeviceTable(), serial.VisitorTable()}},
	)
}

// TestPagesAreUpToDate fails when a table has changed and docs/spec has not;
// `make generate`, or this test with -update, writes it.
func TestPagesAreUpToDate(t *testing.T) {
	dir := t.TempDir()
	if *update {
		dir = spec
	}
	cmd := NewCommand(pages())
	cmd.SetArgs([]string{"--output", dir})
	require.NoError(t, cmd.Execute())
	for _, p := range pages() {
		want, err := os.ReadFile(filepath.Join(dir, p.Name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(spec, p.Name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "docs/spec/%s is stale: run make generate", p.Name)
		for line := range strings.Lines(string(got)) {
			if strings.HasPrefix(line, "|") {
				cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
				require.Contains(t, []int{4, 5}, cells, line)
			}
		}
	}
}

func TestTheExampleOfReactionsIsOne(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, reaction(&b))
	_, text, _ := strings.Cut(b.String(), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	set, problems := rule.Decode("reaction.md", []byte(text))
	require.Empty(t, problems)
	require.Len(t, set.Rules, 1)
}

func TestStandardOutput(t *testing.T) {
	cmd := NewCommand(pages())
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{})
	require.NoError(t, cmd.Execute())
	require.Contains(t, out.String(), "# Declaring devices")
	require.Contains(t, out.String(), "# Reactions")
	cmd.SetArgs([]string{"x"})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	require.ErrorIs(t, cmd.Execute(), app.ErrConfig)
}
