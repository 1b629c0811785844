package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: x}\nspec: {nodeName: n, protocol: {protocolName: modbus}}\n"), 0o600))
	tests := []struct {
		name string
		args []string
		code int
		says string
	}{
		{"help", []string{"--help"}, app.ExitOK, "simulate"},
		{"nothing", nil, app.ExitOK, "validate"},
		{"version", []string{"--version"}, app.ExitOK, app.Version},
		{"unknown command", []string{"simlate"}, app.ExitConfig, `unknown command "simlate"`},
		{"unknown flag", []string{"simulate", "--bogus"}, app.ExitConfig, "bogus"},
		{"simulate nothing", []string{"simulate"}, app.ExitConfig, "-f FILE"},
		{"simulate a missing file", []string{"simulate", "-f", filepath.Join(dir, "none.yaml")}, app.ExitConfig, "none.yaml"},
		{"simulate no device", []string{"simulate", "-f", bad}, app.ExitConfig, "deviceModelRef"},
		{"validate the example", []string{"validate", "../../examples/demo"}, app.ExitOK, "0 problems"},
		{"validate a mistake", []string{"validate", bad}, app.ExitConfig, "spec.deviceModelRef"},
		{"demo with a mistake", []string{"demo", "--listen", "nowhere"}, app.ExitConfig, `"nowhere", want host:port`},
		{"prepare nothing", []string{"prepare"}, app.ExitConfig, "at least one folder"},
		{"prepare", []string{"prepare", "--owner", "65532", filepath.Join(dir, "a", "b")}, app.ExitOK, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			code := run(t.Context(), tt.args, &out, &out)
			require.Equal(t, tt.code, code, out.String())
			require.Contains(t, out.String(), tt.says)
		})
	}
	require.DirExists(t, filepath.Join(dir, "a", "b"))
}
