package modbus

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/internal/modbus/modbustest"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// schemes are the transports with a peer on this machine.
func schemes() []modbus.Scheme { return []modbus.Scheme{modbus.TCP, modbus.RTUOverTCP, modbus.RTU} }

// serve starts a server and returns the URL of its line.
func serve(t *testing.T, s modbus.Scheme, server *modbustest.Server) string {
	t.Helper()
	if s != modbus.TCP {
		server.Framing = modbustest.RTU
	}
	if s.Serial() {
		path, stop, err := modbustest.PTY(server)
		require.NoError(t, err)
		t.Cleanup(stop)
		return "rtu://" + path + "?baud=115200"
	}
	host, err := modbustest.Listen(t.Context(), server)
	require.NoError(t, err)
	t.Cleanup(host.Close)
	return string(s) + "://" + host.Addr()
}

// registers declares a device with one uint32 at each address.
func registers(name, url string, unit int, addresses ...int) twin.Device {
	d := twin.Device{
		ID: twin.DeviceID{Namespace: "default", Name: name}, Protocol: "modbus",
		Config: map[string]any{"url": url, "unitId": unit, "timeout": "40ms", "retries": 0, "gap": 0},
	}
	for _, a := range addresses {
		d.Properties = append(d.Properties, twin.Property{
			Name: fmt.Sprint("r", a), Type: twin.TypeInt, Writable: true,
			Visitor: map[string]any{"register": "holding", "address": a, "type": "uint32"},
		})
	}
	return d
}

func open(t *testing.T, driver *Driver, d twin.Device) mapper.Conn {
	t.Helper()
	conn, problems := driver.Open(d)
	require.Empty(t, problems)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// own is what a register pair holds where each register holds its address.
func own(address int) twin.Value { return twin.IntValue(int64(address)<<16 | int64(address+1)) }

// The test that goburrow/modbus, grid-x/modbus and simonvetter/modbus fail: one late
// answer, and every value after it is the one before.
func TestAfterOneLateAnswerEveryValueIsStillRight(t *testing.T) {
	for _, s := range schemes() {
		t.Run(string(s), func(t *testing.T) {
			server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}}, Script: func(r modbustest.Request) modbustest.Fault {
				if r.N == 0 {
					return modbustest.Fault{Delay: 70 * time.Millisecond}
				}
				return modbustest.Fault{}
			}}
			conn := open(t, New(), registers("d", serve(t, s, server), 1, 100, 200, 300, 400))
			_, err := conn.Read(t.Context(), []string{"r100"})
			require.Error(t, err)
			require.Equal(t, "timeout", mapper.Reason(err))
			for range 5 {
				for _, address := range []int{200, 300, 400, 100} {
					name := fmt.Sprint("r", address)
					readings, err := conn.Read(t.Context(), []string{name})
					if err == nil {
						require.Equal(t, own(address), readings[0].Value)
					}
				}
			}
			require.Eventually(t, func() bool {
				readings, err := conn.Read(t.Context(), []string{"r100", "r200"})
				return err == nil && readings[1].Value.Equal(own(200))
			}, 10*time.Second, time.Millisecond, "the line has recovered")
		})
	}
}

// The same with whatever may go wrong, on real sockets and a real terminal.
func TestFaultsOnRealLinesMakeNoWrongValue(t *testing.T) {
	for _, s := range schemes() {
		t.Run(string(s), func(t *testing.T) {
			var fault atomic.Pointer[modbustest.Fault]
			fault.Store(&modbustest.Fault{})
			bank := &modbustest.Bank{Stamp: true}
			server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: bank}, Script: func(modbustest.Request) modbustest.Fault {
				return *fault.Load()
			}}
			conn := open(t, New(), registers("d", serve(t, s, server), 1, 100, 200, 300))
			good := 0
			rapid.Check(t, func(rt *rapid.T) {
				f := rapid.Custom(drawRealFault).Draw(rt, "fault")
				fault.Store(&f)
				address := rapid.SampledFrom([]int{100, 200, 300}).Draw(rt, "address")
				before := bank.Reads()
				readings, err := conn.Read(t.Context(), []string{fmt.Sprint("r", address)})
				fault.Store(&modbustest.Fault{})
				for err != nil && mapper.Reason(err) == "connection" { // until the line is dialed anew
					time.Sleep(10 * time.Millisecond)
					readings, err = conn.Read(t.Context(), []string{fmt.Sprint("r", address)})
				}
				if err != nil || readings[0].Quality.IsBad() {
					return
				}
				good++
				n, _ := readings[0].Value.AsInt()
				require.EqualValues(rt, address, n>>16, "the register asked for")
				require.Greater(rt, uint16(n), before, "and no older than the question")
			})
			require.Positive(t, good)
		})
	}
}

func drawRealFault(rt *rapid.T) modbustest.Fault {
	switch rapid.IntRange(0, 12).Draw(rt, "fault") {
	case 0:
		return modbustest.Fault{Delay: time.Duration(rapid.SampledFrom([]int{35, 45, 60, 90}).Draw(rt, "ms")) * time.Millisecond}
	case 1:
		return modbustest.Fault{Drop: true}
	case 2:
		return modbustest.Fault{Corrupt: true}
	case 3:
		return modbustest.Fault{Split: rapid.IntRange(1, 7).Draw(rt, "at"), Gap: time.Duration(rapid.SampledFrom([]int{3, 50}).Draw(rt, "gap")) * time.Millisecond}
	case 4:
		return modbustest.Fault{Unit: 9}
	case 5:
		return modbustest.Fault{Exception: 6}
	case 6:
		return modbustest.Fault{Cut: 2}
	case 7:
		return modbustest.Fault{Noise: []byte{0, 0xFF, 0x31}}
	}
	return modbustest.Fault{}
}

