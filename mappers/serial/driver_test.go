package serial

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mappertest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plant is the simulated devices of one suite.
type plant struct {
	tcp, speaks bool

	mu     sync.Mutex
	conns  map[twin.DeviceID]*conn // opened last
	boards map[twin.DeviceID]*simulated
}

// spy is a driver whose conns the plant knows.
type spy struct {
	*Driver
	plant *plant
}

func (s spy) Open(d twin.Device) (mapper.Conn, []twin.Problem) {
	opened, problems := s.Driver.Open(d)
	if c, ok := opened.(*conn); ok {
		s.plant.mu.Lock()
		defer s.plant.mu.Unlock()
		s.plant.conns[d.ID] = c
	}
	return opened, problems
}

// hears reports whether the last that a device said of a property is v.
func (c *conn) hears(property string, v twin.Value) bool {
	c.said.mu.Lock()
	defer c.said.mu.Unlock()
	return c.said.last[property].reading.Value.Equal(v)
}

// open reports whether the device's line is.
func (c *conn) opened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ear != nil && c.ear.Opening() != 0
}

type simulated struct {
	*instrument
	server *server // nil on a pseudo terminal
	cut    atomic.Bool
}

func (p *plant) find(d twin.Device) *simulated {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.boards[d.ID]
}

func (p *plant) device(t *testing.T) twin.Device {
	sim := &simulated{instrument: newInstrument(p.speaks)}
	fill(sim.instrument)
	var url string
	if p.tcp {
		sim.server = sim.onTCP(t)
		url = "tcp://" + sim.server.address
	} else {
		url = "serial://" + sim.onPTY(t)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := board(freeName(len(p.boards)), url, p.speaks)
	p.boards[d.ID] = sim
	return d
}

// change gives a property a value; of a device that speaks it returns when the driver has heard of it.
func (p *plant) change(t *testing.T, d twin.Device, property string, v twin.Value) {
	sim, said := p.find(d), text(t, d, property, v)
	sim.with(func() { sim.values[property] = said })
	if !p.speaks {
		return
	}
	p.mu.Lock()
	c := p.conns[d.ID]
	p.mu.Unlock()
	if c == nil || !c.opened() {
		return // the first Read will
	}
	require.Eventually(t, func() bool { return c.hears(property, v) }, mappertest.Patience, time.Millisecond, "the driver hears it")
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
		Speaks: p.speaks,
		New:    func(*testing.T) mapper.Driver { return spy{New(), p} },
		Device: p.device,
		Change: p.change,
		Break: func(_ *testing.T, d twin.Device) {
			if sim := p.find(d); sim.server != nil {
				sim.cut.Store(true)
				sim.server.cut()
			} else {
				sim.with(func() { sim.silent = true })
			}
		},
		Mend: func(_ *testing.T, d twin.Device) {
			sim := p.find(d)
			if sim.server != nil && sim.cut.Swap(false) {
				sim.server.mend()
			}
			sim.with(func() { sim.silent = false })
		},
		Hang: func(_ *testing.T, d twin.Device) {
			sim := p.find(d)
			sim.with(func() { sim.silent = true })
		},
		Refuse: func(_ *testing.T, d twin.Device, property string) {
			sim := p.find(d)
			sim.with(func() { sim.refuses[property] = true })
		},
		Requests: func() (n int) {
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, sim := range p.boards {
				sim.with(func() { n += sim.requests })
			}
			return n
		},
		Mistakes: []mappertest.Mistake{
			{Name: "one visitor", Problems: 1, Refused: []string{"mode"}, Device: mistaken(func(d *twin.Device) {
				d.Properties[2].Visitor["regex"] = "no group"
				delete(d.Properties[2].Visitor, "name")
			})},
			{Name: "two visitors", Problems: 2, Refused: []string{"mode", "pump"}, Device: mistaken(func(d *twin.Device) {
				d.Properties[2].Visitor["regexp"] = "x"
				d.Properties[3].Visitor["request"] = "nothing"
			})},
			{Name: "the device", Problems: 2, Whole: true, Device: mistaken(func(d *twin.Device) {
				d.Config = map[string]any{"url": "tcp://x:1", "timeout": "9h", "unit": 7}
			})},
			{Name: "no url", Problems: 1, Whole: true, Device: mistaken(func(d *twin.Device) { d.Config = nil })},
		},
	}
}

func TestConformance(t *testing.T) {
	for name, p := range map[string]*plant{
		"asked, tty": {}, "asked, tcp": {tcp: true}, "speaks, tty": {speaks: true}, "speaks, tcp": {tcp: true, speaks: true},
	} {
		p.boards, p.conns = map[twin.DeviceID]*simulated{}, map[twin.DeviceID]*conn{}
		t.Run(name, func(t *testing.T) { p.suite().Run(t) })
	}
}
