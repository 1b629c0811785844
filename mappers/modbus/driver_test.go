package modbus

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/internal/modbus/modbustest"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mappertest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plant is the simulated devices of one suite.
type plant struct {
	scheme   modbus.Scheme
	requests atomic.Int64

	mu      sync.Mutex
	devices map[twin.DeviceID]*simulated
}

type simulated struct {
	bank   *modbustest.Bank
	host   *modbustest.Host // nil on a serial line
	silent atomic.Bool
	refuse atomic.Int32 // an address that cannot be written, -1: none
}

func newPlant(s modbus.Scheme) *plant {
	return &plant{scheme: s, devices: map[twin.DeviceID]*simulated{}}
}

func (p *plant) find(d twin.Device) *simulated {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.devices[d.ID]
}

func (p *plant) device(t *testing.T) twin.Device {
	sim := &simulated{}
	sim.refuse.Store(-1)
	sim.bank = &modbustest.Bank{Registers: map[uint16]uint16{}, Coils: map[uint16]bool{}, Illegal: func(function byte, address, count int) bool {
		refused := int(sim.refuse.Load())
		return function > 4 && function != 8 && refused >= address && refused < address+count
	}}
	server := &modbustest.Server{Units: map[byte]*modbustest.Bank{7: sim.bank}}
	server.Script = func(modbustest.Request) modbustest.Fault {
		p.requests.Add(1)
		return modbustest.Fault{Drop: sim.silent.Load()}
	}
	var url string
	if p.scheme.Serial() {
		server.Framing = modbustest.RTU
		path, stop, err := modbustest.PTY(server)
		require.NoError(t, err)
		t.Cleanup(stop)
		url = "rtu://" + path + "?baud=115200"
	} else {
		if p.scheme == modbus.RTUOverTCP {
			server.Framing = modbustest.RTU
		}
		host, err := modbustest.Listen(t.Context(), server)
		require.NoError(t, err)
		t.Cleanup(host.Close)
		sim.host, url = host, string(p.scheme)+"://"+host.Addr()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := declare(fmt.Sprintf("device-%d", len(p.devices)), map[string]any{"url": url, "unitId": 7, "timeout": "150ms"})
	p.devices[d.ID] = sim
	return d
}

// declare makes a device with a property of most kinds.
func declare(name string, config map[string]any) twin.Device {
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: name}, Protocol: "modbus", Config: config}
	for _, p := range []struct {
		name    string
		typ     twin.Type
		visitor map[string]any
	}{
		{"level", twin.TypeDouble, map[string]any{"register": "holding", "address": 10, "type": "int16", "scale": 0.1}},
		{"total", twin.TypeInt, map[string]any{"register": "holding", "address": 11, "type": "uint64", "order": "CDAB"}},
		{"flow", twin.TypeFloat, map[string]any{"register": "holding", "address": 40, "type": "float32", "order": "BADC"}},
		{"pump", twin.TypeBoolean, map[string]any{"register": "coil", "address": 3}},
		{"alarm", twin.TypeBoolean, map[string]any{"register": "holding", "address": 50, "bit": 5, "type": "bool"}},
		{"name", twin.TypeString, map[string]any{"register": "holding", "address": 100, "type": "string", "length": 8}},
		{"raw", twin.TypeInt, map[string]any{"register": "holding", "address": 1000}},
	} {
		d.Properties = append(d.Properties, twin.Property{Name: p.name, Type: p.typ, Writable: true, Visitor: p.visitor, CollectCycle: time.Second, ReportCycle: time.Second})
	}
	return d
}

// field returns how a property stands in the registers.
func field(t *testing.T, d twin.Device, property string) modbus.Field {
	decl, problems := modbus.Parse(&d)
	require.Empty(t, problems)
	i := slices.IndexFunc(decl.Fields, func(f modbus.Field) bool { return f.Property == property })
	return decl.Fields[i]
}

func (p *plant) suite() mappertest.Suite {
	mistaken := func(edit func(d *twin.Device)) func(t *testing.T) twin.Device {
		return func(t *testing.T) twin.Device {
			d := p.device(t)
			edit(&d)
			return d
		}
	}
	return mappertest.Suite{
		New:    func(*testing.T) mapper.Driver { return New() },
		Device: p.device,
		Change: func(t *testing.T, d twin.Device, property string, v twin.Value) {
			f := field(t, d, property)
			words, held, err := f.Encode(v)
			require.NoError(t, err)
			require.True(t, held.Equal(v))
			p.find(d).bank.Change(f.Table.Bits(), f.Address, words, maskOf(&f))
		},
		Break: func(_ *testing.T, d twin.Device) {
			if sim := p.find(d); sim.host != nil {
				sim.host.Break()
			} else {
				sim.silent.Store(true)
			}
		},
		Mend: func(t *testing.T, d twin.Device) {
			sim := p.find(d)
			if sim.host != nil && !sim.silent.Load() {
				require.NoError(t, sim.host.Mend(t.Context()))
			}
			sim.silent.Store(false)
		},
		Hang: func(_ *testing.T, d twin.Device) { p.find(d).silent.Store(true) },
		Refuse: func(t *testing.T, d twin.Device, property string) {
			p.find(d).refuse.Store(int32(field(t, d, property).Address))
		},
		Requests: func() int { return int(p.requests.Load()) },
		Mistakes: []mappertest.Mistake{
			{Name: "one visitor", Problems: 1, Refused: []string{"flow"}, Device: mistaken(func(d *twin.Device) {
				d.Properties[2].Visitor = map[string]any{"register": "holding", "address": 70000, "type": "float32"}
			})},
			{Name: "two visitors", Problems: 2, Refused: []string{"flow", "pump"}, Device: mistaken(func(d *twin.Device) {
				d.Properties[2].Visitor = map[string]any{"register": "holding", "adddress": 7, "address": 7, "type": "float32"}
				d.Properties[3].Visitor = map[string]any{"register": "discrete", "address": 7}
			})},
			{Name: "the device", Problems: 2, Whole: true, Device: mistaken(func(d *twin.Device) { d.Config = map[string]any{"url": "tcp://x", "timeout": "9h", "unit": 7} })},
			{Name: "no url", Problems: 1, Whole: true, Device: mistaken(func(d *twin.Device) { d.Config = nil })},
		},
	}
}

func maskOf(f *modbus.Field) uint16 {
	mask, _ := f.Mask()
	return mask
}

func TestConformance(t *testing.T) {
	for _, s := range []modbus.Scheme{modbus.TCP, modbus.RTUOverTCP, modbus.RTU} {
		t.Run(string(s), func(t *testing.T) { newPlant(s).suite().Run(t) })
	}
}
