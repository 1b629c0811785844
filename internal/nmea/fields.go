package nmea

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	nmea "github.com/adrianmo/go-nmea"

	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// whyEmpty is the quality of a field that the sentence leaves empty, or does not have.
const whyEmpty = "empty"

// textField returns a field of a text.
func textField(name, text string) telegram.Field {
	if text == "" {
		return telegram.Field{Name: name, Quality: twin.Bad(whyEmpty)}
	}
	return telegram.Field{Name: name, Text: text}
}

// fill makes the fields of the sentence.
func (r *reading) fill(specs []spec) {
	r.fields = make([]telegram.Field, 0, len(specs))
	r.structure("", specs, reflect.Indirect(reflect.ValueOf(r.sentence)))
}

// structure adds the fields of a structure.
func (r *reading) structure(prefix string, specs []spec, v reflect.Value) {
	for i := range specs {
		s := &specs[i]
		value := v.Field(s.index)
		switch s.form {
		case formTexts:
			for n := range value.Len() {
				r.fields = append(r.fields, textField(s.name+"."+strconv.Itoa(n), value.Index(n).String()))
			}
		case formItems:
			for n := range value.Len() {
				r.structure(s.name+"."+strconv.Itoa(n), s.items, value.Index(n))
			}
		default:
			field := textField(prefix+s.name, r.text(s, value))
			field.Unit = s.unit
			r.fields = append(r.fields, field)
		}
	}
}

// text returns the value of a field as text; "": it is empty.
func (r *reading) text(s *spec, v reflect.Value) string {
	raw := ""
	if s.place >= 0 {
		if raw = r.raw(s.place); raw == "" {
			return ""
		}
	}
	switch s.form {
	case formText:
		if v.String() == "" && s.name == "GGA.fixQuality" {
			return r.fixQuality
		}
		return v.String()
	case formBytes:
		return raw
	case formAngle:
		return coordinate(raw, r.raw(s.place+1))
	case formFloat:
		return r.digits(v.Float())
	case formInteger:
		if v.Int() == math.MaxInt64 { // what the library is asked to say for an empty field
			return ""
		}
		return strconv.FormatInt(v.Int(), 10)
	case formUnsigned:
		return strconv.FormatUint(v.Uint(), 10)
	case formBool:
		return strconv.FormatBool(v.Bool())
	}
	switch x := v.Interface().(type) {
	case nmea.Time:
		return r.clock(x)
	case nmea.Date:
		if day, ok := date(x); ok {
			return day.Format(time.DateOnly)
		}
	case nmea.Int64:
		if x.Valid {
			return strconv.FormatInt(x.Value, 10)
		}
	case nmea.Float64:
		if x.Valid {
			return r.digits(x.Value)
		}
	}
	return ""
}

// raw returns a field of the sentence as it is there; "" where it has none.
func (r *reading) raw(place int) string {
	if place == placeLast {
		const satellites = 3
		place = len(r.base.Fields) - 1
		if (len(r.base.Fields)-satellites)%4 != 1 {
			return ""
		}
	}
	if place >= len(r.base.Fields) {
		return ""
	}
	return r.base.Fields[place]
}

// numeral is a field of the sentence that is a number.
type numeral struct {
	text  string // "": it is none
	value float64
}

// digits returns a number with the digits by which the sentence has it. go-nmea has
// turned them into a float64; they are found again as those of the first field that is this number.
func (r *reading) digits(n float64) string {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return ""
	}
	for i := range r.base.Fields {
		if i == len(r.numbers) {
			r.numbers = append(r.numbers, numeralOf(r.base.Fields[i]))
		}
		text := r.numbers[i].text
		switch got := r.numbers[i].value; {
		case text == "":
		case got == n:
			return text
		case got == -n: // the direction is in another field
			return strings.TrimPrefix("-"+text, "--")
		}
	}
	return strconv.FormatFloat(n+0, 'f', -1, 64) // +0: there is no -0
}

func numeralOf(raw string) numeral {
	text, ok := plain(raw)
	if !ok {
		return numeral{}
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return numeral{}
	}
	return numeral{text, value}
}

// plain returns a number without a plus, and with exactly one digit before the point where that is 0.
// false: it is not written as digits with at most one point.
func plain(raw string) (string, bool) {
	text := strings.TrimPrefix(raw, "+")
	text, negative := strings.CutPrefix(text, "-")
	whole, fraction, point := strings.Cut(text, ".")
	if whole == "" && fraction == "" || !isDigits(whole) || !isDigits(fraction) {
		return "", false
	}
	if !negative && whole != "" && (whole[0] != '0' || len(whole) == 1) && (!point || fraction != "") {
		return text, true
	}
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		whole = "0"
	}
	if point && fraction != "" {
		whole += "." + fraction
	}
	if negative && strings.Trim(whole, "0.") != "" {
		whole = "-" + whole
	}
	return whole, true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// coordinate returns degrees of a latitude or longitude that is written as dddmm.mmmm,
