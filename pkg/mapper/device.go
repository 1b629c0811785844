package mapper

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// device is one device for as long as the Source has it, through any number of
// changes of its declaration.
type device struct {
	run    *run
	id     twin.DeviceID
	stream *stream
	spec   atomic.Pointer[twin.Device] // as declared now
	write  chan struct{}               // capacity 1: the writer has something to look at
	sender sync.WaitGroup
	stop   context.CancelFunc // of the sender

	session *session // changed by run.apply only

	mu       sync.Mutex
	board    *board
	last     map[string]twin.Reading // by property
	state    twin.DeviceState        // "": not known yet
	polled   time.Time               // the last read that got an answer or failed
	failure  string                  // of the last read; "": none
	problems []twin.Problem          // of Open and of the Store
}

// session is one Conn of a device with its two goroutines.
type session struct {
	d        *device
	conn     Conn
	props    map[string]*twin.Property
	refused  bool          // nothing can be served
	reported bool          // some property goes to the cloud
	reading  chan struct{} // capacity 1: held during a Read, so that there is one at a time
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// newDevice begins a device: its sequence, its board, its sender. No session yet.
func (r *run) newDevice(ctx context.Context, spec twin.Device, pos twin.Position) *device {
	d := &device{run: r, id: spec.ID, stream: r.backlog.open(spec.ID, pos), write: make(chan struct{}, 1), last: map[string]twin.Reading{}}
	d.spec.Store(&spec)
	record, known := d.recall()
	d.board = newBoard(spec.ID, record, known)
	d.board.declare(&spec, time.Now())
	ctx, d.stop = context.WithCancel(ctx)
	d.sender.Go(func() { d.stream.send(ctx, r.cfg.Bus, r.cfg.Log) })
	return d
}

// recall asks the Store what was dealt with; known is false where nobody can tell.
func (d *device) recall() (record map[string]string, known bool) {
	if d.run.cfg.Store == nil {
		return nil, false
	}
	record, err := d.run.cfg.Store.LastDesired(d.id)
	if err == nil {
		return record, true
	}
	d.run.counts.storeErrors.Add(1)
	d.run.cfg.Log.Error("the record of desired values cannot be read: those declared now are not written", "device", d.id, "error", err)
	return nil, false
}

// open opens the device at the driver and starts its session.
func (d *device) open(ctx context.Context) {
	spec := d.spec.Load()
	conn, problems := d.run.guard.open(*spec)
	_, refused := conn.(refusedConn)
	s := &session{d: d, conn: conn, refused: refused, props: map[string]*twin.Property{}, reading: make(chan struct{}, 1)}
	for i := range spec.Properties {
		s.props[spec.Properties[i].Name] = &spec.Properties[i]
		s.reported = s.reported || spec.Properties[i].ReportToCloud
	}
	d.mu.Lock()
	d.problems = problems
	for name := range d.last {
		if s.props[name] == nil {
			delete(d.last, name)
		}
	}
	d.mu.Unlock()
	ctx, s.cancel = context.WithCancel(ctx)
	d.session = s
	s.wg.Go(func() { s.poll(ctx) })
	s.wg.Go(func() { s.writer(ctx) })
}

// close ends the session and waits for it.
func (d *device) close() {
	s := d.session
	if s == nil {
		return
	}
	d.session = nil
	s.cancel()
	s.wg.Wait()
	if err := d.run.guard.close(s.conn); err != nil {
		d.run.cfg.Log.Warn("close failed", "device", d.id, "error", err)
	}
}

// end sends what is queued for up to drain and forgets the device; it returns
// the device's last position.
func (d *device) end(drain time.Duration) twin.Position {
	d.stream.finish()
	timer := time.AfterFunc(drain, d.stop)
	d.sender.Wait()
	timer.Stop()
	d.stop()
	return d.stream.close()
}

// redeclare takes a changed declaration.
func (d *device) redeclare(spec twin.Device) {
	d.spec.Store(&spec)
	d.mu.Lock()
	d.board.declare(&spec, time.Now())
	d.mu.Unlock()
	d.nudge()
}

// command executes a command.
func (d *device) command(c twin.Command) {
	d.mu.Lock()
	d.board.command(c, time.Now())
	d.emit()
	d.mu.Unlock()
	d.nudge()
}

// emit hands the board's results to the sender of results; d.mu is held, so they keep their order.
func (d *device) emit() {
	for _, r := range d.board.take() {
		d.run.publishResult(d.id, r)
	}
}

func (d *device) nudge() {
	select {
	case d.write <- struct{}{}:
	default:
	}
}

// poll reads what is due, and repeats the state, until ctx ends.
func (s *session) poll(ctx context.Context) {
	spec := s.d.spec.Load()
	var atLeast time.Duration
	if s.refused {
		atLeast = refusedCycle
	}
	now := time.Now()
	p := newPlan(spec, s.d.run.began, now, atLeast)
	if len(p.items) == 0 {
		s.judge(stamp(now), nil, nil) // nothing of it is usable
	}
	var remind time.Time
	if spec.StateReportCycle > 0 {
		remind = now.Add(max(spec.StateReportCycle, minStateCycle))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due := earlier(p.next(), remind)
		if due.IsZero() {
			return // nothing will ever be due
		}
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		started := time.Now()
		if !remind.IsZero() && !remind.After(started) {
			s.d.remind()
			remind = started.Add(max(spec.StateReportCycle, minStateCycle))
		}
		for chunk := range slices.Chunk(p.due(started), twin.MaxSampleReadings) {
			if _, ok := s.read(ctx, chunk); !ok {
				return
			}
			s.d.run.counts.polls.Add(1)
		}
		s.d.run.counts.late.Add(p.advance(started, time.Now()))
	}
}

// read reads props once and passes on what it finds, as a sample and to the
// twins. It reports false when ctx ended. It waits for a Read that is under way.
func (s *session) read(ctx context.Context, props []*twin.Property) ([]twin.Reading, bool) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, false
	}
	names := make([]string, len(props))
	for i, p := range props {
		names[i] = p.Name
	}
	at := stamp(time.Now())
	call, cancel := context.WithTimeout(ctx, s.d.run.cfg.CallTimeout)
	got, err := s.d.run.guard.read(call, s.conn, names)
	cancel()
	if ctx.Err() != nil {
		return nil, false
	}
	var readings []twin.Reading
	if err != nil {
		readings = make([]twin.Reading, len(props))
		for i, p := range props {
			readings[i] = twin.BadReading(p.Name, why(err))
		}
	} else {
		var faults []string
		readings, faults = conform(props, got)
		s.d.blame(faults)
	}
	s.found(at, readings, err)
	return readings, true
}

// blame notes that the driver broke its contract.
func (d *device) blame(faults []string) {
	for _, f := range faults {
		d.run.counts.driverFaults.Add(1)
		if d.run.once.first(d.id.String() + f) {
			d.run.cfg.Log.Error("the driver broke its contract; logged once", "device", d.id, "fault", f)
		}
	}
}
