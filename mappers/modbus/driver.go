// Package modbus is the mapper driver for Modbus devices. Devices whose URLs
// name the same serial port or the same host and port share one line, on which
// they are asked in turn.
package modbus

import (
	"context"
	"fmt"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/internal/serialport"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// line is one physical line in use.
type line = link.Shared[modbus.Endpoint, modbus.Transport]

// Driver implements mapper.Driver. It is safe for concurrent use.
type Driver struct {
	lines *link.Pool[modbus.Endpoint, modbus.Transport]
}

var _ mapper.Driver = (*Driver)(nil)

// New returns a driver without devices.
func New() *Driver {
	return &Driver{lines: link.NewPool(func(e modbus.Endpoint) modbus.Transport { return modbus.NewTransport(e, dialer(e)) })}
}

// Protocol implements mapper.Driver.
func (d *Driver) Protocol() string { return modbus.Protocol }

// Open implements mapper.Driver.
func (d *Driver) Open(device twin.Device) (mapper.Conn, []twin.Problem) {
	decl, problems := modbus.Parse(&device)
	if decl == nil || (len(decl.Fields) == 0 && len(problems) > 0) {
		return nil, problems
	}
	l, clash := d.lines.Join(decl.Config.Endpoint, uint32(decl.Config.Unit))
	if clash != nil {
		problems = append(problems, twin.Problem{
			Object: "Device " + device.ID.String(), Field: "spec.protocol.configData.url",
			What:   fmt.Sprintf("another device uses this line as %s, not as %s", clash, decl.Config.Endpoint),
			Remedy: "give all devices of a line the same scheme and settings",
		})
	}
	return newConn(d, l, decl), problems
}

// dialer opens the stream of an endpoint.
func dialer(e modbus.Endpoint) modbus.Dialer {
	if !e.Scheme.Serial() {
		return modbus.DialNetwork(e)
	}
	return func(ctx context.Context) (modbus.Stream, error) {
		port, err := serialport.Open(ctx, e.Port())
		if err != nil {
			return nil, err
		}
		return port, nil
	}
}