// Units on one line are asked in turn, each gets its own values, and one that is dead
// does not keep the others from theirs.
func TestUnitsShareALine(t *testing.T) {
	for _, s := range schemes() {
		t.Run(string(s), func(t *testing.T) {
			const units = 4
			banks := map[byte]*modbustest.Bank{}
			for unit := byte(1); unit <= units; unit++ {
				word := uint16(unit) * 1000
				banks[unit] = &modbustest.Bank{Registers: map[uint16]uint16{100: word, 101: word}}
			}
			url := serve(t, s, &modbustest.Server{Units: banks})
			driver := New()
			dead := open(t, driver, registers("dead", url, 99, 100))
			conns := make([]mapper.Conn, units)
			for i := range conns {
				d := registers(fmt.Sprint("d", i), url, i+1, 100)
				d.Config["timeout"] = "10s" // a loaded machine is not what this is about
				conns[i] = open(t, driver, d)
			}
			require.Equal(t, 1, driver.lines.Len())
			ended := make(chan int, units)
			for i, conn := range conns {
				go func() {
					good := 0
					defer func() { ended <- good }()
					for range 30 {
						readings, err := conn.Read(context.Background(), []string{"r100"})
						if err == nil && readings[0].Quality.IsGood() {
							good++
							n, _ := readings[0].Value.AsUint()
							if want := uint64(i+1) * 1000; n != want<<16|want {
								t.Errorf("unit %d: %x", i+1, n)
							}
						}
					}
				}()
			}
			for range 30 {
				_, err := dead.Read(t.Context(), []string{"r100"})
				require.Error(t, err)
				require.Equal(t, "timeout", mapper.Reason(err))
			}
			for range conns {
				require.Equal(t, 30, <-ended)
			}
		})
	}
}

func TestALineWithTwoSettingsIsAProblemThatHeals(t *testing.T) {
	server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}, 2: {}}}
	url := serve(t, modbus.RTU, server)
	driver := New()
	first, problems := driver.Open(registers("a", url, 1, 100))
	require.Empty(t, problems)
	second, problems := driver.Open(registers("b", url+"&parity=odd", 2, 100))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Error(), "another device uses this line as")
	_, err := second.Read(t.Context(), []string{"r100"})
	require.Equal(t, "conflict", mapper.Reason(err))
	readings, err := first.Read(t.Context(), []string{"r100"})
	require.NoError(t, err)
	require.Equal(t, own(100), readings[0].Value)
	require.NoError(t, first.Close())
	readings, err = second.Read(t.Context(), []string{"r100"})
	require.NoError(t, err)
	require.Equal(t, own(100), readings[0].Value)
	require.NoError(t, second.Close())
	require.Zero(t, driver.lines.Len())
}

func TestWritesOfOneBitLeaveTheOthersAlone(t *testing.T) {
	bank := &modbustest.Bank{Registers: map[uint16]uint16{50: 0xFF0F}}
	d := declare("bits", map[string]any{"url": serve(t, modbus.TCP, &modbustest.Server{Units: map[byte]*modbustest.Bank{7: bank}}), "unitId": 7})
	conn := open(t, New(), d)
	held, err := conn.Write(t.Context(), "alarm", twin.BoolValue(true))
	require.NoError(t, err)
	require.Equal(t, twin.BoolValue(true), held)
	require.EqualValues(t, 0xFF2F, bank.Register(50))
}

func TestWhatARegisterCannotHoldIsRefused(t *testing.T) {
	bank := &modbustest.Bank{}
	conn := open(t, New(), declare("d", map[string]any{"url": serve(t, modbus.TCP, &modbustest.Server{Units: map[byte]*modbustest.Bank{7: bank}}), "unitId": 7}))
	_, err := conn.Write(t.Context(), "level", twin.FloatValue(4000))
	require.True(t, mapper.Rejected(err))
	require.Equal(t, "range", mapper.Reason(err))
	require.Empty(t, bank.Asked())
	held, err := conn.Write(t.Context(), "level", twin.FloatValue(12.34))
	require.NoError(t, err)
	require.Equal(t, twin.FloatValue(12.3), held)
}

// BenchmarkRead50 is one read of 50 values in one request, with the peer in the same process.
func BenchmarkRead50(b *testing.B) {
	var at []int
	d := registers("d", "", 1)
	for i := range 50 {
		at = append(at, 100+i)
		d.Properties = append(d.Properties, twin.Property{
			Name: fmt.Sprint("r", i), Type: twin.TypeDouble,
			Visitor: map[string]any{"register": "holding", "address": at[i], "type": "int16", "scale": 0.1},
		})
	}
	host, err := modbustest.Listen(b.Context(), &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {Ignored: nil}}})
	require.NoError(b, err)
	defer host.Close()
	d.Config["url"] = "tcp://" + host.Addr()
	d.Config["timeout"] = "1s"
	conn, problems := New().Open(d)
	require.Empty(b, problems)
	defer conn.Close()
	names := make([]string, len(d.Properties))
	for i := range names {
		names[i] = d.Properties[i].Name
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Read(context.Background(), names); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*50), "ns/value")
}
