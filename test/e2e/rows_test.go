package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// stored is what the database holds of one sample.
type stored struct {
	time     time.Time
	readings map[string]string // property: canonical value, or quality
	doubles  int               // rows of a property that has one already
}

// storedSamples reads all rows that carry a sequence number, by sample.
func storedSamples(ctx context.Context, dsn, namespace string) (map[key]*stored, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `SELECT device_id, epoch, seq, time, property, quality, value_double, value_int, value_uint::text, value_bool, value_text
		FROM telemetry WHERE device_id LIKE $1 AND seq IS NOT NULL`, namespace+"/%")
	if err != nil {
		return nil, fmt.Errorf("read telemetry: %w", err)
	}
	defer rows.Close()
	out := map[key]*stored{}
	for rows.Next() {
		var k key
		var at time.Time
		var property, quality string
		var c columns
		if err := rows.Scan(&k.device, &k.Epoch, &k.Seq, &at, &property, &quality, &c.double, &c.integer, &c.uint, &c.boolean, &c.text); err != nil {
			return nil, fmt.Errorf("read telemetry: %w", err)
		}
		s := out[k]
		if s == nil {
			s = &stored{time: at, readings: map[string]string{}}
			out[k] = s
		}
		if _, double := s.readings[property]; double || !s.time.Equal(at) {
			s.doubles++
		}
		s.readings[property] = reading(c.canonical(), quality)
	}
	return out, rows.Err()
}

// columns are the value columns of a row, at most one of which is set.
type columns struct {
	double  *float64
	integer *int64
	uint    *string
	boolean *bool
	text    *string
}

func (c columns) canonical() string {
	switch {
	case c.double != nil:
		return canonicalFloat(*c.double)
	case c.integer != nil:
		return strconv.FormatInt(*c.integer, 10)
	case c.uint != nil:
		return *c.uint
	case c.boolean != nil:
		return strconv.FormatBool(*c.boolean)
	case c.text != nil:
		return strconv.Quote(*c.text)
	}
	return ""
}

// canonical writes a JSON value as columns does.
func canonical(raw json.RawMessage) string {
	text := string(raw)
	if strings.HasPrefix(text, `"`) {
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return strconv.Quote(s)
		}
	}
	if strings.ContainsAny(text, ".eE") {
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return canonicalFloat(f)
		}
	}
	return text // an integer, true or false
}

// canonicalFloat marks a number as one with a fraction, so that 21 and 21.0 are told apart.
func canonicalFloat(f float64) string {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if f == math.Trunc(f) {
		text += " (float)"
	}
	return text
}

func reading(value, quality string) string {
	if quality == "" || quality == "good" {
		return value
	}
	return value + " " + quality
}

// readings of a sample as the database is to hold them.
func (s sample) readings() map[string]string {
	out := map[string]string{}
	for property, quality := range s.Quality {
		out[property] = reading("", quality)
	}
	for property, raw := range s.Values {
		out[property] = reading(canonical(raw), s.Quality[property])
	}
	return out
}

// comparison is how the database compares with what was acknowledged.
type comparison struct {
	acknowledged, stored             int
	missing, double, foreign, unlike int
	examples                         []string
}

// compare holds what is stored against what was acknowledged. Nothing may be
// missing, twice, other than it was, or there without having been acknowledged.
func compare(acked map[key]sample, got map[key]*stored) comparison {
	c := comparison{acknowledged: len(acked), stored: len(got)}
	say := func(format string, args ...any) {
		if len(c.examples) < 10 {
			c.examples = append(c.examples, fmt.Sprintf(format, args...))
		}
	}
	for k, s := range acked {
		row, ok := got[k]
		if !ok {
			c.missing++
			say("%s is missing", k)
			continue
		}
		if row.doubles > 0 {
			c.double++
			say("%s is there more than once", k)
		}
		want := s.readings()
		if !row.time.Equal(s.Time.Truncate(time.Microsecond)) || fmt.Sprint(row.readings) != fmt.Sprint(want) {
			c.unlike++
			say("%s is %s %v, was %s %v", k, row.time, row.readings, s.Time, want)
		}
	}
	for k := range got {
		if _, ok := acked[k]; !ok {
			c.foreign++
			say("%s is stored and was not acknowledged", k)
		}
	}
	return c
}

// err is nil when the database holds exactly what was acknowledged.
func (c comparison) err() error {
	if c.missing+c.double+c.unlike+c.foreign == 0 {
		return nil
	}
	return fmt.Errorf("%s; %s", c, strings.Join(c.examples, "; "))
}

func (c comparison) String() string {
	text := fmt.Sprintf("acknowledged %s samples; stored %s; missing %d; double %d", thousands(c.acknowledged), thousands(c.stored), c.missing, c.double)
	if c.unlike+c.foreign > 0 {
		text += fmt.Sprintf("; changed %d; not acknowledged %d", c.unlike, c.foreign)
	}
	return text
}

// thousands writes 12345 as 12,345.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
