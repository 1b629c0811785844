package simulator

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Wave says what a property shows over time. Times count from the start of the
// simulation; the same wave shows the same values in every run.
type Wave struct {
	// Wave is one of constant, sine, square, triangle, ramp, random, counter and hold.
	// hold keeps what is written to it, and starts with Value; it is the default
	// of writable properties. counter starts with Min and rises by Rate a second.
	Wave   string   `json:"wave"`
	Min    *float64 `json:"min,omitempty"`
	Max    *float64 `json:"max,omitempty"`
	Period Duration `json:"period,omitempty"`
	Rate   float64  `json:"rate,omitempty"`
	Value  any      `json:"value,omitempty"` // of constant and hold
}

func waveNames() []string {
	return []string{"constant", "sine", "square", "triangle", "ramp", "random", "counter", "hold"}
}

func (w Wave) check() error {
	if !slices.Contains(waveNames(), w.Wave) {
		return fmt.Errorf("unknown wave %q; known are %s", w.Wave, strings.Join(waveNames(), ", "))
	}
	if w.Period < 0 || (w.Period > 0 && w.Period < Duration(time.Millisecond)) {
		return fmt.Errorf("period %s; want at least 1ms", time.Duration(w.Period))
	}
	if w.Min != nil && w.Max != nil && *w.Min > *w.Max {
		return fmt.Errorf("min %g is above max %g", *w.Min, *w.Max)
	}
	return nil
}

// defaultPeriod is a minute: slow enough to see on a page, fast enough for a demo.
const defaultPeriod = Duration(time.Minute)

// wave is a Wave made ready for one property.
type wave struct {
	Wave
	kind     twin.Type
	min, max float64
	fixed    twin.Value // of constant and hold
}

// waveOf completes w for a property: bounds from its minimum and maximum, else 0 to 100.
func waveOf(w Wave, p *twin.Property) (wave, error) {
	if w.Wave == "" {
		w.Wave = defaultWave(p)
	}
	if w.Period == 0 {
		w.Period = defaultPeriod
	}
	out := wave{Wave: w, kind: p.Type, min: 0, max: 100}
	if p.Type == twin.TypeBoolean {
		out.max = 1
	}
	for _, b := range []struct {
		set      *float64
		declared twin.Value
		to       *float64
	}{{w.Min, p.Minimum, &out.min}, {w.Max, p.Maximum, &out.max}} {
		if f, ok := b.declared.AsFloat(); ok {
			*b.to = f
		}
		if b.set != nil {
			*b.to = *b.set
		}
	}
	var err error
	if w.Value != nil {
		if out.fixed, err = p.Parse(textOf(w.Value)); err != nil {
			return wave{}, fmt.Errorf("value: %w", err)
		}
	} else {
		out.fixed = out.of(out.min)
	}
	return out, nil
}

// textOf writes a JSON value as people do: 305419896 and not 3.05419896e+08.
func textOf(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

func defaultWave(p *twin.Property) string {
	switch {
	case p.Writable:
		return "hold"
	case p.Type == twin.TypeBoolean:
		return "square"
	case p.Type == twin.TypeString, p.Type == twin.TypeBytes:
		return "constant"
	}
	return "sine"
}

// at returns the value that the property shows after t.
func (w *wave) at(t time.Duration) twin.Value {
	phase := math.Mod(float64(t)/float64(w.Period), 1)
	span := w.max - w.min
	switch w.Wave.Wave {
	case "sine":
		return w.of(w.min + span*(1-math.Cos(2*math.Pi*phase))/2)
	case "square":
		return w.of(w.min + span*math.Floor(2*phase))
	case "triangle":
		return w.of(w.min + span*(1-math.Abs(2*phase-1)))
	case "ramp":
		return w.of(w.min + span*phase)
	case "random":
		return w.of(w.min + span*noise(uint64(t/time.Duration(w.Period))))
	case "counter":
		return w.of(w.min + math.Floor(w.Rate*t.Seconds()))
	}
	return w.fixed
}

// of returns x as a value of the property's type.
func (w *wave) of(x float64) twin.Value {
	switch w.kind {
	case twin.TypeInt:
		return twin.IntValue(int64(math.Round(x)))
	case twin.TypeBoolean:
		return twin.BoolValue(x >= 0.5)
	case twin.TypeString:
		return twin.StringValue("ok")
	case twin.TypeBytes:
		return twin.StringValue("")
	}
	return twin.FloatValue(x)
}

// noise maps n to 0..1 (splitmix64, Steele et al. 2014).
func noise(n uint64) float64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return float64((n^n>>31)>>11) / (1 << 53)
}