// exactly, rounded to 8 digits behind the point: a millimetre.
func coordinate(raw, hemisphere string) string {
	whole, fraction, _ := strings.Cut(raw, ".")
	const digits = 9 // of the minutes behind the point; a thousandth of what is shown
	if len(whole) < 1 || len(whole) > 5 || !isDigits(whole) || !isDigits(fraction) {
		return ""
	}
	if len(fraction) > digits {
		fraction = fraction[:digits]
	}
	ddmm, _ := strconv.ParseUint(whole, 10, 64)
	behind, _ := strconv.ParseUint(fraction+strings.Repeat("0", digits-len(fraction)), 10, 64)
	const one = 1_000_000_000 // a minute, in the unit of behind
	const shown = 100_000_000
	// At most 100 minutes: 1e11 times 1e8 is less than 2^64.
	minutes := ddmm%100*one + behind
	degrees := ddmm/100*shown + (minutes*shown+30*one)/(60*one)
	text := make([]byte, 0, len("-1000.12345678"))
	if degrees > 0 && (hemisphere == nmea.South || hemisphere == nmea.West) {
		text = append(text, '-')
	}
	text = strconv.AppendUint(text, degrees/shown, 10)
	point := len(text)
	text = strconv.AppendUint(text, shown+degrees%shown, 10) // the 1 keeps leading zeros, and makes room for the point
	text[point] = '.'
	return string(bytes.TrimSuffix(bytes.TrimRight(text, "0"), []byte{'.'}))
}

// clock returns a time of day with the digits by which the sentence has it.
func (r *reading) clock(t nmea.Time) string {
	if _, ok := since(t); !ok {
		return ""
	}
	text := fmt.Sprintf("%02d:%02d:%02d", t.Hour, t.Minute, t.Second)
	for _, raw := range r.base.Fields {
		if got, err := nmea.ParseTime(raw); err == nil && got == t {
			if _, fraction, _ := strings.Cut(raw, "."); fraction != "" {
				text += "." + fraction
			}
			break
		}
	}
	return text
}

// judge gives those values a bad quality of which the sentence says that they are none.
func (r *reading) judge(guards []guard) {
	for _, g := range guards {
		if !g.bad(r.said(g.by)) {
			continue
		}
		for _, name := range g.values {
			if f := r.field(name); f != nil && !f.Quality.IsBad() {
				f.Text, f.Quality = "", twin.Bad(g.why)
			}
		}
	}
}

// said returns the text of a field; of a list, of all its items.
func (r *reading) said(name string) string {
	if f := r.field(name); f != nil {
		return f.Text
	}
	all := ""
	for _, f := range r.fields {
		if within(f.Name, r.kind+"."+name) {
			all += f.Text
		}
	}
	return all
}

// field returns the field of that name behind the kind; nil: there is none.
func (r *reading) field(name string) *telegram.Field {
	before := len(r.kind) + len(".")
	for i := range r.fields {
		if r.fields[i].Name[before:] == name {
			return &r.fields[i]
		}
	}
	return nil
}

// measure sets the units that the sentence says itself.
func (r *reading) measure(t tables) {
	for _, said := range t.said {
		if said.kind != r.kind {
			continue
		}
		for i := range r.fields {
			stem, ok := strings.CutSuffix(r.fields[i].Name, said.value)
			if !ok {
				continue
			}
			code := ""
			for _, f := range r.fields {
				switch f.Name {
				case stem + said.of:
					code = f.Text
				case stem + said.unit:
					code += f.Text
				}
			}
			r.fields[i].Unit = said.units[code]
		}
	}
}

// time returns the time of a sentence that has a date; zero: it has none, or does not vouch for it.
func (r *reading) time() time.Time {
	switch s := r.sentence.(type) {
	case nmea.RMC:
		if s.Validity == nmea.ValidRMC {
			if day, ok := date(s.Date); ok {
				return at(day, s.Time)
			}
		}
	case nmea.ZDA:
		if day, ok := calendar(s.Year, s.Month, s.Day); ok && s.Year >= 1980 {
			return at(day, s.Time)
		}
	}
	return time.Time{}
}

// daytime returns the time of day of a sentence that has no date and vouches for its time.
func (r *reading) daytime() (time.Duration, bool) {
	switch s := r.sentence.(type) {
	case nmea.GGA:
		if s.FixQuality != nmea.Invalid && s.FixQuality != "" {
			return since(s.Time)
		}
	case nmea.GLL:
		if s.Validity == nmea.ValidGLL {
			return since(s.Time)
		}
	case nmea.GNS:
		if strings.Trim(strings.Join(s.Mode, ""), nmea.NoFixGNS) != "" {
			return since(s.Time)
		}
	}
	return 0, false
}

// at returns the time of day on a day.
func at(day time.Time, t nmea.Time) time.Time {
	after, ok := since(t)
	if !ok {
		return time.Time{}
	}
	return day.Add(after)
}

// since returns how long after midnight a time of day is. A leap second is the first of the next minute.
func since(t nmea.Time) (time.Duration, bool) {
	if !t.Valid || t.Hour > 23 || t.Minute > 59 || t.Second > 60 {
		return 0, false
	}
	return time.Duration(t.Hour)*time.Hour + time.Duration(t.Minute)*time.Minute +
		time.Duration(t.Second)*time.Second + time.Duration(t.Millisecond)*time.Millisecond, true
}

// date returns a day whose year has two digits: GPS begins in 1980.
func date(d nmea.Date) (time.Time, bool) {
	if !d.Valid || d.YY < 0 {
		return time.Time{}, false
	}
	year := 2000 + d.YY
	if d.YY >= 80 {
		year = 1900 + d.YY
	}
	return calendar(int64(year), int64(d.MM), int64(d.DD))
}

// calendar returns a day; false: the calendar does not have it.
func calendar(year, month, day int64) (time.Time, bool) {
	if year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 || day > 31 {
		return time.Time{}, false
	}
	t := time.Date(int(year), time.Month(month), int(day), 0, 0, 0, 0, time.UTC)
	return t, t.Day() == int(day)
}
