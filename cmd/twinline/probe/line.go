package probe

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/cmd/twinline/wire"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
)

// heard is what came over a line.
type heard struct {
	endpoint serial.Endpoint
	opened   time.Time
	length   time.Duration
	sent     time.Time // zero: nothing was
	chunks   []serial.Chunk
	traits   identify.Traits
	list     []identify.Candidate
}

// line listens to a line.
func (o *options) line(cmd *cobra.Command, target string) error {
	usual, _ := serial.Usual(o.profile)
	e, err := wire.Target(target, usual)
	if err != nil {
		return app.ConfigError(err)
	}
	line, err := wire.Open(cmd.Context(), e, o.dial)
	if err != nil {
		return err
	}
	defer func() { _ = line.Close() }() // nothing is lost with it
	h := heard{endpoint: e, opened: line.Start}
	show, err := o.shower(cmd, line)
	if err != nil {
		return app.ConfigError(err)
	}
	ends := "for " + o.duration.String() + "; Ctrl-C ends it sooner"
	if o.duration == 0 {
		ends = "until Ctrl-C"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s is open; listening %s\n", e, ends)
	if len(o.payload) > 0 {
		if err := line.Send(o.payload); err != nil {
			return fmt.Errorf("%s: %w", e, err)
		}
		h.sent = time.Now()
	}
	h.chunks, err = line.Hear(cmd.Context(), wire.Hearing{For: o.duration, Took: show})
	h.length = time.Since(line.Start)
	if err != nil && len(h.chunks) == 0 {
		return fmt.Errorf("%s: %w", e, err)
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s ended: %v\n", e, err)
	}
	return o.conclude(cmd.OutOrStdout(), &h)
}

// shower returns what shows a chunk while the line is heard.
func (o *options) shower(cmd *cobra.Command, line *wire.Line) (func(serial.Chunk), error) {
	out := cmd.OutOrStdout()
	d := dump{w: out, start: line.Start}
	switch {
	case o.output == "json":
		return nil, nil
	case o.raw:
		return func(c serial.Chunk) { _, _ = out.Write(c.Data) }, nil // an error shows in what is missing
	case o.config == nil:
		return d.take, nil
	}
	r, err := serial.NewReader(maps.Clone(o.config), o.asks())
	if err != nil {
		return nil, err
	}
	f := frames{dump: d, reader: r}
	return f.take, nil
}

// asks reports whether what comes is the answer to a question.
func (o *options) asks() bool { return len(o.payload) > 0 }

// errSilent is in the error of a line on which nothing came.
var errSilent = errors.New("nothing was heard")

// silence is the error of a line on which nothing came.
func (o *options) silence(h *heard) error {
	if len(h.chunks) > 0 {
		return nil
	}
	settings := "the baud rate, data bits and parity that the instrument is set to (twinline scan tries them)"
	if h.endpoint.Scheme == serial.TCP {
		settings = "the baud rate, data bits and parity that the device server is set to"
	}
	question := "that it speaks by itself: many instruments answer only when asked; try --send, or twinline scan"
	if o.asks() {
		question = "the question: its line end (\\r\\n, \\r or \\n) and the instrument's address"
	}
	return fmt.Errorf("%w on %s in %s. Check\n"+
		"  - that the instrument has power, and its serial output is on\n"+
		"  - the wiring: RX and TX crossed (null modem), A and B of RS-485, ground; a handshake (rts=on, dtr=on in the URL)\n"+
		"  - %s\n  - %s", errSilent, h.endpoint, h.length.Round(100*time.Millisecond), settings, question)
}
