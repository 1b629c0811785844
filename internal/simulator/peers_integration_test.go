//go:build integration

package simulator_test

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/simulator"
	"github.com/twinline/twinline/pkg/twin"
)

// TestPymodbusAgrees and TestLibmodbusAgrees let clients of other hands read and write simulated devices.
func TestPymodbusAgrees(t *testing.T) {
	t.Attr("real", "pymodbus client of Debian")
	address, tty := peers(t)
	for _, where := range []string{address, tty} {
		runPeer(t, "/usr/bin/python3", "testdata/pymodbus_client.py", where)
	}
}

func TestLibmodbusAgrees(t *testing.T) {
	t.Attr("real", "libmodbus client of Debian")
	client := filepath.Join(t.TempDir(), "client")
	runPeer(t, "gcc", "-o", client, "-I/usr/include/modbus", "testdata/libmodbus_client.c", "-lmodbus")
	address, tty := peers(t)
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	runPeer(t, client, host, port)
	runPeer(t, client, tty)
}

// peers starts the same device over TCP and on a serial line.
func peers(t *testing.T) (address, tty string) {
	t.Helper()
	address, tty = freeAddress(t), filepath.Join(t.TempDir(), "rtu")
	a, b := boiler("a", "tcp://"+address, 1), boiler("b", "rtu://"+tty+"?baud=9600&parity=none&stop=1", 1)
	for _, d := range []*twin.Device{&a, &b} {
		d.Properties = append(d.Properties, twin.Property{Name: "pump", Type: twin.TypeBoolean, Writable: true, Visitor: map[string]any{"register": "coil", "address": 3}})
	}
	s := start(t, simulator.Script{}, a, b)
	for _, d := range []twin.Device{a, b} {
		require.True(t, s.Unit(d.ID).Set("level", twin.IntValue(4711)))
	}
	return address, tty
}

func runPeer(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
}
