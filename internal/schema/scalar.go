package schema

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// fault is a problem that does not know its place yet.
type fault struct{ what, remedy string }

// scalar decodes a value that is neither list nor map into string, int64,
// float64, bool, time.Duration or twin.Value.
func (f *Field) scalar(raw any) (any, *fault) {
	text, ok := scalarText(raw)
	if !ok {
		return nil, &fault{fmt.Sprintf("want %s, not %s", f.noun(), describe(raw)), f.hint()}
	}
	switch f.Kind {
	case Int:
		return f.integer(text)
	case Float:
		return f.float(text)
	case Bool:
		switch strings.ToLower(text) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return nil, &fault{fmt.Sprintf("%s is not a boolean", quote(text)), "write true or false"}
	case Duration:
		return f.duration(raw, text)
	case Enum:
		return f.choice(text)
	case Scalar:
		return f.anyScalar(raw)
	}
	if b, ok := raw.(bool); ok { // what was written is lost: it may have been "on"
		return nil, &fault{fmt.Sprintf("want a text, not %t", b), "write it in quotes: YAML takes on, off, yes, no, true and false for booleans"}
	}
	if fault := f.checkSize(len(text), "bytes", MaxText); fault != nil {
		return nil, fault
	}
	return text, nil
}

func (f *Field) integer(text string) (any, *fault) {
	n, ok := parseInt(strings.TrimSpace(text))
	if !ok {
		return nil, &fault{fmt.Sprintf("%s is not an integer of 64 bits", quote(text)), f.hint()}
	}
	lo, hi := bound(f.Min), bound(f.Max)
	if (lo != nil && n < int64(*lo)) || (hi != nil && n > int64(*hi)) {
		return nil, &fault{fmt.Sprintf("%d is out of range", n), "use " + f.rangeText()}
	}
	return n, nil
}

// parseInt reads decimal and 0x… integers, and floats without a fraction as
// JSON writers make them of integers (502.0, 1e3) up to 2^53.
func parseInt(s string) (int64, bool) {
	digits := strings.TrimLeft(s, "+-")
	if strings.HasPrefix(digits, "0x") || strings.HasPrefix(digits, "0X") {
		n, err := strconv.ParseInt(s, 0, 64)
		return n, err == nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
		return 0, false
	}
	return int64(x), true
}

func (f *Field) float(text string) (any, *fault) {
	x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		return nil, &fault{fmt.Sprintf("%s is not a finite number", quote(text)), f.hint()}
	}
	lo, hi := bound(f.Min), bound(f.Max)
	if (lo != nil && x < *lo) || (hi != nil && x > *hi) {
		return nil, &fault{fmt.Sprintf("%s is out of range", strconv.FormatFloat(x, 'g', -1, 64)), "use " + f.rangeText()}
	}
	return x, nil
}

func (f *Field) duration(raw any, text string) (any, *fault) {
	d, ok := raw.(time.Duration)
	if !ok {
		var err error
		if d, err = time.ParseDuration(strings.TrimSpace(text)); err != nil {
			d, ok = f.bareDuration(text)
			if !ok {
				return nil, &fault{fmt.Sprintf("%s is not a duration", quote(text)), "write a number with its unit, such as 500ms, 10s or 1h"}
			}
		}
	}
	lo, _ := f.Min.(time.Duration)
	hi, bounded := f.Max.(time.Duration)
	if d < lo || (bounded && d > hi) {
		return nil, &fault{fmt.Sprintf("%s is out of range", d), "use " + f.rangeText()}
	}
	return d, nil
}

// bareDuration reads a number in the field's Unit.
func (f *Field) bareDuration(text string) (time.Duration, bool) {
	unit := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second}[f.Unit]
	x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || unit == 0 || math.IsNaN(x) || math.Abs(x) > float64(math.MaxInt64/int64(unit)/2) {
		return 0, err == nil && x == 0
	}
	return time.Duration(x * float64(unit)), true
}

func (f *Field) choice(text string) (any, *fault) {
	text = strings.TrimSpace(text)
	for _, choice := range f.Enum {
		if strings.EqualFold(choice, text) {
			return choice, nil
		}
	}
	if choice, ok := f.EnumAliases[strings.ToLower(text)]; ok {
		return choice, nil
	}
	return nil, &fault{fmt.Sprintf("%s is not one of its values", quote(text)), Suggest(text, f.Enum)}
}

func (f *Field) anyScalar(raw any) (any, *fault) {
	if v, ok := raw.(twin.Value); ok {
		return v, nil
	}
	var v twin.Value
	b, err := json.Marshal(raw)
	if err == nil {
		err = v.UnmarshalJSON(b)
	}
	if err != nil {
		return nil, &fault{err.Error(), f.hint()}
	}
	return v, nil
}

// checkSize checks a count of bytes or items against Min and Max, and limit where there is no Max.
func (f *Field) checkSize(n int, unit string, limit int) *fault {
	lo, hi := bound(f.Min), float64(limit)
	if b := bound(f.Max); b != nil {
		hi = *b
	}
	if (lo == nil || float64(n) >= *lo) && float64(n) <= hi {
		return nil
	}
	if n == 0 {
		return &fault{"empty", f.hint()}
	}
	least := 0
	if lo != nil {
		least = int(*lo)
	}
	return &fault{fmt.Sprintf("it has %d %s", n, unit), fmt.Sprintf("use %d to %d", least, int(hi))}
}

// bound gives a number's bound as float64. Every bound in use is far below
// 2^53, where float64 holds integers exactly; Check sees to it.
func bound(b any) *float64 {
	switch b := b.(type) {
	case int:
		x := float64(b)
		return &x
	case float64:
		return &b
	}
	return nil
}

// scalarText gives the text of a scalar in any form that JSON and YAML decoders make.
func scalarText(raw any) (string, bool) {
	switch v := raw.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case twin.Value:
		return v.Text(), true
	case fmt.Stringer:
		return v.String(), true
	}
	switch v := reflect.ValueOf(raw); {
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), true
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), true
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'g', -1, 64), true
	}
	return "", false
}

// describe names the shape of what was written.
func describe(raw any) string {
	switch v := raw.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a map"
	case []any:
		return "a list"
	case string:
		return "the text " + quote(v)
	}
	if text, ok := scalarText(raw); ok {
		return quote(text)
	}
	return fmt.Sprintf("a %T", raw)
}

func quote(text string) string { return fmt.Sprintf("%.80q", text) }
