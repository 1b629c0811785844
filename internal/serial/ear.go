package serial

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/link"
)

// maxRecovery bounds how long a device is left alone after an open question.
const maxRecovery = time.Minute

// Ear hears a line for one device: it finds the device's frames in what comes,
// and gives each to the question that it answers, or to what the device says by itself.
type Ear struct {
	port   *Port
	config *Config
	always bool             // the device speaks by itself
	said   func(m *Message) // takes what it says; called in the port's reader

	mu      sync.Mutex
	scanner *framing.Scanner
	message Message // of the frame that is dealt with
	counted framing.Counters
	wait    *question // nil: nothing is asked
	raw     *dialog   // nil: no dialogue goes on
	asked   time.Time // when the last question went out that is still open
	owing   time.Time // until when its answer may come
	late    time.Duration
	opening uint64
	began   uint64 // the position where hearing began
}

// question is a request that waits for its answer.
type question struct {
	reply  *Reply
	from   uint64 // position in what came: an answer begins behind it
	answer chan answered
}

type answered struct {
	message *Message
	why     string // a refusal
	err     error
}

// Listen makes an Ear of a device. said takes each message that the device says by
// itself and must be done with it when it returns; nil: it says nothing.
func (p *Port) Listen(c *Config, said func(m *Message)) *Ear {
	e := &Ear{port: p, config: c, always: said != nil, said: said, scanner: framing.NewScanner(c.Framing)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ears[e] = struct{}{}
	e.opening = p.opened
	return e
}

// Leave ends an Ear.
func (p *Port) Leave(e *Ear) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ears, e)
}

// Opening returns the number of the stream that is heard, as Port.Open does; 0 when it broke.
func (e *Ear) Opening() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.opening
}

func (e *Ear) reopened(opening uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scanner.Reset()
	e.opening, e.began = opening, e.scanner.Position()
}

// broke ends the question that waits.
func (e *Ear) broke(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opening = 0
	if e.raw != nil {
		e.raw.end(err)
	}
	e.tell(answered{err: err})
}

func (e *Ear) tell(a answered) {
	if e.wait != nil {
		e.wait.answer <- a
		e.wait = nil
	}
}

// deadline is when the Ear wants to be told that nothing came.
func (e *Ear) deadline() (time.Time, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.scanner.Deadline()
}

// hear takes what came, and reports whether a frame was the device's.
func (e *Ear) hear(b []byte, now time.Time) (whole bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.raw != nil {
		return e.raw.take(b)
	}
	if !e.always && e.wait == nil && !now.Before(e.owing) {
		return false
	}
	if len(b) > 0 {
		e.scanner.Push(b, now)
	} else {
		e.scanner.Quiet(now)
	}
	for {
		f, ok := e.scanner.Next()
		if !ok {
			break
		}
		if e.frame(f, now) {
			whole = true
		}
	}
	e.account()
	return whole
}

// account adds what the scanner counted since to the line's counters.
func (e *Ear) account() {
	c := e.scanner.Counters()
	e.port.count.Damaged.Add(c.Damaged - e.counted.Damaged)
	e.port.count.Skipped.Add(c.Skipped - e.counted.Skipped)
	e.counted = c
}

// frame finds out whose a frame is.
func (e *Ear) frame(f framing.Frame, now time.Time) bool {
	count := &e.port.count
	m := &e.message
	if err := m.read(e.config, f); err != nil {
		if damaged(err) {
			count.Damaged.Add(1)
		} else {
			count.Unread.Add(1)
		}
		return false
	}
	if e.config.Sender != "" && m.Telegram.Sender != e.config.Sender {
		return false
	}
	if w := e.wait; w != nil && f.Start >= w.from {
		if answers, why := w.reply.Is(m.Data); answers {
			count.Frames.Add(1)
			e.tell(answered{message: m.clone(), why: why})
			return true
		}
	}
	if e.wait == nil && now.Before(e.owing) && !e.always {
		count.Late.Add(1)
		e.late = max(e.late, now.Sub(e.asked))
		return true
	}
	if !e.always {
		count.Foreign.Add(1)
		return false
	}
	if f.Start == e.began && e.config.open() {
		count.Foreign.Add(1)
		return false
	}
	count.Frames.Add(1)
	e.said(m)
	return true
}

