package mapper

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/twinline/twinline/pkg/twin"
)

// guard calls a driver so that a panic in it becomes the Fault "panic".
type guard struct {
	driver   Driver
	panicked func(what string, cause any, stack []byte)
}

func (g *guard) catch(what string, err *error) {
	if cause := recover(); cause != nil {
		g.panicked(what, cause, debug.Stack())
		*err = &Fault{Why: "panic", Err: fmt.Errorf("the driver panicked in %s: %v", what, cause)}
	}
}

// open never returns a nil Conn: what cannot be served is refused property by property.
func (g *guard) open(d twin.Device) (conn Conn, problems []twin.Problem) {
	var err error
	func() {
		defer g.catch("Open", &err)
		conn, problems = g.driver.Open(d)
	}()
	if err != nil {
		conn, problems = nil, []twin.Problem{{Object: objectOf(d.ID), Field: "spec", What: err.Error(), Remedy: "report this to the author of the mapper"}}
	}
	if conn != nil {
		return conn, problems
	}
	if len(problems) == 0 {
		problems = []twin.Problem{{Object: objectOf(d.ID), Field: "spec", What: "the driver refuses the device and does not say why", Remedy: "report this to the author of the mapper"}}
	}
	return refusedConn{}, problems
}

func (g *guard) read(ctx context.Context, c Conn, names []string) (r []twin.Reading, err error) {
	defer g.catch("Read", &err)
	return c.Read(ctx, names)
}

func (g *guard) write(ctx context.Context, c Conn, name string, v twin.Value) (shown twin.Value, err error) {
	defer g.catch("Write", &err)
	return c.Write(ctx, name, v)
}

func (g *guard) close(c Conn) (err error) {
	defer g.catch("Close", &err)
	return c.Close()
}

// objectOf names a device's object in a Problem.
func objectOf(id twin.DeviceID) string { return "Device " + id.String() }

// refusedConn serves a device of which nothing can be served.
type refusedConn struct{}

func (refusedConn) Read(_ context.Context, names []string) ([]twin.Reading, error) {
	out := make([]twin.Reading, len(names))
	for i, n := range names {
		out[i] = twin.BadReading(n, "config")
	}
	return out, nil
}

func (refusedConn) Write(context.Context, string, twin.Value) (twin.Value, error) {
	return twin.Value{}, &Fault{Why: "config", Refuse: true, Err: fmt.Errorf("the device is declared wrongly")}
}

func (refusedConn) Close() error { return nil }
