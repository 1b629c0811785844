package simulator_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/internal/simulator"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// boiler is a device with an input register and a writable setpoint.
func boiler(name, url string, unit int) twin.Device {
	return twin.Device{
		ID: twin.DeviceID{Namespace: "default", Name: name}, Protocol: "modbus",
		Config: map[string]any{"url": url, "unitId": unit},
		Properties: []twin.Property{
			{Name: "level", Type: twin.TypeInt, Visitor: map[string]any{"register": "input", "address": 0, "type": "uint16"}},
			{Name: "setpoint", Type: twin.TypeFloat, Writable: true, Visitor: map[string]any{"register": "holding", "address": 10, "type": "float32"}},
		},
	}
}

// freeAddress returns an address of this machine that nothing else uses: all of
// 127.0.0.0/8 is the loopback, and outgoing connections take ports of 127.0.0.1 only.
func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.%d.%d.%d:1502", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
}

func start(t *testing.T, script simulator.Script, devices ...twin.Device) *simulator.Simulator {
	t.Helper()
	s, problems := simulator.New(devices, script, slog.New(slog.DiscardHandler))
	require.Empty(t, problems)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(s.Stop)
	return s
}

func TestOneLineCarriesSeveralUnits(t *testing.T) {
	address := freeAddress(t)
	s := start(t, simulator.Script{}, boiler("a", "tcp://"+address, 1), boiler("b", "tcp://"+address, 2))
	b := s.Unit(twin.DeviceID{Namespace: "default", Name: "b"})
	require.True(t, b.Set("level", twin.IntValue(77)))
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	reply := exchange(t, conn, []byte{0, 9, 0, 0, 0, 6, 2, 4, 0, 0, 0, 1}, 11)
	require.Equal(t, []byte{0, 9, 0, 0, 0, 5, 2, 4, 2, 0, 77}, reply)
	require.Equal(t, uint64(1), b.Requests())
}

func TestASerialLineIsAPseudoTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "line", "rtu0")
	s := start(t, simulator.Script{}, boiler("a", "rtu://"+path+"?baud=9600", 3))
	s.Unit(twin.DeviceID{Namespace: "default", Name: "a"}).Set("level", twin.IntValue(5))
	port, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	reply := exchange(t, port, []byte{3, 4, 0, 0, 0, 1, 0x30, 0x28}, 7)
	require.Equal(t, []byte{3, 4, 2, 0, 5}, reply[:5])
	require.NoError(t, port.Close())
	s.Stop()
	require.NoFileExists(t, path)
}

func TestAKilledClientLocksNobodyOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rtu0")
	start(t, simulator.Script{}, boiler("a", "rtu://"+path, 1))
	port, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetInt(int(port.Fd()), unix.TIOCEXCL, 0))
	require.NoError(t, port.Close()) // without TIOCNXCL
	port, err = os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err) // root may always
	defer func() { require.NoError(t, port.Close()) }()
	require.Eventually(t, func() bool {
		locked, err := unix.IoctlGetInt(int(port.Fd()), unix.TIOCGEXCL)
		return err == nil && locked == 0
	}, 10*time.Second, 50*time.Millisecond)
}

func TestALineIsNotTakenFromSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	s, problems := simulator.New([]twin.Device{boiler("a", "rtu://"+path, 3)}, simulator.Script{}, slog.New(slog.DiscardHandler))
	require.Empty(t, problems)
	require.ErrorContains(t, s.Start(t.Context()), "something else is there")
}

func TestFaultsOnTheWire(t *testing.T) {
	request := []byte{0, 9, 0, 0, 0, 6, 1, 4, 0, 0, 0, 1}
	whole := func(t *testing.T, r []byte) { t.Helper(); require.Len(t, r, 11) }
	tests := []struct {
		fault simulator.Fault
		check func(t *testing.T, reply []byte)
	}{
		{simulator.Fault{Do: simulator.WrongTransaction}, func(t *testing.T, r []byte) { t.Helper(); require.NotEqual(t, uint16(9), binary.BigEndian.Uint16(r)) }},
		{simulator.Fault{Do: simulator.WrongUnit}, func(t *testing.T, r []byte) { t.Helper(); require.Equal(t, byte(2), r[6]) }},
		{simulator.Fault{Do: simulator.Corrupt}, func(t *testing.T, r []byte) { t.Helper(); require.NotZero(t, binary.BigEndian.Uint16(r[2:])) }},
		{simulator.Fault{Do: simulator.Split, Delay: simulator.Duration(time.Millisecond)}, whole},
		{simulator.Fault{Do: simulator.Late, Delay: simulator.Duration(time.Millisecond)}, whole},
		{simulator.Fault{Do: simulator.Close}, func(t *testing.T, r []byte) { t.Helper(); require.Empty(t, r) }},
	}
	for _, tt := range tests {
		t.Run(tt.fault.Do, func(t *testing.T) {
			address := freeAddress(t)
			start(t, simulator.Script{Devices: map[string]simulator.DeviceScript{"default/a": {Faults: []simulator.Fault{tt.fault}}}}, boiler("a", "tcp://"+address, 1))
			conn, err := net.Dial("tcp", address)
			require.NoError(t, err)
			defer conn.Close()
			_, err = conn.Write(request)
			require.NoError(t, err)
			reply := make([]byte, 11)
			n, _ := io.ReadFull(conn, reply)
			tt.check(t, reply[:n])
		})
	}
}

func TestMistakesAreNamed(t *testing.T) {
	d, other, foreign := boiler("a", "tcp://127.0.0.1:5020", 1), boiler("b", "tcp://127.0.0.1:5020", 1), boiler("c", "tcp://127.0.0.1:5021", 1)
	foreign.Protocol = "opcua"
	_, problems := simulator.New([]twin.Device{d, other, foreign}, simulator.Script{Devices: map[string]simulator.DeviceScript{
		"default/a": {Properties: map[string]simulator.Wave{"lvl": {Wave: "sine"}}}, "default/z": {},
	}}, slog.New(slog.DiscardHandler))
	var texts []string
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	require.Len(t, texts, 4)
	require.Contains(t, texts[0], "properties.lvl: the device has no such property")
	require.Contains(t, texts[1], "unit 1 on tcp://127.0.0.1:5020 is already default/a")
	require.Contains(t, texts[2], "only modbus and serial can")
	require.Contains(t, texts[3], "spec.devices[default/z]: no such Device")
}

func TestTheSimulatorKeepsTheServiceContract(t *testing.T) {
	s, problems := simulator.New([]twin.Device{
		boiler("a", "tcp://"+freeAddress(t), 1), boiler("b", "rtuovertcp://"+freeAddress(t), 1), boiler("c", "rtu://"+filepath.Join(t.TempDir(), "rtu"), 1),
	}, simulator.Script{}, slog.New(slog.DiscardHandler))
	require.Empty(t, problems)
	servicetest.Stress(t, s)
}

func exchange(t *testing.T, port io.ReadWriter, request []byte, length int) []byte {
	t.Helper()
	_, err := port.Write(request)
	require.NoError(t, err)
	reply := make([]byte, length)
	_, err = io.ReadFull(port, reply)
	require.NoError(t, err)
	return reply
}
