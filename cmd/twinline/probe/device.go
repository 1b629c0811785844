package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/cmd/twinline/simulate"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// watchCycle is how often --watch reads, and how often a device that speaks by itself is looked at again.
const watchCycle = time.Second

// device reads a device of the manifests.
func (o *options) device(cmd *cobra.Command, args []string) error {
	devices, _, problems, err := simulate.Load(o.files)
	if err != nil {
		return app.ConfigError(err)
	}
	d, err := pick(devices, args)
	if err != nil {
		for _, p := range problems { // they may be why it is not there
			fmt.Fprintln(cmd.ErrOrStderr(), p)
		}
		return app.ConfigError(err)
	}
	newDriver, ok := o.drivers[d.Protocol]
	if !ok {
		return app.ConfigError(fmt.Errorf("no driver for the protocol %q of Device %s", d.Protocol, d.ID))
	}
	conn, wrong := newDriver().Open(*d)
	for _, p := range append(problems, wrong...) {
		fmt.Fprintln(cmd.ErrOrStderr(), p)
	}
	if conn == nil {
		return app.ConfigError(fmt.Errorf("Device %s cannot be opened", d.ID)) //nolint:staticcheck // Device is a kind
	}
	p := poll{options: o, device: d, conn: conn, out: cmd.OutOrStdout(), begin: time.Now()}
	return errors.Join(p.run(cmd.Context()), conn.Close())
}

// pick finds the device that is named; where there is one only, it need not be.
func pick(devices []twin.Device, args []string) (*twin.Device, error) {
	var names []string
	for i := range devices {
		id := devices[i].ID
		if len(args) == 1 && (args[0] == id.String() || args[0] == id.Name) || len(args) == 0 && len(devices) == 1 {
			return &devices[i], nil
		}
		names = append(names, id.String())
	}
	switch {
	case len(devices) == 0:
		return nil, errors.New("there is no device in the manifests that can be read")
	case len(args) == 0:
		return nil, fmt.Errorf("there are %d devices in the manifests; name one, such as %s", len(devices), names[0])
	}
	return nil, fmt.Errorf("there is no device %.80q in the manifests; %s", args[0], schema.Suggest(args[0], names))
}

// poll reads a device once, or with --watch again and again.
type poll struct {
	*options
	device *twin.Device
	conn   mapper.Conn
	out    io.Writer
	begin  time.Time
	known  []twin.Reading // the last of each property
}

// run reads all properties. Of a device that speaks by itself it waits until all was said, as long as --for says.
func (p *poll) run(ctx context.Context) error {
	names := make([]string, len(p.device.Properties))
	p.known = make([]twin.Reading, len(names))
	for i := range names {
		names[i] = p.device.Properties[i].Name
		p.known[i] = twin.Reading{Property: names[i], Quality: mapper.NothingNew}
	}
	tick := time.NewTicker(watchCycle)
	defer tick.Stop()
	for {
		readings, err := p.conn.Read(ctx, names)
		if ctx.Err() != nil {
			return p.end()
		}
		if err != nil {
			err = fmt.Errorf("read Device %s (bad:%s): %w", p.device.ID, mapper.Reason(err), err)
		}
		missing := p.merge(readings)
		switch {
		case p.watch && err != nil:
			err = p.complain(err)
		case p.watch:
			err = p.show(readings)
		case err == nil && (missing == 0 || p.over()):
			return p.show(p.known)
		}
		if err != nil || p.watch && p.over() {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return p.end()
		}
	}
}

// over reports whether --for has passed.
func (p *poll) over() bool { return p.duration > 0 && time.Since(p.begin) >= p.duration }

// end shows what is known when the user does not want to wait any longer.
func (p *poll) end() error {
	if p.watch {
		return nil
	}
	return p.show(p.known)
}

// merge keeps what was read, and says how many properties nothing was said of yet.
func (p *poll) merge(readings []twin.Reading) (missing int) {
	for i := range readings {
		if readings[i].Quality != mapper.NothingNew {
			p.known[i] = readings[i]
		}
		if p.known[i].Quality == mapper.NothingNew {
			missing++
		}
	}
	return missing
}

// complain tells of a round in which nothing was read.
func (p *poll) complain(err error) error {
	if p.output == "json" {
		r := deviceReportOf(p.device, nil)
		r.Error = err.Error()
		return writeJSON(p.out, r)
	}
	fmt.Fprintf(p.out, "%s\n%v\n", time.Now().Format(time.TimeOnly), err)
	return nil
}

// show prints readings.
func (p *poll) show(readings []twin.Reading) error {
	if p.output == "json" {
		return writeJSON(p.out, deviceReportOf(p.device, readings))
	}
	if p.watch {
		fmt.Fprintln(p.out, time.Now().Format(time.TimeOnly))
	}
	t := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROPERTY\tVALUE\tUNIT\tQUALITY")
	for i, r := range readings {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Property, r.Value.Text(), p.device.Properties[i].Unit, said(r.Quality))
	}
	_ = t.Flush() // as with Fprintln
	return nil
}

// said is the quality in words, also of what a device did not say again.
func said(q twin.Quality) string {
	if q == mapper.NothingNew {
		return "nothing said"
	}
	return quality(q)
}
