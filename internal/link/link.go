// Package link schedules the use of one shared line: a serial port, or a
// connection that several devices are behind. It knows no protocol; a request is a
// function that the line runs while nobody else has it.
package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Class is the urgency of a request.
type Class uint8

// The classes.
const (
	Poll  Class = iota // waits for its turn
	Write              // goes before polls, but for one poll in writeBurst
)

// Request is one use of the line.
type Request struct {
	// Station names the device on the line, for fairness. Devices that do not
	// answer are asked less often, by station.
	Station uint32
	Class   Class
	// Deadline orders the polls: the earliest goes first. Zero is as if it were
	// defaultSlack from now. It does not end the request, its context does.
	Deadline time.Time
	// Pause is kept free on the line after the request.
	Pause time.Duration
	// Run has the line to itself. It must return soon after ctx ends. Its error is
	// Do's; see ErrSilent and ErrDown.
	Run func(ctx context.Context) error
}

// Errors that Run wraps to say what became of the station, and those of Do.
var (
	// ErrSilent says that the station did not answer.
	ErrSilent = errors.New("no answer")
	// ErrDown says that the line failed, whatever the station would have done.
	ErrDown = errors.New("line is down")
	// ErrSuspended is in Do's error for a station that did not answer lately and is not
	// asked now; Run was not called.
	ErrSuspended = errors.New("not asked")
	// ErrBusy is in Do's error when too many requests wait; Run was not called.
	ErrBusy = errors.New("line is busy")
	// ErrWaited is in Do's error when ctx ended before the request had its turn; Run was not called.
	ErrWaited = errors.New("the line had no turn in time")
	// ErrClosed is in Do's error after Close; Run was not called.
	ErrClosed = errors.New("line is closed")
)

const (
	// MaxWaiting bounds the requests that wait for one line: more than four for
	// each of the 247 units that a Modbus line may have.
	MaxWaiting = 1024
	// defaultSlack is the deadline of a request without one.
	defaultSlack = time.Second
	// writeBurst is how many writes in a row may go before a poll that waits.
	writeBurst = 8
	// deadAfter is how many requests in a row a station leaves unanswered before it is
	// asked less often: one more than a lost frame and its repetition.
	deadAfter = 3
	// firstProbe and lastProbe bound the time between questions to a dead
	// station; it doubles.
	firstProbe = time.Second
	lastProbe  = 30 * time.Second
	// probeShare is the part of the line's time that dead stations get together: one in probeShare.
	probeShare = 5
)

// Line is one shared line. Requests run one at a time: at once in the goroutine
// of their Do where the line is free, else in turn in the Line's own, which Open starts and
// Close waits for. All methods are safe for concurrent use.
type Line struct {
	done chan struct{}
	wake chan struct{} // holds one: something changed for the goroutine

	mu       sync.Mutex
	closed   bool
	taken    bool // a request runs
	seq      uint64
	polls    queue // by deadline
	writes   queue // first come, first served
	probes   queue // of dead stations, the one longest not asked first
	stations map[uint32]*station
	burst    int       // writes run in a row
	freeAt   time.Time // the end of the last request's pause
	probeAt  time.Time // when dead stations may have the line again
	stats    Stats
	since    time.Time
	pool     sync.Pool // of *waiter
}

// station is what the line knows of one device.
type station struct {
	users  int // Joined and not Left
	misses int // requests in a row without an answer
	wait   time.Duration
	next   time.Time // when it is asked again, if it is dead
	asked  time.Time // last
	last   error
}

func (s *station) dead() bool { return s.misses >= deadAfter }

// Open returns a line in service.
func Open() *Line {
	l := &Line{done: make(chan struct{}), wake: make(chan struct{}, 1), stations: map[uint32]*station{}, since: time.Now()}
	go l.serve()
	return l
}

// Close ends the line: requests that wait fail with ErrClosed, and the one that
// runs is waited for. It is safe to call twice.
func (l *Line) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.done
}

