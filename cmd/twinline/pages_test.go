package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/serial"
)

// TestTheDevicesOfThePagesAreRight validates what the pages tell people to copy.
func TestTheDevicesOfThePagesAreRight(t *testing.T) {
	pages, err := filepath.Glob("../../docs/profiles/*.md")
	require.NoError(t, err)
	require.Len(t, pages, len(serial.ProfileNames())+1, "a page for each profile, and their list")
	for _, page := range append(pages, "../../docs/tutorial-serial.md", "../../README.md") {
		t.Run(filepath.Base(page), func(t *testing.T) {
			text, err := os.ReadFile(page)
			require.NoError(t, err)
			blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
			if filepath.Base(page) == "README.md" && len(blocks) == 0 {
				return // the list of the profiles
			}
			require.NotEmpty(t, blocks)
			for _, block := range blocks {
				file := filepath.Join(t.TempDir(), "device.yaml")
				require.NoError(t, os.WriteFile(file, block[1], 0o600))
				var out bytes.Buffer
				require.Equal(t, app.ExitOK, run(t.Context(), []string{"validate", file}, &out, &out), out.String())
			}
		})
	}
}
