package serial

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// conn is one device in service.
type conn struct {
	driver  *Driver
	line    *line
	station uint32
	decl    *serial.Declaration
	fields  map[string]*serial.Field
	said    *said

	// What follows belongs to whoever has the line.
	port    *serial.Port
	greeted uint64    // the opening for which Init was sent; 0: it is due
	hailed  time.Time // when that was

	mu      sync.Mutex
	ear     *serial.Ear           // nil: the line was not used yet
	assumed map[string]twin.Value // what was written last, of the properties that cannot be read
}

func newConn(d *Driver, l *line, station uint32, decl *serial.Declaration) *conn {
	c := &conn{driver: d, line: l, station: station, decl: decl, fields: make(map[string]*serial.Field, len(decl.Fields)), assumed: map[string]twin.Value{}}
	c.said = newSaid(&decl.Config)
	for i := range decl.Fields {
		f := &decl.Fields[i]
		c.fields[f.Property] = f
		if f.Request == serial.Unasked {
			c.said.add(f)
		}
	}
	return c
}

// maxSilent is how many questions in a row may stay open before the round ends.
const maxSilent = 2

// round is one Read under way.
type round struct {
	readings []twin.Reading
	asked    map[int][]int // places in readings, by request
	heard    []int         // places of what the device says by itself
	answered bool          // the device did
	failure  error         // the last
}

// Read implements mapper.Conn.
func (c *conn) Read(ctx context.Context, properties []string) ([]twin.Reading, error) {
	if err := ctx.Err(); err != nil {
		return nil, &mapper.Fault{Why: "timeout", Err: err}
	}
	r := c.begin(properties)
	c.ask(ctx, r)
	c.listen(ctx, r)
	if !r.answered && r.failure != nil {
		return nil, r.failure
	}
	return r.readings, nil
}

