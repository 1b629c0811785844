//go:build integration

package modbus

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// These tests run against servers that others wrote: Debian's python3-pymodbus
// and libmodbus-dev (with gcc), and socat for a serial line. A missing one is a failure.

// peer is how to start a server with the registers 0 to 499 of unit 7, each
// holding its address, in the tables holding and input, and coils of which every third is on.
type peer struct {
	tcp func(t *testing.T, port int) *exec.Cmd
	rtu func(t *testing.T, path string) *exec.Cmd
}

func peers(t *testing.T) map[string]peer {
	server := buildLibmodbusServer(t)
	script := filepath.Join(t.TempDir(), "server.py")
	require.NoError(t, os.WriteFile(script, []byte(pymodbusServer), 0o600))
	return map[string]peer{
		"pymodbus": {
			tcp: func(t *testing.T, port int) *exec.Cmd {
				return exec.CommandContext(t.Context(), "/usr/bin/python3", script, "tcp", fmt.Sprint(port))
			},
			rtu: func(t *testing.T, path string) *exec.Cmd {
				return exec.CommandContext(t.Context(), "/usr/bin/python3", script, "rtu", path)
			},
		},
		"libmodbus": {
			tcp: func(t *testing.T, port int) *exec.Cmd {
				return exec.CommandContext(t.Context(), server, "tcp", fmt.Sprint(port))
			},
			rtu: func(t *testing.T, path string) *exec.Cmd {
				return exec.CommandContext(t.Context(), server, "rtu", path)
			},
		},
	}
}

const pymodbusServer = `
import sys
from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartSerialServer, StartTcpServer
from pymodbus.transaction import ModbusRtuFramer

words = lambda: ModbusSequentialDataBlock(0, list(range(500)))
bits = lambda: ModbusSequentialDataBlock(0, [i % 3 == 0 for i in range(500)])
unit = ModbusSlaveContext(di=bits(), co=bits(), hr=words(), ir=words(), zero_mode=True)
context = ModbusServerContext(slaves={7: unit}, single=False)
if sys.argv[1] == "tcp":
    StartTcpServer(context=context, address=("127.0.0.1", int(sys.argv[2])))
else:
    StartSerialServer(context=context, framer=ModbusRtuFramer, port=sys.argv[2], baudrate=19200, timeout=0.005)
`

const libmodbusServer = `
#include <errno.h>
#include <modbus.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
	int tcp = argc == 3 && strcmp(argv[1], "tcp") == 0, socket = -1;
	modbus_t *ctx = tcp ? modbus_new_tcp("127.0.0.1", atoi(argv[2])) : modbus_new_rtu(argv[2], 19200, 'N', 8, 1);
	modbus_mapping_t *map = modbus_mapping_new(500, 500, 500, 500);
	uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
	if (!ctx || !map) return 1;
	modbus_set_slave(ctx, 7);
	for (int i = 0; i < 500; i++) {
		map->tab_registers[i] = map->tab_input_registers[i] = i;
		map->tab_bits[i] = map->tab_input_bits[i] = i % 3 == 0;
	}
	if (tcp && (socket = modbus_tcp_listen(ctx, 1)) < 0) return 2;
	for (;;) {
		if (tcp ? modbus_tcp_accept(ctx, &socket) < 0 : modbus_connect(ctx) < 0) return 3;
		for (;;) {
			int n = modbus_receive(ctx, query);
			if (n > 0) modbus_reply(ctx, query, n, map);
			else if (n < 0 && tcp) break;
		}
		modbus_close(ctx);
	}
}
`

func buildLibmodbusServer(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "server.c"), filepath.Join(dir, "server")
	require.NoError(t, os.WriteFile(source, []byte(libmodbusServer), 0o600))
	out, err := exec.CommandContext(t.Context(), "gcc", "-O1", "-I/usr/include/modbus", "-o", binary, source, "-lmodbus").CombinedOutput()
	require.NoError(t, err, "gcc with libmodbus-dev: %s", out)
	return binary
}