// Join makes a station known; stations that share a line with others are suspended when
// they do not answer, one that has it alone never is. A station may join several times.
func (l *Line) Join(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stations[id]
	if s == nil {
		s = &station{}
		l.stations[id] = s
	}
	s.users++
}

// Leave undoes one Join.
func (l *Line) Leave(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.stations[id]; s != nil {
		if s.users--; s.users <= 0 {
			delete(l.stations, id)
		}
	}
}

// Do runs req when its turn has come, and returns Run's error. While it waits it
// returns when ctx ends; once Run runs, Run has to. Run may be called in this
// goroutine or in the Line's.
func (l *Line) Do(ctx context.Context, req *Request) error {
	w := l.waiter()
	w.ctx, w.req, w.deadline = ctx, req, req.Deadline
	if w.deadline.IsZero() {
		w.deadline = time.Now().Add(defaultSlack)
	}
	now, err := l.enqueue(w)
	switch {
	case err != nil:
		return err
	case now:
		err = l.run(w)
	default:
		select {
		case err = <-w.result:
		case <-ctx.Done():
			if l.withdraw(w) {
				err = fmt.Errorf("%w: %w", ErrWaited, context.Cause(ctx))
			} else {
				err = <-w.result
			}
		}
	}
	w.ctx, w.req, w.station = nil, nil, nil
	l.pool.Put(w)
	return err
}

func (l *Line) waiter() *waiter {
	if w, ok := l.pool.Get().(*waiter); ok {
		return w
	}
	return &waiter{result: make(chan error, 1)}
}

// enqueue puts w where it belongs, or says why not. now is true if the line is
// free and nothing waits: the caller has it then, and is to run w.
func (l *Line) enqueue(w *waiter) (now bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.polls.Len() + l.writes.Len() + l.probes.Len()
	switch {
	case l.closed:
		return false, ErrClosed
	case waiting >= MaxWaiting:
		l.stats.Refused++
		return false, fmt.Errorf("%w: %d requests wait", ErrBusy, MaxWaiting)
	}
	l.seq++
	w.seq, w.station = l.seq, l.stations[w.req.Station]
	switch s := w.station; {
	case s != nil && s.dead() && len(l.stations) > 1:
		if wait := time.Until(s.next); wait > 0 && w.req.Class == Poll {
			l.stats.Suspended++
			return false, &suspended{last: s.last, wait: wait}
		}
		w.order = s.asked.UnixNano()
		l.probes.push(w)
	case !l.taken && waiting == 0 && !time.Now().Before(l.freeAt):
		l.taken = true
		if l.burst++; w.req.Class == Poll {
			l.burst = 0
		}
		return true, nil
	case w.req.Class == Write:
		w.order = 0
		l.writes.push(w)
	default:
		w.order = w.deadline.UnixNano()
		l.polls.push(w)
	}
	l.signal()
	return false, nil
}

// suspended is ErrSuspended with the last error of the station.
type suspended struct {
	last error
	wait time.Duration
}

func (s *suspended) Error() string {
	return fmt.Sprintf("not asked for another %s: %v", s.wait.Round(time.Millisecond), s.last)
}

func (s *suspended) Unwrap() []error { return []error{ErrSuspended, s.last} }

// withdraw takes w out of its queue; false means that it runs or has run.
func (l *Line) withdraw(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.in == nil {
		return false
	}
	w.in.remove(w)
	return true
}

func (l *Line) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// serve runs requests until the line is closed.
func (l *Line) serve() {
	defer close(l.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w, wait, closed := l.next(time.Now())
		switch {
		case closed:
			return
		case w != nil:
			w.result <- l.run(w)
		default:
			timer.Reset(wait)
			select {
			case <-l.wake:
			case <-timer.C:
			}
		}
	}
}

