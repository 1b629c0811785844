package probe

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/twin"
)

// conclude says what was heard.
func (o *options) conclude(w io.Writer, h *heard) error {
	silent := o.silence(h)
	if o.raw || silent != nil && o.output == "text" {
		return silent
	}
	h.traits = identify.Describe(h.chunks)
	if o.config == nil {
		h.list = identify.Guess(h.chunks)
	} else if c, ok := identify.As(o.config, h.chunks, o.asks()); ok {
		h.list = []identify.Candidate{c}
	}
	if o.output == "json" {
		if err := writeJSON(w, o.report(h)); err != nil {
			return err
		}
		return silent
	}
	fmt.Fprintln(w)
	if !h.sent.IsZero() {
		fmt.Fprintf(w, "The answer began %s after the question.\n", h.chunks[0].At.Sub(h.sent).Round(100*time.Microsecond))
	}
	fmt.Fprintf(w, "%s in %.1f s.\n", h.traits, h.length.Seconds())
	o.explain(w, h)
	return nil
}

// explain says what the bytes look like.
func (o *options) explain(w io.Writer, h *heard) {
	switch {
	case len(h.list) == 0 && o.config != nil:
		fmt.Fprintln(w, "No frame of that form was heard; leave --profile and --framing out to see what it looks like.")
		return
	case len(h.list) == 0 && h.endpoint.Scheme == serial.TCP:
		fmt.Fprintln(w, "No profile reads it and no order is seen in it. The device server may be set to another rate than the instrument.")
		return
	case len(h.list) == 0:
		fmt.Fprintf(w, "No profile reads it and no order is seen in it. The rate may be wrong: twinline scan %q tries others.\n", h.endpoint)
		return
	}
	best, others := &h.list[0], h.list[1:]
	looks := "It looks like"
	if best.Score >= identify.Convincing {
		others = nil
	} else if o.config == nil {
		looks = "It may be"
	}
	name := ""
	if p := best.Profile(); p != "" {
		name = " (profile " + p + ")"
	}
	fmt.Fprintf(w, "%s %s%s: %s.\n", looks, best.What, name, best.Reason)
	fmt.Fprintf(w, "%s, %d damaged, %s skipped.\n", plural(best.Frames, "frame"), best.Damaged, plural(best.Skipped, "byte"))
	if best.SevenBits != "" {
		fmt.Fprintf(w, "Open it with 7 data bits: bits=7&parity=%s.\n", best.SevenBits)
	}
	for _, c := range others[:min(len(others), 2)] {
		fmt.Fprintf(w, "Or %s: %s.\n", c.What, c.Reason)
	}
	table(w, best.Fields)
}

// maxShown bounds the fields that are shown to people.
const maxShown = 60

// table shows fields.
func table(w io.Writer, fields []identify.Field) {
	if len(fields) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIELD\tVALUE\tUNIT\tQUALITY")
	for i := range fields[:min(len(fields), maxShown)] {
		f := &fields[i]
		fmt.Fprintf(t, "%s\t%.60s\t%s\t%s\n", f.Name, printable(shown(f)), f.Unit, quality(f.Quality))
	}
	_ = t.Flush() // as with Fprintln
	if more := len(fields) - maxShown; more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}

// shown is the text of a field, of which a bad one has none.
func shown(f *identify.Field) string {
	if f.Quality.IsBad() {
		return ""
	}
	return f.Text
}

func quality(q twin.Quality) string {
	if q.IsGood() {
		return "good"
	}
	return string(q)
}

// printable puts dots for what is no printable ASCII.
func printable(text string) string {
	b := []byte(text)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '.'
		}
	}
	return string(b)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
