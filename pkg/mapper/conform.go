package mapper

import (
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/twinline/twinline/pkg/twin"
)

// conform makes of what a driver returned exactly one reading for each of
// props, in their order, each of which keeps the contract: the declared type, a valid
// quality, a value exactly where the quality is not bad. NothingNew is left out. What cannot be mended
// is bad:driver, and faults says why. Nothing is ever taken by position, so
// a driver that mixes up the order cannot give one property the value of another.
func conform(props []*twin.Property, got []twin.Reading) (out []twin.Reading, faults []string) {
	place, faults := places(props, got)
	out = make([]twin.Reading, 0, len(props))
	for k, p := range props {
		i := k
		if place != nil {
			var ok bool
			if i, ok = place[p.Name]; !ok {
				faults = append(faults, fmt.Sprintf("property %s was asked for and not returned", p.Name))
				i = -1
			}
		}
		switch {
		case i < 0:
			out = append(out, twin.BadReading(p.Name, "driver"))
		case got[i].Quality == NothingNew:
		default:
			r, fault := conformOne(p, got[i])
			if fault != "" {
				faults = append(faults, fault)
			}
			out = append(out, r)
		}
	}
	return out, faults
}

// places says where the reading of each name is in got: below zero where there
// are several. It is nil if got is as it should be, each reading at its property's place.
func places(props []*twin.Property, got []twin.Reading) (place map[string]int, faults []string) {
	if slices.EqualFunc(props, got, func(p *twin.Property, r twin.Reading) bool { return p.Name == r.Property }) {
		return nil, nil
	}
	place = make(map[string]int, len(got))
	for i := range got {
		if _, twice := place[got[i].Property]; twice {
			faults = append(faults, fmt.Sprintf("property %s was returned twice", got[i].Property))
			place[got[i].Property] = -1
			continue
		}
		place[got[i].Property] = i
	}
	return place, faults
}

func conformOne(p *twin.Property, r twin.Reading) (twin.Reading, string) {
	bad := func(format string, args ...any) (twin.Reading, string) {
		return twin.BadReading(p.Name, "driver"), "property " + p.Name + ": " + fmt.Sprintf(format, args...)
	}
	if !r.Quality.Valid() {
		return bad("%.80q is not a quality", r.Quality)
	}
	if r.Quality.IsBad() {
		return twin.Reading{Property: p.Name, Quality: r.Quality, Time: r.Time}, ""
	}
	v, ok := typed(p.Type, r.Value)
	if !ok {
		return bad("%.80q is not a value of type %s", r.Value.String(), p.Type)
	}
	q := r.Quality
	if q.IsGood() {
		q = ""
		if p.CheckRange(v) != nil {
			q = twin.Uncertain("range")
		}
	}
	return twin.Reading{Property: p.Name, Value: v, Quality: q, Time: r.Time}, ""
}

// typed returns v as a value of type t where it is one, or is the same number.
func typed(t twin.Type, v twin.Value) (twin.Value, bool) {
	switch t {
	case twin.TypeInt:
		if v.Kind() == twin.Float {
			w, err := (&twin.Property{Type: t}).Coerce(v)
			return w, err == nil
		}
		return v, v.Kind() == twin.Int || v.Kind() == twin.Uint
	case twin.TypeFloat, twin.TypeDouble:
		f, ok := v.AsFloat()
		w := twin.FloatValue(f)
		return w, ok && w.Equal(v)
	case twin.TypeBoolean:
		return v, v.Kind() == twin.Bool
	case twin.TypeString, twin.TypeBytes:
		s, ok := v.AsString()
		if !ok || len(s) > twin.MaxStringValue {
			return v, false
		}
		if t == twin.TypeBytes {
			_, err := base64.StdEncoding.DecodeString(s)
			return v, err == nil
		}
		return v, true
	}
	return v, false
}

// why returns the word for err that is valid in a quality.
func why(err error) string {
	if w := Reason(err); twin.Bad(w).Valid() {
		return w
	}
	return "error"
}
