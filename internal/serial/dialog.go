package serial

import (
	"context"
	"errors"
	"time"

	"github.com/twinline/twinline/internal/iec62056"
	"github.com/twinline/twinline/internal/link"
)

// dialog gives the bytes of a line to a dialogue that is more than a question and
// its answer. It implements iec62056.Line.
type dialog struct {
	ear  *Ear
	wake chan struct{} // holds one: something came, or the stream broke

	// Guarded by ear.mu.
	came []byte
	err  error
}

// maxDialog bounds what is kept of an answer: the longest readouts have some 10 KiB.
const maxDialog = 64 << 10

// take keeps what came; ear.mu is held.
func (d *dialog) take(b []byte) bool {
	d.came = append(d.came, b[:min(len(b), maxDialog-len(d.came))]...)
	d.signal()
	return len(b) > 0
}

func (d *dialog) end(err error) {
	d.err = err
	d.signal()
}

func (d *dialog) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Send implements iec62056.Line.
func (d *dialog) Send(ctx context.Context, b []byte) error {
	d.ear.mu.Lock()
	d.came = nil // what comes before the question is no answer
	d.ear.mu.Unlock()
	return d.ear.port.send(ctx, b, time.Second+time.Duration(len(b))*50*time.Millisecond, d.ear.config.Echo)
}

// Receive implements iec62056.Line.
func (d *dialog) Receive(ctx context.Context, timeout time.Duration, done func(b []byte) int) ([]byte, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for seen := 0; ; {
		d.ear.mu.Lock()
		b, err := d.came, d.err
		if n := done(b); n > 0 && n <= len(b) {
			d.came = append([]byte(nil), b[n:]...)
			d.ear.mu.Unlock()
			return b[:n], nil
		}
		d.ear.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if len(b) > seen { // the time is that of silence
			seen = len(b)
			timer.Reset(timeout)
		}
		select {
		case <-d.wake:
		case <-timer.C:
			return b, nil
		case <-ctx.Done():
			return b, context.Cause(ctx)
		}
	}
}

// SetBaud implements iec62056.Line.
func (d *dialog) SetBaud(_ context.Context, baud int) error {
	err := d.ear.port.setBaud(baud)
	if errors.Is(err, errFixed) {
		return iec62056.ErrFixed
	}
	return err
}

// Readout reads a meter by the dialogue of IEC 62056-21. It is like Ask, but for what is asked.
func (e *Ear) Readout(ctx context.Context, timeout time.Duration) (*Message, error) {
	if _, err := e.port.Open(ctx, timeout); err != nil {
		return nil, err
	}
	if err := e.port.settle(ctx); err != nil {
		return nil, err
	}
	d := &dialog{ear: e, wake: make(chan struct{}, 1)}
	e.hearRaw(d)
	defer e.hearRaw(nil)
	meter := e.config.Meter
	session := iec62056.Session{Address: meter.Address, Mode: iec62056.Mode(meter.Mode), MaxBaud: meter.MaxBaud, StartBaud: e.config.Endpoint.Settings.Baud, Timeout: timeout}
	t, err := session.Readout(ctx, d)
	now := time.Now()
	switch {
	case err == nil && e.config.Sender != "" && t.Sender != e.config.Sender:
		e.port.count.Foreign.Add(1)
		return nil, fault("foreign", "read the meter on %s: the answer is of %.40q, not of %.40q", e.port.name, t.Sender, e.config.Sender)
	case err == nil:
		e.port.count.Frames.Add(1)
		return &Message{At: now, Telegram: &t}, nil
	case errors.Is(err, iec62056.ErrSilent):
		e.port.count.Silent.Add(1)
		e.port.unanswered(now.Add(e.config.Recovery))
		return nil, fault(whyTimeout, "%w: read the meter on %s: %w", link.ErrSilent, e.port.name, err)
	case errors.Is(err, iec62056.ErrDamaged):
		e.port.count.Damaged.Add(1)
		return nil, fault("check", "read the meter on %s: %w", e.port.name, err)
	}
	return nil, fault(whyOf(err), "read the meter on %s: %w", e.port.name, err)
}

func (e *Ear) hearRaw(d *dialog) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.raw = d
	e.scanner.Reset()
}

func whyOf(err error) string {
	if errors.Is(err, link.ErrDown) {
		return whyConnection
	}
	return "dialog"
}