// next takes the request whose turn it is, or says how long to wait for one.
func (l *Line) next(now time.Time) (w *waiter, wait time.Duration, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken {
		return nil, time.Hour, false // until woken
	}
	if l.closed {
		for _, q := range []*queue{&l.writes, &l.polls, &l.probes} {
			for q.Len() > 0 {
				q.pop().result <- ErrClosed
			}
		}
		return nil, 0, true
	}
	if wait = l.freeAt.Sub(now); wait > 0 {
		return nil, wait, false
	}
	w, wait = l.pick(now)
	l.taken = w != nil
	return w, wait, false
}

// pick takes a request out of the queues; see next.
func (l *Line) pick(now time.Time) (w *waiter, wait time.Duration) {
	wait = time.Hour // until woken
	others := l.polls.Len() + l.probes.Len()
	if l.writes.Len() > 0 && (l.burst < writeBurst || others == 0) {
		l.burst++
		return l.writes.pop(), 0
	}
	if l.probes.Len() > 0 {
		if wait = l.probeAt.Sub(now); wait <= 0 {
			l.burst = 0
			return l.probes.pop(), 0
		}
	}
	if l.polls.Len() > 0 {
		l.burst = 0
		return l.polls.pop(), 0
	}
	if l.writes.Len() > 0 { // only probes wait, and it is not their time
		return l.writes.pop(), 0
	}
	return nil, wait
}

// run runs w, which has the line, and frees the line, also if Run panics.
func (l *Line) run(w *waiter) (err error) {
	start := time.Now()
	defer func() { l.free(w, err, start) }()
	if w.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrWaited, context.Cause(w.ctx))
	}
	return w.req.Run(w.ctx)
}

// free takes the line back from w, which had it since start.
func (l *Line) free(w *waiter, err error, start time.Time) {
	end := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = false
	l.stats.Requests++
	l.stats.Busy += end.Sub(start)
	if late := start.Sub(w.deadline); late > 0 {
		l.stats.Late++
		l.stats.Lateness += late
	}
	l.freeAt = end.Add(w.req.Pause)
	if w.station != nil {
		l.judge(w.station, err, start, end)
	}
	if l.closed || l.polls.Len()+l.writes.Len()+l.probes.Len() > 0 {
		l.signal()
	}
}

// judge notes what became of a station's request.
func (l *Line) judge(s *station, err error, start, end time.Time) {
	s.asked = end
	switch {
	case errors.Is(err, ErrDown), errors.Is(err, ErrWaited), errors.Is(err, context.Canceled):
		return // it says nothing about the station
	case !errors.Is(err, ErrSilent):
		s.misses, s.wait, s.last = 0, 0, nil
		return
	}
	l.stats.Silent++
	s.last = err
	if s.dead() {
		l.probeAt = end.Add((probeShare - 1) * end.Sub(start))
	}
	s.misses = min(s.misses+1, deadAfter)
	if s.dead() {
		s.wait = min(max(2*s.wait, firstProbe), lastProbe)
		s.next = end.Add(s.wait)
	}
}

// Stats are what a line has done. The numbers only rise but for the last three.
type Stats struct {
	Requests  uint64        // run
	Silent    uint64        // of them, without an answer
	Late      uint64        // of them, begun after their deadline
	Lateness  time.Duration // of those together
	Busy      time.Duration // the time that requests had the line; over Elapsed it is the utilisation
	Elapsed   time.Duration // since Open
	Refused   uint64        // ErrBusy
	Suspended uint64        // ErrSuspended
	Waiting   int           // now
	Stations  int           // joined
	Dead      int           // of them, asked less often
}

// Stats returns the line's numbers.
func (l *Line) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Elapsed = time.Since(l.since)
	s.Waiting = l.polls.Len() + l.writes.Len() + l.probes.Len()
	s.Stations = len(l.stations)
	for _, st := range l.stations {
		if st.dead() {
			s.Dead++
		}
	}
	return s
}
