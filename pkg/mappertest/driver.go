package mappertest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// Protocol is the protocol of Driver.
const Protocol = "memory"

// Driver is a mapper.Driver whose devices are maps in memory. A property is
// declared by its visitor's "key", any text; one without a key is refused. The
// Fn fields, where set, take the place of what the driver does; set them before use.
type Driver struct {
	OpenFn  func(d twin.Device) (mapper.Conn, []twin.Problem)
	ReadFn  func(ctx context.Context, id twin.DeviceID, properties []string) ([]twin.Reading, error)
	WriteFn func(ctx context.Context, id twin.DeviceID, property string, v twin.Value) (twin.Value, error)

	mu      sync.Mutex
	devices map[twin.DeviceID]*memory
}

// memory is one device.
type memory struct {
	values  map[string]twin.Value
	refuses map[string]bool
	fault   error
	mended  chan struct{} // not nil while the device does not answer at all
	opens   int
	closes  int
	reads   int
	writes  []twin.Reading
}

// Protocol implements mapper.Driver.
func (d *Driver) Protocol() string { return Protocol }

// device returns the device's memory; d.mu is held.
func (d *Driver) device(id twin.DeviceID) *memory {
	m := d.devices[id]
	if m == nil {
		if d.devices == nil {
			d.devices = map[twin.DeviceID]*memory{}
		}
		m = &memory{values: map[string]twin.Value{}, refuses: map[string]bool{}}
		d.devices[id] = m
	}
	return m
}

func (d *Driver) with(id twin.DeviceID, change func(*memory)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d.device(id))
}

// Set gives a property a value behind the driver's back.
func (d *Driver) Set(id twin.DeviceID, property string, v twin.Value) {
	d.with(id, func(m *memory) { m.values[property] = v })
}

// Get returns what the device holds.
func (d *Driver) Get(id twin.DeviceID, property string) (v twin.Value) {
	d.with(id, func(m *memory) { v = m.values[property] })
	return v
}

// Break makes every Read and Write fail with err.
func (d *Driver) Break(id twin.DeviceID, err error) { d.with(id, func(m *memory) { m.fault = err }) }

// Hang makes every Read and Write wait for the end of its context, or Mend.
func (d *Driver) Hang(id twin.DeviceID) {
	d.with(id, func(m *memory) {
		if m.mended == nil {
			m.mended = make(chan struct{})
		}
	})
}

// Mend ends Break and Hang.
func (d *Driver) Mend(id twin.DeviceID) {
	d.with(id, func(m *memory) {
		m.fault = nil
		if m.mended != nil {
			close(m.mended)
			m.mended = nil
		}
	})
}

// Refuse makes the device refuse every write of a property.
func (d *Driver) Refuse(id twin.DeviceID, property string) {
	d.with(id, func(m *memory) { m.refuses[property] = true })
}

// Writes returns every write the device was asked for, in order.
func (d *Driver) Writes(id twin.DeviceID) (w []twin.Reading) {
	d.with(id, func(m *memory) { w = append(w, m.writes...) })
	return w
}

// Opens returns how often the device was opened and closed.
func (d *Driver) Opens(id twin.DeviceID) (opened, closed int) {
	d.with(id, func(m *memory) { opened, closed = m.opens, m.closes })
	return opened, closed
}

// Reads returns how often the device was read.
func (d *Driver) Reads(id twin.DeviceID) (n int) {
	d.with(id, func(m *memory) { n = m.reads })
	return n
}

// Requests returns how many Reads and Writes all devices have got.
func (d *Driver) Requests() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.devices {
		n += m.reads + len(m.writes)
	}
	return n
}

// Open implements mapper.Driver.
func (d *Driver) Open(device twin.Device) (mapper.Conn, []twin.Problem) {
	d.with(device.ID, func(m *memory) { m.opens++ })
	if d.OpenFn != nil {
		return d.OpenFn(device)
	}
	return d.open(device)
}

func (d *Driver) open(device twin.Device) (mapper.Conn, []twin.Problem) {
	c := &conn{driver: d, id: device.ID, keys: map[string]bool{}}
	var problems []twin.Problem
	for i, p := range device.Properties {
		if key, ok := p.Visitor["key"].(string); ok && key != "" {
			c.keys[p.Name] = true
			continue
		}
		problems = append(problems, twin.Problem{
			Object: "Device " + device.ID.String(), Field: fmt.Sprintf("spec.properties[%d].visitors.configData.key", i),
			What: "property " + p.Name + " has no key", Remedy: "give it a key, any text",
		})
	}
	if len(c.keys) == 0 {
		return nil, problems
	}
	return c, problems
}

type conn struct {
	driver *Driver
	id     twin.DeviceID
	keys   map[string]bool
}

// reach waits for the device, or says why it does not answer.
func (c *conn) reach(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var fault error
		var mended chan struct{}
		c.driver.with(c.id, func(m *memory) { fault, mended = m.fault, m.mended })
		if mended == nil {
			return fault
		}
		select {
		case <-mended:
		case <-ctx.Done():
		}
	}
}

// Read implements mapper.Conn.
func (c *conn) Read(ctx context.Context, properties []string) ([]twin.Reading, error) {
	c.driver.with(c.id, func(m *memory) { m.reads++ })
	if c.driver.ReadFn != nil {
		return c.driver.ReadFn(ctx, c.id, properties)
	}
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	out := make([]twin.Reading, len(properties))
	c.driver.with(c.id, func(m *memory) {
		for i, name := range properties {
			switch v, ok := m.values[name]; {
			case !c.keys[name]:
				out[i] = twin.BadReading(name, "config")
			case !ok:
				out[i] = twin.BadReading(name, "unset")
			default:
				out[i] = twin.Reading{Property: name, Value: v}
			}
		}
	})
	return out, nil
}

// Write implements mapper.Conn.
func (c *conn) Write(ctx context.Context, property string, v twin.Value) (twin.Value, error) {
	c.driver.with(c.id, func(m *memory) { m.writes = append(m.writes, twin.Reading{Property: property, Value: v}) })
	if c.driver.WriteFn != nil {
		return c.driver.WriteFn(ctx, c.id, property, v)
	}
	if err := c.reach(ctx); err != nil {
		return twin.Value{}, err
	}
	var err error
	c.driver.with(c.id, func(m *memory) {
		if !c.keys[property] || m.refuses[property] {
			err = &mapper.Fault{Why: "refused", Refuse: true, Err: errors.New("the device refuses the write")}
			return
		}
		m.values[property] = v
	})
	return v, err
}

// Close implements mapper.Conn.
func (c *conn) Close() error {
	c.driver.with(c.id, func(m *memory) { m.closes++ })
	return nil
}
