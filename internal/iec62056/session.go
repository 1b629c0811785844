package iec62056

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/telegram"
)

// Line is the open serial line as the dialogue needs it, 7 data bits and even
// parity. One dialogue at a time has it.
type Line interface {
	// Send sends b. It first drops what has come and was not received.
	Send(ctx context.Context, b []byte) error
	// Receive collects what comes until done, which sees everything since the
	// last call, says how many of these bytes are the message (0: more is needed). It returns those
	// and keeps the rest for the next call. If nothing comes for timeout, it returns what there is,
	// perhaps nothing, and no error: errors are those of the line and the end of ctx.
	Receive(ctx context.Context, timeout time.Duration, done func(b []byte) (n int)) ([]byte, error)
	// SetBaud changes the rate of both directions once everything sent has left.
	// Where the line cannot change its rate, every call returns an error that is ErrFixed, and changes nothing.
	SetBaud(ctx context.Context, baud int) error
}

// Mode is a protocol mode of section 5.
type Mode string

// The modes of a Session.
const (
	ModeAuto Mode = "auto" // what the meter's identification says
	ModeA    Mode = "a"    // data follow the identification at the same rate
	ModeB    Mode = "b"    // data follow at the rate that the identification says
	ModeC    Mode = "c"    // the reader chooses rate and service first
)

// Session is how one meter is asked. The zero Session asks whoever hears it, as the standard has it.
type Session struct {
	// Address is the device address, at most 32 characters; empty: every meter on the line
	// answers. No answer repeats it, so that the meter behind an answer can only be told by what the telegram says.
	Address string
	// Mode is the mode; empty: ModeAuto.
	Mode Mode
	// StartBaud is the rate of the sign-on, and of the line afterwards; 0: 300, the standard's.
	StartBaud int
	// MaxBaud is the highest rate for the data; 0: 19200. The standard lets the reader choose between the
	// meter's rate and 300; a MaxBaud between them asks for a rate that not every meter grants.
	MaxBaud int
	// Timeout is the longest silence before and in an answer; 0: 2 s. Section 6.4.3
	// gives the meter 1.5 s for either.
	Timeout time.Duration
}

const (
	initialBaud    = 300
	maxBaud        = 19200
	defaultTimeout = 2 * time.Second
	// reaction is the least time between a message and its answer, section 6.4.3.
	reaction = 200 * time.Millisecond
	// maxRepeats is how many times a data message is asked for again at one rate.
	maxRepeats = 2
	// maxDeviceAddress is of section 6.3.14.
	maxDeviceAddress = 32
	// maxSignOn bounds what may come before the identification is complete: an echo and some noise.
	maxSignOn = 256
)

// Check says what of a Session cannot be.
func (s Session) Check() error {
	if len(s.Address) > maxDeviceAddress {
		return fmt.Errorf("address: at most %d characters", maxDeviceAddress)
	}
	for _, c := range []byte(s.Address) {
		if c < ' ' || c >= 0x7F || strings.IndexByte("/?!()", c) >= 0 {
			return fmt.Errorf("address: %q cannot be in it", c)
		}
	}
	switch s.Mode {
	case "", ModeAuto, ModeA, ModeB, ModeC:
	default:
		return fmt.Errorf("mode %q; use auto, a, b or c", s.Mode)
	}
	if s.StartBaud < 0 || s.MaxBaud < 0 || s.Timeout < 0 {
		return errors.New("a rate or time is negative")
	}
	return nil
}

func (s Session) withDefaults() Session {
	if s.Mode == "" {
		s.Mode = ModeAuto
	}
	if s.StartBaud == 0 {
		s.StartBaud = initialBaud
	}
	if s.MaxBaud == 0 {
		s.MaxBaud = maxBaud
	}
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	return s
}

// Readout signs on, takes the data message and leaves the line at its start
// rate, whatever happens. It blocks until the meter has sent everything, a
// minute and more at 300 baud, or ctx ends. Errors wrap ErrSilent, ErrDamaged, ErrRefused or ErrFormat where
// they are the meter's, ErrFixed where mode B needs a rate that the line does not have, else what the Line returned.
func (s Session) Readout(ctx context.Context, line Line) (telegram.Telegram, error) {
	if err := s.Check(); err != nil {
		return telegram.Telegram{}, fmt.Errorf("read out meter %q: %w", s.Address, err)
	}
	d := &dialogue{Session: s.withDefaults(), line: line}
	t, err := d.readout(ctx)
	if err = errors.Join(err, d.back(ctx)); err != nil {
		return telegram.Telegram{}, fmt.Errorf("read out meter %q: %w", s.Address, err)
	}
	return t, nil
}

// dialogue is one session under way.
type dialogue struct {
	Session
	line   Line
	rate   int  // of the line, as far as is known
	fixed  bool // the line cannot change it
	framed bool // the meter's messages are seen from STX to ETX, so that the rate is right
}