// begin finds out where each property comes from.
func (c *conn) begin(properties []string) *round {
	r := &round{readings: make([]twin.Reading, len(properties)), asked: map[int][]int{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, name := range properties {
		r.readings[i].Property = name
		f := c.fields[name]
		switch {
		case f == nil:
			r.readings[i].Quality = twin.Bad("config")
		case f.Assume():
			r.readings[i].Value = c.assumed[name]
			if r.readings[i].Value.IsZero() {
				r.readings[i].Quality = twin.Bad("unknown")
			}
		case f.Request == serial.Unasked:
			r.heard = append(r.heard, i)
		default:
			r.asked[f.Request] = append(r.asked[f.Request], i)
		}
	}
	return r
}

// ask sends the requests of a round, each once.
func (c *conn) ask(ctx context.Context, r *round) {
	silent := 0
	for i := range c.decl.Requests {
		places := r.asked[i]
		if len(places) == 0 {
			continue
		}
		var m *serial.Message
		err := r.failure
		if silent < maxSilent {
			m, err = c.question(ctx, &c.decl.Requests[i])
		}
		switch {
		case err == nil:
			silent, r.answered = 0, true
			for _, at := range places {
				reading := &r.readings[at]
				reading.Value, reading.Quality = c.fields[reading.Property].Answer(m)
			}
			continue
		case serial.Refused(err):
			silent, r.answered = 0, true
		default:
			silent++
			r.failure = err
			if errors.Is(err, link.ErrDown) || ctx.Err() != nil {
				silent = maxSilent
			}
		}
		for _, at := range places {
			r.readings[at].Quality = twin.Bad(mapper.Reason(err))
		}
	}
}

// question asks once, and again where nothing or nothing usable came.
func (c *conn) question(ctx context.Context, r *serial.Request) (m *serial.Message, err error) {
	for try := 0; try <= c.decl.Config.Retries; try++ {
		m, err = c.exchange(ctx, r, link.Poll)
		if err == nil || serial.Refused(err) || ctx.Err() != nil || errors.Is(err, link.ErrDown) || errors.Is(err, link.ErrClash) || !errors.Is(err, link.ErrSilent) && !damaged(err) {
			return m, err
		}
	}
	return m, err
}

// damaged reports whether an answer came and was not whole.
func damaged(err error) bool { return mapper.Reason(err) == "check" }

// exchange sends one request when it has the line's turn.
func (c *conn) exchange(ctx context.Context, r *serial.Request, class link.Class) (m *serial.Message, err error) {
	turn := link.Request{Station: c.station, Class: class, Pause: r.Pause, Run: func(ctx context.Context) error {
		ear, err := c.open(ctx)
		if err != nil {
			return err
		}
		if err := c.greet(ctx, ear); err != nil {
			return err
		}
		if r.Dialog {
			m, err = ear.Readout(ctx, r.Timeout)
		} else {
			m, err = ear.Ask(ctx, r)
		}
		if errors.Is(err, link.ErrSilent) {
			c.greeted = 0
		}
		return err
	}}
	turn.Deadline, _ = ctx.Deadline()
	if err := c.line.Do(ctx, &turn); err != nil {
		return nil, link.Fault(err)
	}
	return m, nil
}

// open opens the line where it is not, and returns the device's ear on it. It has the line's turn.
func (c *conn) open(ctx context.Context) (*serial.Ear, error) {
	port, err := c.line.Use(c.decl.Config.Endpoint)
	switch {
	case errors.Is(err, link.ErrClash):
		return nil, &mapper.Fault{Why: "conflict", Err: err}
	case err != nil:
		return nil, &mapper.Fault{Why: "connection", Err: err}
	}
	c.mu.Lock()
	if c.port != port {
		c.leave()
		c.port = port
		c.ear = port.Listen(&c.decl.Config, c.said.handler())
		c.greeted = 0
	}
	ear := c.ear
	c.mu.Unlock()
	_, err = port.Open(ctx, c.decl.Config.Timeout)
	return ear, err
}

// leave takes the ear off the port; c.mu is held.
func (c *conn) leave() {
	if c.ear != nil {
		c.port.Leave(c.ear)
		c.ear, c.port = nil, nil
	}
}

// greet sends what opens a conversation: when the port was opened, and when the device was silent
// or, if it speaks by itself, stale: it may have been switched off and have forgotten.
func (c *conn) greet(ctx context.Context, ear *serial.Ear) error {
	opening := ear.Opening()
	if opening == 0 || c.greeted == opening && !c.said.nothing(c.hailed, time.Now()) {
		return nil
	}
	for i := range c.decl.Config.Init {
		r := &c.decl.Config.Init[i]
		if _, err := ear.Ask(ctx, r); err != nil && !serial.Refused(err) {
			return fmt.Errorf("init %d: %w", i, err)
		}
		if err := pause(ctx, r.Pause); err != nil {
			return err
		}
	}
	c.greeted, c.hailed = opening, time.Now()
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return &mapper.Fault{Why: "timeout", Err: context.Cause(ctx)}
	}
}

// listen fills in what the device said by itself.
func (c *conn) listen(ctx context.Context, r *round) {
	if len(r.heard) == 0 {
		return
	}
	opening, err := c.hearing(ctx)
	if err != nil {
		r.failure = err
		for _, at := range r.heard {
			r.readings[at].Quality = twin.Bad(mapper.Reason(err))
		}
		return
	}
	c.said.await(ctx, opening, c.decl.Config.Timeout)
	for _, at := range r.heard {
		r.readings[at] = c.said.take(r.readings[at].Property, time.Now())
		if r.readings[at].Quality != staleQuality {
			r.answered = true
		}
	}
	if !r.answered {
		r.failure = &mapper.Fault{Why: "stale", Err: fmt.Errorf("nothing of the device was heard on %s for %s", c.decl.Config.Endpoint, c.decl.Config.Silence)}
	}
}

// hearing makes sure that the line is open and heard, and says since which opening.
func (c *conn) hearing(ctx context.Context) (opening uint64, err error) {
	c.mu.Lock()
	if c.ear != nil {
		opening = c.ear.Opening()
	}
	c.mu.Unlock()
	if opening != 0 && len(c.decl.Config.Init) == 0 {
		return opening, nil
	}
	turn := link.Request{Station: c.station, Run: func(ctx context.Context) error {
		ear, err := c.open(ctx)
		if err != nil {
			return err
		}
		opening = ear.Opening()
		return c.greet(ctx, ear)
	}}
	turn.Deadline, _ = ctx.Deadline()
	if err := c.line.Do(ctx, &turn); err != nil {
		return 0, link.Fault(err)
	}
	return opening, nil
}

// Write implements mapper.Conn.
func (c *conn) Write(ctx context.Context, property string, value twin.Value) (twin.Value, error) {
	f := c.fields[property]
	if f == nil {
		return twin.Value{}, refuse("config", fmt.Errorf("write %s: it is not declared, or declared wrongly", property))
	}
	if !f.Writable {
		return twin.Value{}, refuse("read-only", fmt.Errorf("write %s: it is declared ReadOnly", property))
	}
	r, held, err := f.Command(&c.decl.Config, value)
	if err != nil {
		return twin.Value{}, refuse("range", err)
	}
	if _, err := c.exchange(ctx, &r, link.Write); err != nil {
		if serial.Refused(err) {
			return twin.Value{}, refuse(mapper.Reason(err), err)
		}
		return twin.Value{}, err
	}
	if f.Assume() {
		c.mu.Lock()
		c.assumed[property] = held
		c.mu.Unlock()
	}
	c.said.forget(property)
	return held, nil
}

func refuse(why string, err error) error { return &mapper.Fault{Why: why, Refuse: true, Err: err} }

// Close implements mapper.Conn.
func (c *conn) Close() error {
	c.mu.Lock()
	c.leave()
	c.mu.Unlock()
	return c.driver.lines.Leave(c.line, c.decl.Config.Endpoint, c.station)
}

var _ mapper.Conn = (*conn)(nil)
