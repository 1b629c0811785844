// Package scan is the command `twinline scan`: it finds out how a line is set
// and what an instrument on it speaks, and writes a Device.
package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/cmd/twinline/probe"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/serialport"
)

const example = `  twinline scan /dev/ttyUSB0
  twinline scan /dev/ttyUSB0 --baud 9600 --baud 19200 --ask=false
  twinline scan tcp://10.0.0.9:4001 --write device.yaml`

// options are the command's flags.
type options struct {
	bauds  []int
	listen time.Duration
	ask    bool
	all    bool
	write  string
}

// NewCommand returns the command. open opens lines.
func NewCommand(open probe.Opener) *cobra.Command {
	o := options{bauds: []int{9600, 115200, 19200, 38400, 57600, 4800, 2400, 1200, 300}, listen: 3 * time.Second, ask: true}
	cmd := &cobra.Command{
		Use:   "scan URL",
		Short: "find rate, parity and profile of an instrument, and write a Device",
		Long: "Scan listens at each rate, with 8 bits and no parity and with 7 bits and even parity, and looks at what comes. Where nothing\n" +
			"speaks it asks, unless --ask=false: S and I4 of MT-SICS, *IDN? of SCPI, the sign-on of IEC 62056-21, an empty line. These\n" +
			"set nothing, but an instrument may take them for something else. It stops at the first convincing find, unless --all.\n" +
			"A line behind tcp:// has the settings of its device server: only what comes is looked at.",
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return app.ConfigError(errors.New("name one line, such as /dev/ttyUSB0"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd, open, args[0], o) },
	}
	cmd.Flags().IntSliceVar(&o.bauds, "baud", o.bauds, "rates to try, in this order")
	cmd.Flags().DurationVar(&o.listen, "listen", o.listen, "how long to listen at each setting")
	cmd.Flags().BoolVar(&o.ask, "ask", o.ask, "ask where nothing speaks")
	cmd.Flags().BoolVar(&o.all, "all", false, "try everything, even after a convincing find")
	cmd.Flags().StringVar(&o.write, "write", "", "file to write the Device into; empty: standard output")
	return cmd
}

// find is what was found at one setting of the line.
type find struct {
	endpoint  serial.Endpoint
	candidate identify.Candidate
}

func run(cmd *cobra.Command, open probe.Opener, target string, o options) error {
	e, err := probe.ParseTarget(target)
	if err != nil {
		return app.ConfigError(err)
	}
	for _, baud := range o.bauds {
		if baud < serialport.MinBaud || baud > serialport.MaxBaud {
			return app.ConfigError(fmt.Errorf("--baud %d: use %d to %d", baud, serialport.MinBaud, serialport.MaxBaud))
		}
	}
	s := scanner{options: o, open: open, progress: cmd.ErrOrStderr(), steps: steps(e, o)}
	if err := s.scan(cmd.Context()); err != nil && len(s.finds) == 0 {
		return err
	}
	return s.report(cmd.OutOrStdout())
}

// step is one thing to try.
type step struct {
	endpoint serial.Endpoint
	question *identify.Question // nil: listen
}

// steps are all that is to be tried: first to listen at each setting, then to ask.
func steps(e serial.Endpoint, o options) []step {
	settings := []serial.Endpoint{e}
	if e.Scheme != serial.TCP {
		settings = nil
		for _, baud := range o.bauds {
			for _, char := range []serialport.Config{{DataBits: 8, Parity: serialport.None}, {DataBits: 7, Parity: serialport.Even}} {
				at := e
				at.Settings.Baud, at.Settings.DataBits, at.Settings.Parity = baud, char.DataBits, char.Parity
				settings = append(settings, at)
			}
		}
	}
	var list []step
	for _, at := range settings {
		list = append(list, step{endpoint: at})
	}
	if !o.ask {
		return list
	}
	for _, q := range identify.Questions() {
		for _, at := range settings {
			if q.Baud == 0 || e.Scheme == serial.TCP || (at.Settings.Baud == q.Baud && at.Settings.DataBits == 7) {
				list = append(list, step{at, &q})
			}
		}
	}
	return list
}

type scanner struct {
	options
	open     probe.Opener
	progress io.Writer
	steps    []step
	finds    []find
}

// scan tries step after step, until something convinces or ctx ends.
func (s *scanner) scan(ctx context.Context) error {
	for i, at := range s.steps {
		if ctx.Err() != nil {
			return nil // what was found so far is reported
		}
		what := "listening"
		if at.question != nil {
			what = "asking " + at.question.What
		}
		left := time.Duration(len(s.steps)-i) * s.listen
		fmt.Fprintf(s.progress, "%d of %d, at most %s left: %s on %s\n", i+1, len(s.steps), left.Round(time.Second), what, at.endpoint)
		var send []byte
		if at.question != nil {
			send = at.question.Send
		}
		heard, err := probe.Listen(ctx, s.open(at.endpoint), send, s.listen, nil)
		if err != nil {
			return err
		}
		if s.take(at, heard) && !s.all {
			return nil
		}
	}
	return nil
}

// take looks at what was heard, and reports whether it convinces.
func (s *scanner) take(at step, heard []serial.Chunk) bool {
	var list []identify.Candidate
	if at.question == nil {
		list = identify.Guess(heard)
	} else if c, ok := at.question.Answered(heard); ok {
		list = append(list, c)
	}
	if len(list) == 0 {
		return false
	}
	s.finds = append(s.finds, find{at.endpoint, list[0]})
	return list[0].Score >= identify.Convincing
}

// maxShown bounds the finds that are shown.
const maxShown = 5

// report prints the finds, the likeliest first, and the Device of the first.
func (s *scanner) report(out io.Writer) error {
	slices.SortStableFunc(s.finds, func(a, b find) int { return b.candidate.Score - a.candidate.Score })
	if len(s.finds) == 0 {
		fmt.Fprintln(out, "# nothing was found: check the wiring, whether the instrument is on, and whether it wants a handshake (rts=on, dtr=on in the URL)")
		return nil
	}
	for _, f := range s.finds[:min(len(s.finds), maxShown)] {
		fmt.Fprintf(out, "# %3d  %s: %s: %s\n", f.candidate.Score, f.endpoint, f.candidate.What, f.candidate.Reason)
	}
	draft, err := s.finds[0].draft()
	if err != nil {
		return err
	}
	if s.write == "" {
		_, err = out.Write(draft)
	} else if err = os.WriteFile(s.write, draft, 0o600); err == nil {
		fmt.Fprintf(out, "# the Device is in %s; give it its name and node, and check it with twinline validate\n", s.write)
	}
	if err != nil {
		return fmt.Errorf("write the Device: %w", err)
	}
	return nil
}