func (d *dialogue) readout(ctx context.Context) (telegram.Telegram, error) {
	if err := d.begin(ctx); err != nil {
		return telegram.Telegram{}, err
	}
	id, err := d.signOn(ctx)
	if err != nil {
		return telegram.Telegram{}, fmt.Errorf("sign-on: %w", err)
	}
	switch id.Mode, err = d.agree(id); {
	case err != nil:
	case id.Mode == ModeB:
		err = d.change(ctx, id.Baud)
	case id.Mode == ModeC:
		err = d.option(ctx, id)
	}
	if err != nil {
		return telegram.Telegram{}, err
	}
	return d.data(ctx, id)
}

// begin sets the start rate. Where that cannot be done, the line is taken to have it.
func (d *dialogue) begin(ctx context.Context) error {
	err := d.line.SetBaud(ctx, d.StartBaud)
	d.fixed, d.rate = errors.Is(err, ErrFixed), d.StartBaud
	if d.fixed {
		return nil
	}
	return err
}

// change sets another rate.
func (d *dialogue) change(ctx context.Context, baud int) error {
	if baud == d.rate {
		return nil
	}
	if d.fixed {
		return fmt.Errorf("%w: the meter goes on at %d baud", ErrFixed, baud)
	}
	d.rate = baud // even if it fails: it must be set back
	return d.line.SetBaud(ctx, baud)
}

// back sets the start rate again, even if ctx has ended.
func (d *dialogue) back(ctx context.Context) error {
	if d.rate == d.StartBaud || d.rate == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
	defer cancel()
	if err := d.line.SetBaud(ctx, d.StartBaud); err != nil {
		return fmt.Errorf("set the line back to %d baud: %w", d.StartBaud, err)
	}
	d.rate = d.StartBaud
	return nil
}

// signOn sends the request message and receives the identification. An echo of
// the request, which optical heads and two-wire lines give, is passed over.
func (d *dialogue) signOn(ctx context.Context) (Identification, error) {
	request := "/?" + d.Address + "!\r\n" // section 6.3.1
	if err := d.line.Send(ctx, []byte(request)); err != nil {
		return Identification{}, err
	}
	raw, err := d.line.Receive(ctx, d.Timeout, func(b []byte) int {
		if _, end, ok := identification(b); ok || end >= maxSignOn {
			return end
		}
		return 0
	})
	if err != nil {
		return Identification{}, err
	}
	if id, _, ok := identification(raw); ok {
		return id, nil
	}
	if raw := strings.TrimPrefix(string(raw), request); raw != "" {
		return Identification{}, fmt.Errorf("%w: %s is no identification", ErrDamaged, quoted(raw))
	}
	return Identification{}, ErrSilent
}

// identification finds the first complete identification message within the
// first maxSignOn bytes; end is where it ends, or how many bytes were searched.
func identification(b []byte) (id Identification, end int, ok bool) {
	b = b[:min(len(b), maxSignOn)]
	for i, c := range b {
		if c != '/' {
			continue
		}
		line, _, complete := bytes.Cut(b[i:], []byte("\n"))
		if !complete {
			break
		}
		if id, err := ParseIdentification(line); err == nil {
			return id, i + len(line) + 1, true
		}
	}
	return Identification{}, len(b), false
}

// agree returns the mode in which to go on.
func (d *dialogue) agree(id Identification) (Mode, error) {
	switch {
	case d.Mode == ModeA:
		return ModeA, nil
	case d.Mode != ModeAuto && d.Mode != id.Mode:
		return "", fmt.Errorf("%w: the meter says rate %q, which is not of mode %s", ErrRefused, id.Rate, d.Mode)
	case id.Mode == ModeB && id.Baud > d.MaxBaud:
		return "", fmt.Errorf("%w: the meter goes on at %d baud, more than the %d allowed", ErrRefused, id.Baud, d.MaxBaud)
	}
	return id.Mode, nil
}

// option sends the acknowledgement and option select message of section 6.3.3
// for a readout (protocol 0, service 0), and changes to the rate that it names.
func (d *dialogue) option(ctx context.Context, id Identification) error {
	z := id.Rate
	for z > '0' && baudOf(z, '0', initialBaud, 7) > d.MaxBaud {
		z--
	}
	baud := baudOf(z, '0', initialBaud, 7)
	if d.fixed {
		baud = d.StartBaud
		for c := byte('0'); c <= '6'; c++ { // a rate that is none of the standard's leaves z as it is
			if baudOf(c, '0', initialBaud, 7) == baud {
				z = c
			}
		}
	}
	if err := d.answer(ctx, []byte{ack, '0', z, '0', '\r', '\n'}); err != nil {
		return err
	}
	return d.change(ctx, baud)
}

// answer sends b when the reaction time is over.
func (d *dialogue) answer(ctx context.Context, b []byte) error {
	timer := time.NewTimer(reaction)
	defer timer.Stop()
	select {
	case <-timer.C:
		return d.line.Send(ctx, b)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