// open reports whether nothing tells a frame whose beginning was not heard from a
// whole one. The first that is heard is then not believed: "0.5" may be the end of "20.5".
func (c *Config) open() bool {
	return c.decode == nil && len(c.Framing.Start) == 0 && c.Framing.Check == nil
}

// errRefused is in the error of a question whose answer is that there is none.
var errRefused = errors.New("the instrument refuses")

// Refused reports whether the instrument answered that it has or takes no value.
func Refused(err error) bool { return errors.Is(err, errRefused) }

// Ask sends a request and returns the message that answers it, which began to
// come after the request went out. The caller has the line's turn. Errors are mapper.Faults; link.ErrSilent
// and link.ErrDown tell the line which it was, Refused what the instrument refuses. It returns soon after ctx ends.
func (e *Ear) Ask(ctx context.Context, r *Request) (*Message, error) {
	if _, err := e.port.Open(ctx, r.Timeout); err != nil {
		return nil, err
	}
	if err := e.settle(ctx, r); err != nil {
		return nil, err
	}
	if r.Reply.None {
		return nil, e.port.send(ctx, r.Send, r.Timeout, e.config.Echo)
	}
	q := &question{reply: &r.Reply, answer: make(chan answered, 1)}
	e.mu.Lock()
	if !e.always {
		e.scanner.Reset()
	}
	q.from = e.scanner.Position()
	e.wait = q
	e.mu.Unlock()
	start := time.Now()
	if err := e.port.send(ctx, r.Send, r.Timeout, e.config.Echo); err != nil {
		e.giveUp(q, time.Time{})
		return nil, err
	}
	timer := time.NewTimer(r.Timeout)
	defer timer.Stop()
	select {
	case a := <-q.answer:
		return e.answered(r, a)
	case <-timer.C:
	case <-ctx.Done():
	}
	if !e.giveUp(q, start) {
		return e.answered(r, <-q.answer) // it came in that moment
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, fault(whyTimeout, "%s of %s: %w", r.Name, e.port.name, err)
	}
	e.port.count.Silent.Add(1)
	return nil, fault(whyTimeout, "%w to %s on %s within %s", link.ErrSilent, r.Name, e.port.name, r.Timeout)
}

// settle waits until no answer to an earlier question can be taken for this
// one's: the device's own, and where the answer does not name it, those of others on the line.
func (e *Ear) settle(ctx context.Context, r *Request) error {
	if !r.Reply.Named {
		return e.port.settle(ctx)
	}
	e.mu.Lock()
	owing := e.owing
	e.mu.Unlock()
	return e.port.waitUntil(ctx, owing)
}

// giveUp ends a question without an answer that was sent at start; zero: it was
// not. It reports false where the answer came in that moment.
func (e *Ear) giveUp(q *question, start time.Time) bool {
	e.mu.Lock()
	open := e.wait == q
	if open {
		e.wait = nil
	}
	if !open || start.IsZero() {
		e.mu.Unlock()
		return open
	}
	recovery := e.config.Recovery
	if !e.config.Fixed {
		recovery = min(max(recovery, 2*e.late), maxRecovery)
	}
	e.asked, e.owing = start, time.Now().Add(recovery)
	owing := e.owing
	e.mu.Unlock()
	e.port.unanswered(owing)
	return true
}

func (e *Ear) answered(r *Request, a answered) (*Message, error) {
	switch {
	case a.err != nil:
		return nil, a.err
	case a.why != "":
		e.port.count.Refused.Add(1)
		return nil, fault(a.why, "%w %s on %s: it says %.80q", errRefused, r.Name, e.port.name, a.message.Data)
	}
	return a.message, nil
}
