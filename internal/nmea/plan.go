package nmea

import (
	"reflect"
	"slices"
	"strings"

	nmea "github.com/adrianmo/go-nmea"
)

// form is how a field of go-nmea's structures becomes text.
type form uint8

const (
	formText form = iota
	formFloat
	formInteger
	formUnsigned
	formBool
	formTime
	formDate
	formNullInteger
	formNullFloat
	formBytes // text as in the sentence
	formAngle // latitude or longitude
	formTexts // a list of texts
	formItems // a list of structures
)

// spec is one field of a type of sentence.
type spec struct {
	index int    // of the structure's field
	name  string // with the type in front; of an item, what follows its number
	unit  string
	form  form
	place int    // in the sentence; -1: not known
	items []spec // of formItems
}

// plan returns the fields of a kind of sentence.
func (d *Decoder) plan(kind string, s nmea.Sentence) []spec {
	d.mu.Lock()
	defer d.mu.Unlock()
	specs, ok := d.plans[kind]
	if !ok {
		specs = d.tables.specs(kind+".", kind+".", reflect.TypeOf(s))
		specs = slices.DeleteFunc(specs, func(s spec) bool { return !d.needs(kind, s.name) })
		d.plans[kind] = specs
	}
	return specs
}

// needs reports whether a field is read, or tells something of those that are.
func (d *Decoder) needs(kind, name string) bool {
	if d.only == nil || slices.ContainsFunc(d.only, func(only string) bool { return only == name || within(only, name) }) {
		return true
	}
	return slices.ContainsFunc(d.guards[kind], func(g guard) bool { return kind+"."+g.by == name }) ||
		slices.ContainsFunc(d.tables.said, func(s saidUnit) bool { return s.kind == kind })
}

// specs returns the fields of a structure. prefix goes before the names, path
// before the names by which the tables know them, where "*" is the number of an item.
func (t tables) specs(prefix, path string, structure reflect.Type) []spec {
	var specs []spec
	for i := range structure.NumField() {
		field := structure.Field(i)
		name := fieldName(field.Name)
		if field.Anonymous || !field.IsExported() || t.left[path+name] {
			continue
		}
		s := spec{index: i, name: prefix + name, unit: t.units[path+name], place: -1}
		if place, ok := t.places[path+name]; ok {
			s.place = place
		}
		var ok bool
		if s.form, ok = formOf(field.Type); !ok {
			continue
		}
		if s.form == formFloat && s.place >= 0 && (strings.HasSuffix(field.Name, "Latitude") || strings.HasSuffix(field.Name, "Longitude")) {
			s.form = formAngle
		}
		if s.form == formItems {
			s.items = t.specs(".", path+name+".*.", field.Type.Elem())
		}
		specs = append(specs, s)
	}
	return specs
}

// formOf returns how values of a type become text; false: they do not.
func formOf(t reflect.Type) (form, bool) {
	switch t {
	case reflect.TypeFor[nmea.Time]():
		return formTime, true
	case reflect.TypeFor[nmea.Date]():
		return formDate, true
	case reflect.TypeFor[nmea.Int64]():
		return formNullInteger, true
	case reflect.TypeFor[nmea.Float64]():
		return formNullFloat, true
	case reflect.TypeFor[[]byte]():
		return formBytes, true
	}
	switch t.Kind() {
	case reflect.String:
		return formText, true
	case reflect.Float64:
		return formFloat, true
	case reflect.Int64:
		return formInteger, true
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return formUnsigned, true
	case reflect.Bool:
		return formBool, true
	case reflect.Slice:
		switch t.Elem().Kind() {
		case reflect.String:
			return formTexts, true
		case reflect.Struct:
			return formItems, true
		}
	}
	return 0, false
}

// fieldName returns the name of a field of go-nmea's as people write it:
// "NumSatellites" is numSatellites, "HDOP" hdop, "DGPSAge" dgpsAge.
func fieldName(name string) string {
	switch name {
	case "FFAMode": // so written by go-nmea; it is the FAA's
		return "faaMode"
	case "SentanceVersion":
		return "sentenceVersion"
	case "SVs":
		return "svs"
	}
	capitals := 0
	for capitals < len(name) && (name[capitals] < 'a' || name[capitals] > 'z') {
		capitals++
	}
	if capitals > 1 && capitals < len(name) {
		capitals-- // the last one begins the next word
	}
	return strings.ToLower(name[:capitals]) + name[capitals:]
}
