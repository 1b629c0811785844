// Package wire hears a serial line for the commands that look at one.
package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/serialport"
)

// Dial makes the Dialer of an endpoint.
type Dial func(serial.Endpoint) serial.Dialer

// OpenTimeout bounds the opening of a line.
const OpenTimeout = 10 * time.Second

// Target reads what people name a line by: the url of a Device, or the path of a port with or without its
// settings. usual are the settings that hold where it says nothing.
func Target(text string, usual serialport.Config) (serial.Endpoint, error) {
	if strings.HasPrefix(text, "/") {
		text = "serial://" + text
	}
	return serial.ParseURL(text, usual)
}

// Line is an open line. It is for one goroutine.
type Line struct {
	stream serial.Stream
	Start  time.Time // when it was opened
}

// Open opens a line. Errors are the dialer's, which name the line and, of a port that is taken, who has it.
func Open(ctx context.Context, e serial.Endpoint, dial Dial) (*Line, error) {
	ctx, cancel := context.WithTimeout(ctx, OpenTimeout)
	defer cancel()
	stream, err := dial(e)(ctx)
	if err != nil {
		return nil, err
	}
	return &Line{stream: stream, Start: time.Now()}, nil
}

// Close closes the line.
func (l *Line) Close() error { return l.stream.Close() }

// Retune changes the settings of an open line, and drops what came with the old ones. False: the
// stream cannot do it, and has to be opened anew.
func (l *Line) Retune(c serialport.Config) (bool, error) {
	port, ok := l.stream.(interface {
		SetMode(c serialport.Config) error
	})
	if !ok {
		return false, nil
	}
	_ = l.stream.SetWriteDeadline(time.Now().Add(time.Second)) // what SetMode waits for
	if err := port.SetMode(c); err != nil {
		return true, err
	}
	return true, l.Drop()
}

// Drop reads what has come, and forgets it.
func (l *Line) Drop() error {
	_ = l.stream.SetReadDeadline(time.Now().Add(time.Millisecond)) // an error shows in the Read
	buf := make([]byte, 4096)
	for range 1 << 8 {
		if _, err := l.stream.Read(buf); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
	}
	return nil
}

// Send writes b, within a second and what a slow line needs.
func (l *Line) Send(b []byte) error {
	_ = l.stream.SetWriteDeadline(time.Now().Add(time.Second + time.Duration(len(b))*50*time.Millisecond))
	if _, err := l.stream.Write(b); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Hearing is how long a line is heard.
type Hearing struct {
	For    time.Duration // at most; 0: until ctx ends
	Quiet  time.Duration // it also ends when so long nothing more came; 0: it does not
	Enough int           // it also ends when so many bytes have come; 0: it does not
	// Took is called with each chunk, and with one without Data when for identify.BurstGap nothing came. Nil: nobody wants to know.
	Took func(c serial.Chunk)
}

// Hear returns what comes. It ends without an error when the time is over or ctx ends; an error is the
// line's, and what came before is returned with it. At most the last identify.MaxBytes are kept.
func (l *Line) Hear(ctx context.Context, h Hearing) ([]serial.Chunk, error) {
	var heard []serial.Chunk
	size := 0
	var until, last time.Time
	if h.For > 0 {
		until = time.Now().Add(h.For)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.stream.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for quiet := true; ; {
		_ = l.stream.SetReadDeadline(h.wake(until, last, quiet))
		if ctx.Err() != nil { // it may have ended before the deadline was set
			return heard, nil
		}
		n, err := l.stream.Read(buf)
		now := time.Now()
		if n > 0 {
			c := serial.Chunk{At: now, Data: append([]byte(nil), buf[:n]...)}
			heard, last, quiet = append(heard, c), now, false
			for size += n; size > identify.MaxBytes && len(heard) > 1; heard = heard[1:] {
				size -= len(heard[0].Data)
			}
			h.took(c)
		}
		switch {
		case ctx.Err() != nil:
			return heard, nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return heard, err
		case !until.IsZero() && !now.Before(until), h.Quiet > 0 && !last.IsZero() && now.Sub(last) >= h.Quiet, h.Enough > 0 && size >= h.Enough:
			return heard, nil
		case n == 0 && !quiet && now.Sub(last) >= identify.BurstGap:
			quiet = true
			h.took(serial.Chunk{At: now})
		}
	}
}

func (h *Hearing) took(c serial.Chunk) {
	if h.Took != nil {
		h.Took(c)
	}
}

// wake is when a Read has to end: the zero time is never.
func (h *Hearing) wake(until, last time.Time, quiet bool) time.Time {
	at := until
	if !quiet {
		at = sooner(at, last.Add(identify.BurstGap))
	}
	if h.Quiet > 0 && !last.IsZero() {
		at = sooner(at, last.Add(h.Quiet))
	}
	return at
}

// sooner returns the earlier of two times, of which the first may be zero: never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
