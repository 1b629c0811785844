// Package probe is the command `twinline probe`: it shows what comes in on a serial
// line and says what it looks like.
package probe

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
)

const example = `  twinline probe serial:///dev/ttyUSB0?baud=9600
  twinline probe serial:///dev/ttyUSB0?baud=115200 --profile dsmr --for 30s
  twinline probe /dev/ttyUSB0 --send '*IDN?\n' --for 2s
  twinline probe tcp://10.0.0.9:4001 --send-hex '01 03 00 00'`

// options are the command's flags.
type options struct {
	length        time.Duration
	profile       string
	send, sendHex string
}

// NewCommand returns the command. open opens lines.
func NewCommand(open Opener) *cobra.Command {
	o := options{length: 10 * time.Second}
	cmd := &cobra.Command{
		Use:   "probe URL",
		Short: "show what comes in on a serial line, and which profile fits",
		Long: "Probe listens on a line and shows what comes, in hexadecimal digits and as text, with the time since the start.\n" +
			"At the end it says what the bytes look like and which values a Device would read from them. It sends nothing, but\n" +
			"what --send says. Profiles: " + strings.Join(serial.ProfileNames(), ", ") + ".",
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return app.ConfigError(errors.New("name one line, such as serial:///dev/ttyUSB0?baud=9600"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd, open, args[0], o) },
	}
	cmd.Flags().DurationVar(&o.length, "for", o.length, "how long to listen; 0: until Ctrl-C")
	cmd.Flags().StringVar(&o.profile, "profile", "", "show the values that this profile reads, whatever it looks like")
	cmd.Flags().StringVar(&o.send, "send", "", `send this text first; escapes are \r \n \t \0 \xHH \\ \$`)
	cmd.Flags().StringVar(&o.sendHex, "send-hex", "", "send these bytes first, in hexadecimal digits")
	return cmd
}

func run(cmd *cobra.Command, open Opener, target string, o options) error {
	e, err := ParseTarget(target)
	if err != nil {
		return app.ConfigError(err)
	}
	if _, ok := serial.Usual(o.profile); !ok {
		return app.ConfigError(fmt.Errorf("--profile %q: known are %s", o.profile, strings.Join(serial.ProfileNames(), ", ")))
	}
	send, err := o.bytes()
	if err != nil {
		return app.ConfigError(err)
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "listening on %s\n", e)
	start := time.Now()
	heard, err := Listen(cmd.Context(), open(e), send, o.length, func(c serial.Chunk) { show(out, c, c.At.Sub(start)) })
	if err == nil || len(heard) > 0 {
		report(out, heard, o.profile, len(send) > 0)
	}
	return err
}

func (o *options) bytes() ([]byte, error) {
	switch {
	case o.send != "" && o.sendHex != "":
		return nil, errors.New("--send stands beside --send-hex: keep one of them")
	case o.sendHex != "":
		return serial.Digits(o.sendHex)
	}
	return serial.Unescape(o.send)
}

// show prints bytes as they come.
func show(out io.Writer, c serial.Chunk, after time.Duration) {
	for len(c.Data) > 0 {
		n := min(16, len(c.Data))
		text := []byte(nil)
		for _, b := range c.Data[:n] {
			if b < ' ' || b > '~' {
				b = '.'
			}
			text = append(text, b)
		}
		fmt.Fprintf(out, "%9.3f s  %-47s  %s\n", after.Seconds(), spaced(c.Data[:n]), text)
		c.Data = c.Data[n:]
	}
}

func spaced(b []byte) string {
	var s strings.Builder
	for i := range b {
		if i > 0 {
			s.WriteByte(' ')
		}
		s.WriteString(hex.EncodeToString(b[i : i+1]))
	}
	return s.String()
}

// report says what was heard looks like.
func report(out io.Writer, heard []serial.Chunk, profile string, asked bool) {
	if len(heard) == 0 {
		fmt.Fprintln(out, "nothing came")
		if asked {
			fmt.Fprintln(out, "check the wiring, the rate, and what the instrument wants to be sent: line end, address, a handshake (rts=on, dtr=on in the URL)")
		} else {
			fmt.Fprintln(out, "check the wiring and the rate; an instrument that only answers wants to be asked: try --send, or twinline scan")
		}
		return
	}
	fmt.Fprintln(out, "heard", identify.Describe(heard))
	candidates := identify.Guess(heard)
	shown := 0
	for i := range candidates {
		c := &candidates[i]
		if profile != "" && c.Profile() != profile || shown >= maxShown {
			continue
		}
		shown++
		fmt.Fprintf(out, "%3d  %s: %s (%d frames, %d damaged, %d bytes of none)\n", c.Score, c.What, c.Reason, c.Frames, c.Damaged, c.Skipped)
		if shown == 1 {
			frames(out, c, heard)
			fields(out, c)
		}
	}
	switch {
	case shown == 0 && profile != "":
		fmt.Fprintf(out, "the profile %s does not fit\n", profile)
	case shown == 0:
		fmt.Fprintln(out, "it looks like nothing that is known: often the rate or the parity is wrong; twinline scan tries others")
	}
}

// maxFrames bounds the frames that are shown: the last ones.
const maxFrames = 8

// frames prints what the candidate takes for frames.
func frames(out io.Writer, c *identify.Candidate, heard []serial.Chunk) {
	tried, err := serial.Try(c.Config, heard, true)
	if err != nil {
		return // an answer to a question has no framing to try
	}
	for _, frame := range tried.Data[max(0, len(tried.Data)-maxFrames):] {
		fmt.Fprintf(out, "     frame %q\n", frame)
	}
}

// maxShown bounds the candidates that are shown: the others are unlikely.
const maxShown = 3

// fields prints the values that a candidate has.
func fields(out io.Writer, c *identify.Candidate) {
	for i := range c.Fields {
		f := &c.Fields[i]
		value := f.Text
		if !f.Quality.IsGood() {
			value += " " + string(f.Quality)
		}
		fmt.Fprintf(out, "     %-28s %s %s\n", f.Name, value, f.Unit)
	}
}
