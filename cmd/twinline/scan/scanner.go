package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/cmd/twinline/wire"
	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/twin"
)

// How long is listened and waited, besides --listen.
const (
	// burstOver is a silence that ends what an instrument says at once; at 300 baud a character takes 33 ms.
	burstOver = 300 * time.Millisecond
	// glance is how many bytes are looked at before it is decided whether to listen on.
	glance = 512
	// legible is the share of text that bytes have at the right setting alone: there the next
	// telegram is waited for, which may be whole. Elsewhere enoughBursts of noise are left, or enoughNoise.
	legible      = 0.95
	enoughBursts = 3
	enoughNoise  = 2048
	// answerIn is how long an answer may take, signOnIn that of a meter (IEC 62056-21: 1.5 s, and it comes at 300 baud).
	answerIn = time.Second
	signOnIn = 3 * time.Second
	// readoutIn bounds one part of a meter's readout.
	readoutIn = 5 * time.Second
)

// find is what was found at one setting of the line.
type find struct {
	endpoint  serial.Endpoint
	candidate identify.Candidate
}

// scanner looks at one line. It is for one goroutine.
type scanner struct {
	options
	dial     wire.Dial
	progress io.Writer
	settings []serial.Endpoint
	begin    time.Time

	line  *wire.Line // nil: closed
	at    serial.Endpoint
	spoke bool // something came unasked
	finds []find
}

func (s *scanner) elapsed() time.Duration { return time.Since(s.begin).Round(100 * time.Millisecond) }

// scan listens and then asks, until something convinces or ctx ends. What was found so far is in finds.
func (s *scanner) scan(ctx context.Context) error {
	for i, e := range s.settings {
		s.say("listening", i, len(s.settings), 2*time.Duration(len(s.settings)-i)*s.listen, e) // to the first byte, and from it on
		heard, err := s.hear(ctx, e)
		if err != nil || ctx.Err() != nil {
			return err
		}
		s.spoke = s.spoke || len(heard) > 0
		if s.take(e, identify.Guess(heard)) {
			return nil
		}
		if !s.spoke {
			break // wrongly set a line is garbage, not silence
		}
	}
	if !s.ask {
		return nil
	}
	return s.question(ctx)
}

// question asks everything at every setting.
func (s *scanner) question(ctx context.Context) error {
	for i, e := range s.settings {
		questions := slices.DeleteFunc(identify.Questions(), func(q identify.Question) bool {
			return q.Baud != 0 && e.Scheme != serial.TCP && (e.Settings.Baud != q.Baud || e.Settings.DataBits != 7)
		})
		var names []string
		for _, q := range questions {
			names = append(names, q.Name)
		}
		left := time.Duration((len(s.settings)-i)*(len(questions)-1))*answerIn + time.Duration(len(s.settings)-i)*signOnIn
		s.say("asking "+strings.Join(names, ", "), i, len(s.settings), left, e)
		for _, q := range questions {
			c, ok, err := s.put(ctx, e, &q)
			if err != nil || ctx.Err() != nil {
				return err
			}
			if ok && s.take(e, []identify.Candidate{c}) {
				return nil
			}
		}
	}
	return nil
}

// say tells of the progress.
func (s *scanner) say(what string, i, n int, left time.Duration, e serial.Endpoint) {
	fmt.Fprintf(s.progress, "%8s  %d of %d, at most %s left: %s on %s\n", s.elapsed(), i+1, n, left.Round(time.Second), what, e)
}

// take keeps the likeliest of a list, and reports whether it ends the scan.
func (s *scanner) take(e serial.Endpoint, list []identify.Candidate) bool {
	if len(list) == 0 || list[0].Score < identify.Plausible {
		return false
	}
	s.finds = append(s.finds, find{e, list[0]})
	return list[0].Score >= identify.Convincing && !s.all
}

// hear listens at a setting, until what comes convinces or is seen to be noise.
func (s *scanner) hear(ctx context.Context, e serial.Endpoint) (heard []serial.Chunk, err error) {
	if err := s.tune(ctx, e); err != nil {
		return nil, err
	}
	for left := s.listen; left > 0; left = s.listen - time.Since(heard[0].At) {
		more, err := s.line.Hear(ctx, wire.Hearing{For: left, Quiet: burstOver, Enough: glance})
		heard = append(heard, more...)
		if err != nil || ctx.Err() != nil || len(heard) == 0 {
			return heard, err
		}
		if list := identify.Guess(heard); len(list) > 0 && list[0].Score >= identify.Convincing {
			break
		}
		if t := identify.Describe(heard); t.Printable < legible && (t.Bursts >= enoughBursts || t.Bytes >= enoughNoise) {
			break
		}
	}
	return heard, nil
}

// put asks one question at a setting.
func (s *scanner) put(ctx context.Context, e serial.Endpoint, q *identify.Question) (c identify.Candidate, ok bool, err error) {
	if err := s.tune(ctx, e); err != nil {
		return c, false, err
	}
	if err := s.line.Send(q.Send); err != nil {
		return c, false, err
	}
	patience := answerIn
	if q.Baud != 0 {
		patience = signOnIn
	}
	heard, err := s.line.Hear(ctx, wire.Hearing{For: patience, Quiet: burstOver})
	if err != nil {
		return c, false, err
	}
	if c, ok = q.Answered(heard); ok && c.Profile() == "iec62056" {
		s.readMeter(ctx, e, &c)
	}
	return c, ok, nil
}

// readMeter reads a meter that has signed on, for its fields. Without them the draft would be empty.
func (s *scanner) readMeter(ctx context.Context, e serial.Endpoint, c *identify.Candidate) {
	fmt.Fprintf(s.progress, "%8s  reading the meter on %s, which may take minutes\n", s.elapsed(), e)
	if err := s.close(); err != nil {
		fmt.Fprintln(s.progress, err)
	}
	config := map[string]any{"profile": c.Profile(), "url": e.String()}
	decl, problems := serial.Parse(&twin.Device{ID: twin.DeviceID{Namespace: s.space, Name: s.name}, Protocol: serial.Protocol, Config: config})
	if decl == nil {
		fmt.Fprintln(s.progress, problems[0])
		return
	}
	port := serial.NewPort(e, s.dial(e))
	m, err := port.Listen(&decl.Config, nil).Readout(ctx, readoutIn)
	if err = errors.Join(err, port.Close()); err != nil {
		fmt.Fprintln(s.progress, err)
	}
	if m != nil {
		c.Read(m.Telegram.Fields)
	}
}

// tune opens the line at a setting, or changes the setting of the open line: opening it again resets
// boards that are reset by DTR.
func (s *scanner) tune(ctx context.Context, e serial.Endpoint) error {
	if s.line != nil && s.at == e {
		return s.line.Drop()
	}
	if s.line != nil {
		done, err := s.line.Retune(e.Settings)
		if done {
			s.at = e
			return err
		}
		if err := s.close(); err != nil {
			return err
		}
	}
	line, err := wire.Open(ctx, e, s.dial)
	if err != nil {
		return err
	}
	s.line, s.at = line, e
	return nil
}

func (s *scanner) close() error {
	if s.line == nil {
		return nil
	}
	err := s.line.Close()
	s.line = nil
	if err != nil {
		return fmt.Errorf("close %s: %w", s.at, err)
	}
	return nil
}