// start runs a program until the end of the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said: %s", cmd.Path, said.String())
		}
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// wire returns the two ends of a serial line.
func wire(t *testing.T) (near, far string) {
	t.Helper()
	dir := t.TempDir()
	near, far = filepath.Join(dir, "near"), filepath.Join(dir, "far")
	start(t, exec.CommandContext(t.Context(), "socat", "pty,raw,echo=0,link="+near, "pty,raw,echo=0,link="+far))
	require.Eventually(t, func() bool {
		_, err1 := os.Stat(near)
		_, err2 := os.Stat(far)
		return err1 == nil && err2 == nil
	}, 10*time.Second, 10*time.Millisecond, "socat makes the line")
	return near, far
}

func TestAgainstOtherServers(t *testing.T) {
	for name, p := range peers(t) {
		t.Run(name+" tcp", func(t *testing.T) {
			t.Attr("real", name+" server of Debian, Modbus TCP")
			port := freePort(t)
			start(t, p.tcp(t, port))
			exercise(t, fmt.Sprintf("tcp://127.0.0.1:%d", port))
		})
		t.Run(name+" rtu", func(t *testing.T) {
			t.Attr("real", name+" server of Debian, Modbus RTU on a pty of socat")
			near, far := wire(t)
			start(t, p.rtu(t, far))
			exercise(t, "rtu://"+near+"?baud=19200&parity=none")
		})
	}
}

// exercise reads and writes everything a driver can.
func exercise(t *testing.T, url string) {
	d := declare("peer", map[string]any{"url": url, "unitId": 7, "timeout": "500ms"})
	for i := range 60 { // beyond one request, with a gap before
		d.Properties = append(d.Properties, twin.Property{
			Name: fmt.Sprint("h", i), Type: twin.TypeInt,
			Visitor: map[string]any{"register": []string{"holding", "input"}[i%2], "address": 200 + 4*i, "type": "uint32"},
		})
		d.Properties = append(d.Properties, twin.Property{
			Name: fmt.Sprint("b", i), Type: twin.TypeBoolean,
			Visitor: map[string]any{"register": []string{"coil", "discrete"}[i%2], "address": 300 + i},
		})
	}
	d.Properties = append(d.Properties, twin.Property{Name: "beyond", Type: twin.TypeInt, Visitor: map[string]any{"register": "input", "address": 500}})
	conn := open(t, New(), d)
	var readings []twin.Reading
	names := make([]string, len(d.Properties))
	for i := range names {
		names[i] = d.Properties[i].Name
	}
	require.Eventually(t, func() bool {
		var err error
		readings, err = conn.Read(t.Context(), names)
		return err == nil && readings[3].Quality.IsGood()
	}, 20*time.Second, 50*time.Millisecond, "the server comes up")
	byName := map[string]twin.Reading{}
	for _, r := range readings {
		byName[r.Property] = r
	}
	for i := range 60 {
		require.Equal(t, own(200+4*i), byName[fmt.Sprint("h", i)].Value)
		require.Equal(t, twin.BoolValue(i%3 == 0), byName[fmt.Sprint("b", i)].Value)
	}
	require.Equal(t, twin.Quality("bad:exception-2"), byName["beyond"].Quality)
	for property, value := range map[string]twin.Value{
		"level": twin.FloatValue(-12.5), "total": twin.UintValue(1<<64 - 2), "flow": twin.FloatValue(20.1),
		"pump": twin.BoolValue(true), "alarm": twin.BoolValue(true), "name": twin.StringValue("boiler"), "raw": {},
	} {
		if property == "raw" {
			continue // beyond the peer's registers
		}
		for range 2 {
			held, err := conn.Write(t.Context(), property, value)
			require.NoError(t, err, property)
			require.Equal(t, value, held)
			got, err := conn.Read(t.Context(), []string{property})
			require.NoError(t, err)
			require.Equal(t, value, got[0].Value, property)
		}
	}
	_, err := conn.Write(t.Context(), "raw", twin.IntValue(1))
	require.True(t, mapper.Rejected(err), "%v", err)
	require.Equal(t, "exception-2", mapper.Reason(err))
}
