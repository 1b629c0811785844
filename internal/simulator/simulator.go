// Package simulator plays Modbus devices and serial instruments that are declared by
// the same Device and DeviceModel objects as real ones: over TCP and on serial lines made of pseudo
// terminals, with a wave for every property and a script of faults. It frames and checks Modbus on its own, apart
// from internal/modbus, and so it does the telegrams of profiles, apart from their decoders, so that the two can
// test each other. DESIGN.md says how it finds out what a serial instrument says.
package simulator

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/pkg/twin"
)

// line is one endpoint with the units that answer on it.
type line struct {
	scheme  string // tcp, rtu or rtuovertcp
	address string // host:port, or the path of the tty
	units   map[byte]*Unit
}

func (l *line) unit(id byte) *Unit {
	if u := l.units[id]; u != nil {
		return u
	}
	if l.scheme == "tcp" && len(l.units) == 1 { // a TCP device without a bus behind it answers to 0 and 255 as well
		for _, u := range l.units {
			if id == 0 || id == 255 {
				return u
			}
		}
	}
	return nil
}

// Simulator is the service that plays the devices.
type Simulator struct {
	*service.Runner
	log   *slog.Logger
	lines map[string]*line
	units map[twin.DeviceID]*Unit

	serialLines map[string]*serialLine
	instruments map[twin.DeviceID]*Instrument
}

// New makes a simulator of the Modbus and serial devices among devices. Devices and
// properties that cannot be played are Problems; the others go on.
func New(devices []twin.Device, script Script, log *slog.Logger) (*Simulator, []twin.Problem) {
	s := &Simulator{log: log, lines: map[string]*line{}, units: map[twin.DeviceID]*Unit{}, serialLines: map[string]*serialLine{}, instruments: map[twin.DeviceID]*Instrument{}}
	s.Runner = service.New("simulator", s.run)
	var problems []twin.Problem
	known := map[string]bool{}
	start := time.Now()
	for i := range devices {
		known[devices[i].ID.String()] = true
		problems = append(problems, s.addDevice(devices[i], script.Devices[devices[i].ID.String()], start)...)
	}
	for _, id := range slices.Sorted(maps.Keys(script.Devices)) {
		if !known[id] {
			problems = append(problems, twin.Problem{Object: Kind, Field: "spec.devices[" + id + "]", What: "no such Device", Remedy: "name a Device of the manifests"})
		}
	}
	return s, problems
}

// Instrument returns the simulated serial device, or nil.
func (s *Simulator) Instrument(id twin.DeviceID) *Instrument { return s.instruments[id] }

// Unit returns the simulated Modbus device, or nil.
func (s *Simulator) Unit(id twin.DeviceID) *Unit { return s.units[id] }

// Endpoints lists where the devices are reached: "tcp 127.0.0.1:5020 (2 units)", "serial /dev/board (1 devices)".
func (s *Simulator) Endpoints() []string {
	var list []string
	for _, l := range s.lines {
		list = append(list, fmt.Sprintf("%s %s (%d units)", l.scheme, l.address, len(l.units)))
	}
	for _, l := range s.serialLines {
		list = append(list, fmt.Sprintf("serial %s (%d devices)", l.name, len(l.instruments)))
	}
	slices.Sort(list)
	return list
}

// attach puts a unit on its line.
func (s *Simulator) attach(scheme, address string, unitID byte, u *Unit) error {
	key := scheme + "://" + address
	l := s.lines[key]
	if l == nil {
		l = &line{scheme: scheme, address: address, units: map[byte]*Unit{}}
		s.lines[key] = l
	}
	if other := l.units[unitID]; other != nil {
		return fmt.Errorf("unit %d on %s is already %s", unitID, key, other.id)
	}
	l.units[unitID] = u
	s.units[u.id] = u
	return nil
}

func (s *Simulator) run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	for _, l := range s.lines {
		serve, err := l.open(ctx)
		if err != nil {
			return err
		}
		serving.Go(serve)
	}
	for _, l := range s.serialLines {
		serve, err := l.open(ctx)
		if err != nil {
			return err
		}
		serving.Go(serve)
	}
	ready()
	<-ctx.Done()
	return nil
}

// open claims the endpoint and returns the function that serves it until ctx ends.
func (l *line) open(ctx context.Context) (serve func(), err error) {
	if l.scheme == "rtu" {
		near, far, err := openPTY(l.address)
		if err != nil {
			return nil, err
		}
		return func() {
			holdPTY(ctx, l.address, near, far, func(ctx context.Context) { l.serveRTU(ctx, near) })
		}, nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", l.address)
	if err != nil {
		return nil, fmt.Errorf("simulate %s://%s: %w", l.scheme, l.address, err)
	}
	if l.scheme == "rtuovertcp" {
		return func() { l.serveRTUOverTCP(ctx, listener) }, nil
	}
	return func() { l.serveTCP(ctx, listener) }, nil
}

// serveRTUOverTCP answers one client after another: behind it is one serial line.
func (l *line) serveRTUOverTCP(ctx context.Context, listener net.Listener) {
	defer closeWith(ctx, listener)()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		closeConn := closeWith(ctx, conn)
		l.serveRTU(ctx, conn)
		closeConn()
	}
}
