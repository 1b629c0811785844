// Package probe is the command `twinline probe`: it shows what comes over a serial line, or
// what the properties of a declared device read.
package probe

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/twinline/twinline/cmd/twinline/wire"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/mapper"
)

const example = `  # what does it say?
  twinline probe "serial:///dev/ttyUSB0?baud=9600"
  twinline probe tcp://10.0.0.7:4001 --for 0

  # it answers only when asked
  twinline probe "serial:///dev/ttyUSB0?baud=9600&bits=7&parity=even" --send 'S\r\n'
  twinline probe /dev/ttyUSB0 --send-hex "FF 01 86 00 00 00 00 00 79" --for 2s

  # frame by frame, by a profile or as a Device would declare it
  twinline probe /dev/ttyUSB0 --profile nmea
  twinline probe /dev/ttyUSB0 --framing '{kind: between, start: "\\x02", end: "\\x03", after: 1}' --check '{kind: xor8, from: 1}'

  # read a declared device once, or every second; Modbus devices too
  twinline probe -f device.yaml default/board-1
  twinline probe -f examples/demo default/boiler --watch`

// options are the flags.
type options struct {
	send, sendHex          string
	duration               time.Duration
	profile                string
	framing, check, output string
	raw, watch             bool
	files                  []string

	config  map[string]any // configData, of profile, framing and check; nil: none is given
	payload []byte         // what is sent first
	dial    wire.Dial
	drivers map[string]func() mapper.Driver
}

// NewCommand returns the command. drivers makes, by protocol, the drivers that read declared devices; dial opens lines.
func NewCommand(drivers map[string]func() mapper.Driver, dial wire.Dial) *cobra.Command {
	o := options{drivers: drivers, dial: dial, duration: 10 * time.Second, output: "text"}
	cmd := &cobra.Command{
		Use:   "probe URL | probe -f FILE… [NAMESPACE/DEVICE]",
		Short: "show what comes over a serial line, or what a declared device reads",
		Long: "Probe opens a serial line, shows what comes in as bytes and text, and says what it looks like: which profile reads it,\n" +
			"and which fields with which values it would give. It sends nothing but what --send says.\n" +
			"With -f it opens a device of the manifests with its real driver, and prints what all its properties read.\n" +
			"A port can be opened by one program at a time: stop the mapper that has it.\n" +
			"The exit status is 1 where nothing is heard, or the device does not answer.",
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return app.ConfigError(fmt.Errorf("%d lines or devices are named; name one", len(args)))
			case len(o.files) == 0 && len(args) == 0:
				return app.ConfigError(errors.New("name one line, such as serial:///dev/ttyUSB0?baud=9600, or the manifests of a device with -f FILE"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o := o
			if err := o.complete(cmd); err != nil {
				return app.ConfigError(err)
			}
			if len(o.files) > 0 {
				return o.device(cmd, args)
			}
			return o.line(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.send, "send", "", `send this first, exactly; escapes are \r \n \t \0 \xHH \\ \$`)
	f.StringVar(&o.sendHex, "send-hex", "", "send these bytes first, in hexadecimal digits")
	f.DurationVar(&o.duration, "for", o.duration, "how long to listen, or to wait for what a device says by itself; 0: until Ctrl-C")
	f.StringVar(&o.profile, "profile", "", "show the frames of this profile")
	f.StringVar(&o.framing, "framing", "", "show frames so declared: YAML, as under framing in a Device")
	f.StringVar(&o.check, "check", "", "with --framing: YAML, as under check in a Device")
	f.BoolVar(&o.raw, "raw", false, "write the bytes as they come, and nothing else, to standard output")
	f.StringVarP(&o.output, "output", "o", o.output, "text or json")
	f.StringArrayVarP(&o.files, "filename", "f", nil, "file or folder of manifests with the device; may be given several times")
	f.BoolVar(&o.watch, "watch", false, "with -f: read every second until Ctrl-C, or for as long as --for says if that is given")
	return cmd
}

// complete checks the flags and reads what is in them.
func (o *options) complete(cmd *cobra.Command) (err error) {
	changed := cmd.Flags().Changed
	switch {
	case o.output != "text" && o.output != "json":
		return fmt.Errorf("--output %q: want text or json", o.output)
	case o.duration < 0:
		return fmt.Errorf("--for %s is negative", o.duration)
	case changed("send") && changed("send-hex"):
		return errors.New("--send and --send-hex are both given; keep one")
	case o.raw && o.output == "json":
		return errors.New("--raw and --output json are both given; keep one")
	case o.check != "" && o.framing == "":
		return errors.New("--check stands without --framing")
	case o.watch && len(o.files) == 0:
		return errors.New("--watch goes with -f FILE")
	}
	for _, flag := range []string{"send", "send-hex", "profile", "framing", "check", "raw"} {
		if len(o.files) > 0 && changed(flag) {
			return fmt.Errorf("--%s goes with the URL of a line, not with -f", flag)
		}
	}
	if o.send != "" {
		if o.payload, err = serial.Unescape(o.send); err != nil {
			return fmt.Errorf("--send: %w", err)
		}
	}
	if o.sendHex != "" {
		if o.payload, err = serial.Digits(o.sendHex); err != nil {
			return fmt.Errorf("--send-hex: %w", err)
		}
	}
	if o.watch && !changed("for") {
		o.duration = 0
	}
	return o.declare()
}

// declare makes configData of the flags that say how frames look.
func (o *options) declare() error {
	if _, ok := serial.Usual(o.profile); !ok {
		return fmt.Errorf("--profile: %.80q is not a profile; %s", o.profile, schema.Suggest(o.profile, serial.ProfileNames()))
	}
	config := map[string]any{}
	if o.profile != "" {
		config["profile"] = o.profile
	}
	for _, part := range []struct{ flag, text string }{{"framing", o.framing}, {"check", o.check}} {
		if part.text == "" {
			continue
		}
		var m map[string]any
		if err := yaml.Unmarshal([]byte(part.text), &m); err != nil {
			return fmt.Errorf("--%s: %w", part.flag, err)
		}
		config[part.flag] = m
	}
	if len(config) == 0 {
		return nil
	}
	if _, err := serial.NewReader(maps.Clone(config), false); err != nil {
		return fmt.Errorf("--framing: %w", err)
	}
	o.config = config
	return nil
}
