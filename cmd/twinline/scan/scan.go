// Package scan is the command `twinline scan`: it finds out how a line is set
// and what an instrument on it speaks, and writes a Device.
package scan

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/cmd/twinline/wire"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/serialport"
)

const example = `  twinline scan /dev/ttyUSB0
  twinline scan /dev/ttyUSB0 --baud 9600,19200 --format 8N1,7E1 --ask=false
  twinline scan tcp://10.0.0.9:4001 --name scale-3 --node edge-2 --write scale-3.yaml`

// options are the command's flags.
type options struct {
	bauds   []int
	formats []string
	listen  time.Duration
	ask     bool
	all     bool
	write   string
	name    string
	space   string
	node    string
}

// NewCommand returns the command. dial opens lines.
func NewCommand(dial wire.Dial) *cobra.Command {
	o := options{
		bauds: []int{9600, 115200, 19200, 38400, 57600, 4800, 2400, 1200, 300}, formats: []string{"8N1", "7E1", "8E1", "7O1", "8O1"},
		listen: 12 * time.Second, ask: true, name: "instrument", space: "default", node: "edge-1",
	}
	cmd := &cobra.Command{
		Use:   "scan URL",
		Short: "find rate, parity and profile of an instrument, and write a Device",
		Long: "Scan listens. Where something speaks it tries the rates and formats until what comes makes sense. Where nothing does it\n" +
			"asks at each of them, unless --ask=false: S and I4 of MT-SICS, *IDN? of SCPI, the sign-on of IEC 62056-21, an empty line.\n" +
			"These set nothing, but an instrument may take them for something else. A meter that signs on is read once, for its fields.\n" +
			"Scan stops at the first convincing find, unless --all. A line behind tcp:// has the settings of its device server: they are not tried.\n" +
			"The Device goes to standard output, progress to standard error. The exit status is 1 where nothing is found.",
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return app.ConfigError(errors.New("name one line, such as /dev/ttyUSB0"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd, dial, args[0], o) },
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.bauds, "baud", o.bauds, "rates to try, in this order; several are parted by commas")
	f.StringSliceVar(&o.formats, "format", o.formats, "data bits, parity and stop bits to try, in this order")
	f.DurationVar(&o.listen, "listen", o.listen, "how long to wait for what an instrument says by itself")
	f.BoolVar(&o.ask, "ask", o.ask, "ask where nothing speaks")
	f.BoolVar(&o.all, "all", false, "try everything, even after a convincing find")
	f.StringVar(&o.write, "write", "", "file to write the Device into; empty: standard output")
	f.StringVar(&o.name, "name", o.name, "name of the Device and its DeviceModel")
	f.StringVar(&o.space, "namespace", o.space, "namespace of both")
	f.StringVar(&o.node, "node", o.node, "the edge node that the line is on")
	return cmd
}

func run(cmd *cobra.Command, dial wire.Dial, target string, o options) error {
	usual, _ := serial.Usual("")
	e, err := wire.Target(target, usual)
	if err != nil {
		return app.ConfigError(err)
	}
	if o.listen <= 0 {
		return app.ConfigError(fmt.Errorf("--listen %s: want a time such as 12s", o.listen))
	}
	settings, err := o.settings(e)
	if err != nil {
		return app.ConfigError(err)
	}
	s := scanner{options: o, dial: dial, progress: cmd.ErrOrStderr(), settings: settings, begin: time.Now()}
	err = errors.Join(s.scan(cmd.Context()), s.close())
	if len(s.finds) == 0 {
		if err == nil {
			err = s.nothing(e)
		}
		return err
	}
	if err != nil { // what was found is not lost
		fmt.Fprintln(cmd.ErrOrStderr(), err)
	}
	return s.report(cmd.OutOrStdout())
}

// settings are those of the line that are to be tried.
func (o *options) settings(e serial.Endpoint) ([]serial.Endpoint, error) {
	if e.Scheme == serial.TCP {
		return []serial.Endpoint{e}, nil
	}
	var list []serial.Endpoint
	for _, text := range o.formats { // rates within formats: nearly all instruments have the first
		at := e
		if !format(text, &at.Settings) {
			return nil, fmt.Errorf("--format %q: want data bits, parity and stop bits, such as 8N1 or 7E1", text)
		}
		for _, at.Settings.Baud = range o.bauds {
			if at.Settings.Baud < serialport.MinBaud || at.Settings.Baud > serialport.MaxBaud {
				return nil, fmt.Errorf("--baud %d: use %d to %d", at.Settings.Baud, serialport.MinBaud, serialport.MaxBaud)
			}
			list = append(list, at)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("--baud and --format leave nothing to try")
	}
	return list, nil
}

// format reads "7E1".
func format(text string, c *serialport.Config) bool {
	parities := map[byte]serialport.Parity{'N': serialport.None, 'E': serialport.Even, 'O': serialport.Odd}
	text = strings.ToUpper(text)
	if len(text) != 3 || text[0] != '7' && text[0] != '8' || text[2] != '1' && text[2] != '2' || parities[text[1]] == "" {
		return false
	}
	c.DataBits, c.Parity, c.StopBits = int(text[0]-'0'), parities[text[1]], int(text[2]-'0')
	return true
}

// nothing is the error of a scan that found nothing.
func (s *scanner) nothing(e serial.Endpoint) error {
	if s.spoke {
		return fmt.Errorf("something speaks on %s, but makes no sense at what was tried in %s: try other rates with --baud, or look at it with twinline probe", e, s.elapsed())
	}
	remedy := "check the wiring (RX and TX crossed, A and B of RS-485), whether the instrument is on, and whether it wants a handshake (rts=on, dtr=on in the URL)"
	if e.Scheme == serial.TCP {
		remedy += ", and the settings of the device server"
	}
	if !s.ask {
		remedy += "; without --ask=false it would be asked, too"
	}
	return fmt.Errorf("nothing was found on %s in %s: %s", e, s.elapsed(), remedy)
}

// maxShown bounds the finds that are shown.
const maxShown = 5

// report prints the finds, the likeliest first, and the Device of the first.
func (s *scanner) report(out io.Writer) error {
	slices.SortStableFunc(s.finds, func(a, b find) int { return b.candidate.Score - a.candidate.Score })
	fmt.Fprintf(out, "# found in %s:\n", s.elapsed())
	for _, f := range s.finds[:min(len(s.finds), maxShown)] {
		fmt.Fprintf(out, "# %3d  %s: %s: %s\n", f.candidate.Score, f.endpoint, f.candidate.What, f.candidate.Reason)
	}
	best := &s.finds[0]
	if best.candidate.Score < identify.Convincing {
		fmt.Fprintln(out, "# this is a guess: look at it with twinline probe before you believe it")
	}
	if best.candidate.SevenBits != "" && best.endpoint.Scheme == serial.TCP {
		fmt.Fprintf(out, "# the bytes have %s parity: set the device server to 7 data bits with it first\n", best.candidate.SevenBits)
	}
	draft, err := best.draft(&s.options)
	if err != nil {
		return err
	}
	if s.write == "" {
		_, err = out.Write(draft)
	} else if err = os.WriteFile(s.write, draft, 0o600); err == nil {
		fmt.Fprintf(out, "# the Device is in %s; check it with twinline validate, and read it with twinline probe -f %s\n", s.write, s.write)
	}
	if err != nil {
		return fmt.Errorf("write the Device: %w", err)
	}
	return nil
}
