package nmea

import (
	"reflect"

	nmea "github.com/adrianmo/go-nmea"
)

// Names returns "name unit" of every field that sentences of a type have; "N" is the number of an item.
func Names(kind string, s nmea.Sentence) []string {
	t := newTables()
	var names []string
	var walk func(prefix string, specs []spec)
	walk = func(prefix string, specs []spec) {
		for _, s := range specs {
			name := prefix + s.name
			switch s.form {
			case formTexts:
				name += ".N"
			case formItems:
				walk(name+".N", s.items)
				continue
			}
			if s.unit != "" {
				name += " " + s.unit
			}
			names = append(names, name)
		}
	}
	walk("", t.specs(kind+".", kind+".", reflect.TypeOf(s)))
	return names
}

// Known returns the names that the tables speak of.
func Known() []string {
	t := newTables()
	var names []string
	for name := range t.places {
		names = append(names, name)
	}
	for name := range t.units {
		names = append(names, name)
	}
	for kind, list := range guards() {
		for _, g := range list {
			names = append(names, kind+"."+g.by)
			for _, value := range g.values {
				names = append(names, kind+"."+value)
			}
		}
	}
	return names
}
