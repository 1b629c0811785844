// Package modbus is the mapper driver for Modbus devices. Devices whose URLs
// name the same serial port or the same host and port share one line, on which
// they are asked in turn.
package modbus

import (
	"context"
	"fmt"
	"sync"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/internal/serialport"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// Driver implements mapper.Driver. It is safe for concurrent use.
type Driver struct {
	mu    sync.Mutex
	lines map[string]*line
}

var _ mapper.Driver = (*Driver)(nil)

// New returns a driver without devices.
func New() *Driver { return &Driver{lines: map[string]*line{}} }

// Protocol implements mapper.Driver.
func (d *Driver) Protocol() string { return modbus.Protocol }

// Open implements mapper.Driver.
func (d *Driver) Open(device twin.Device) (mapper.Conn, []twin.Problem) {
	decl, problems := modbus.Parse(&device)
	if decl == nil || (len(decl.Fields) == 0 && len(problems) > 0) {
		return nil, problems
	}
	l, clash := d.join(decl.Config.Endpoint, decl.Config.Unit)
	if clash != nil {
		problems = append(problems, twin.Problem{
			Object: "Device " + device.ID.String(), Field: "spec.protocol.configData.url",
			What:   fmt.Sprintf("another device uses this line as %s, not as %s", clash, decl.Config.Endpoint),
			Remedy: "give all devices of a line the same scheme and settings",
		})
	}
	return newConn(d, l, decl), problems
}

// line is one physical line in use.
type line struct {
	*link.Line
	mu   sync.Mutex
	uses []use // the first one's endpoint holds

	// What follows belongs to whoever has the link.Line.
	endpoint  modbus.Endpoint
	transport modbus.Transport

	counters *modbus.Counters // of transport, guarded by mu
}

// use is how many devices use a line by one endpoint.
type use struct {
	endpoint modbus.Endpoint
	devices  int
}

// join finds or makes the line of an endpoint. clash is the endpoint by which other
// devices already use it, nil if it is the same: until they are gone, the
// new device is not asked.
func (d *Driver) join(e modbus.Endpoint, unit byte) (l *line, clash *modbus.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l = d.lines[e.Line()]
	if l == nil {
		l = &line{Line: link.Open()}
		d.lines[e.Line()] = l
	}
	l.Join(uint32(unit))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.uses {
		if l.uses[i].endpoint == e {
			l.uses[i].devices++
			return l, l.clash(e)
		}
	}
	l.uses = append(l.uses, use{e, 1})
	return l, l.clash(e)
}

// clash returns the endpoint that holds if it is not e.
func (l *line) clash(e modbus.Endpoint) *modbus.Endpoint {
	if first := l.uses[0].endpoint; first != e {
		return &first
	}
	return nil
}

// leave undoes join, and ends the line with its last device.
func (d *Driver) leave(l *line, e modbus.Endpoint, unit byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.Leave(uint32(unit))
	l.mu.Lock()
	for i := range l.uses {
		if l.uses[i].endpoint != e {
			continue
		}
		if l.uses[i].devices--; l.uses[i].devices == 0 {
			l.uses = append(l.uses[:i], l.uses[i+1:]...)
		}
		break
	}
	unused := len(l.uses) == 0
	l.mu.Unlock()
	if !unused {
		return nil
	}
	delete(d.lines, e.Line())
	l.Close()
	if l.transport == nil {
		return nil
	}
	return l.transport.Close()
}

// use returns the line's transport for a device with the endpoint e. The caller
// has the line.
func (l *line) use(e modbus.Endpoint) (modbus.Transport, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if clash := l.clash(e); clash != nil {
		return nil, &mapper.Fault{Why: "conflict", Err: fmt.Errorf("the line is used as %s", clash)}
	}
	if l.transport != nil && l.endpoint == e {
		return l.transport, nil
	}
	if l.transport != nil {
		if err := l.transport.Close(); err != nil {
			return nil, &mapper.Fault{Why: "connection", Err: err}
		}
	}
	l.endpoint, l.transport = e, modbus.NewTransport(e, dialer(e))
	l.counters = l.transport.Counters()
	return l.transport, nil
}

// dialer opens the stream of an endpoint.
func dialer(e modbus.Endpoint) modbus.Dialer {
	if !e.Scheme.Serial() {
		return modbus.DialNetwork(e)
	}
	config := serialport.Config{Path: e.Address, Baud: e.Baud, Parity: serialport.Parity(e.Parity), StopBits: e.StopBits, DataBits: e.DataBits}
	return func(ctx context.Context) (modbus.Stream, error) {
		port, err := serialport.Open(ctx, config)
		if err != nil {
			return nil, err
		}
		return port, nil
	}
}
