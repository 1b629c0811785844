// Package serial is the mapper driver for instruments on serial lines that do not
// speak Modbus. Devices whose URLs name the same port or the same host and port share one line,
// on which they are asked in turn; what they say by themselves is heard at any time.
package serial

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/rfc2217"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/serialport"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// line is one physical line in use.
type line = link.Shared[serial.Endpoint, *serial.Port]

// Driver implements mapper.Driver. It is safe for concurrent use.
type Driver struct {
	lines   *link.Pool[serial.Endpoint, *serial.Port]
	devices atomic.Uint32 // opened so far
}

var _ mapper.Driver = (*Driver)(nil)

// New returns a driver without devices.
func New() *Driver {
	return &Driver{lines: link.NewPool(func(e serial.Endpoint) *serial.Port { return serial.NewPort(e, Dial(e)) })}
}

// Protocol implements mapper.Driver.
func (d *Driver) Protocol() string { return serial.Protocol }

// Open implements mapper.Driver.
func (d *Driver) Open(device twin.Device) (mapper.Conn, []twin.Problem) {
	decl, problems := serial.Parse(&device)
	if decl == nil || (len(decl.Fields) == 0 && len(problems) > 0) {
		return nil, problems
	}
	station := d.devices.Add(1)
	l, clash := d.lines.Join(decl.Config.Endpoint, station)
	if clash != nil {
		problems = append(problems, twin.Problem{
			Object: "Device " + device.ID.String(), Field: "spec.protocol.configData.url",
			What:   fmt.Sprintf("another device uses this line as %s, not as %s", clash, decl.Config.Endpoint),
			Remedy: "give all devices of a line the same scheme and settings",
		})
	}
	return newConn(d, l, station, decl), problems
}

// Keepalive finds a device server that vanished while nothing is sent to it.
const (
	keepIdle     = 15 * time.Second
	keepInterval = 5 * time.Second
	keepCount    = 3
)

// Dial returns the Dialer of an endpoint.
func Dial(e serial.Endpoint) serial.Dialer {
	switch e.Scheme {
	case serial.TTY:
		return func(ctx context.Context) (serial.Stream, error) {
			port, err := serialport.Open(ctx, e.Settings)
			if err != nil {
				return nil, err
			}
			return port, nil
		}
	case serial.RFC2217:
		s := e.Settings
		settings := rfc2217.Settings{Baud: s.Baud, DataBits: s.DataBits, Parity: string(s.Parity), StopBits: s.StopBits, RTS: rfc2217.Switch(s.RTS), DTR: rfc2217.Switch(s.DTR)}
		return func(ctx context.Context) (serial.Stream, error) {
			conn, err := rfc2217.Dial(ctx, e.Address, settings)
			if err != nil {
				return nil, err
			}
			return conn, nil
		}
	}
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount}}
	return func(ctx context.Context) (serial.Stream, error) { return d.DialContext(ctx, "tcp", e.Address) }
}
