// Package schema describes declared configuration in one table per place: which
// keys there are, of which kind, within which bounds, and what they mean. The
// same table decodes what people wrote, refuses what they got wrong with a
// sentence, and renders the reference documentation.
package schema

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// Kind is what a field holds.
type Kind uint8

// The kinds, and the Go types a struct field of each may have.
const (
	String   Kind = iota // string
	Int                  // any integer type wide enough for Min and Max
	Float                // float64, float32
	Bool                 // bool
	Duration             // time.Duration
	Enum                 // a string type; the spelling of Field.Enum is stored
	Scalar               // twin.Value: a boolean, a number (64-bit integers exact) or a text
	List                 // a slice; Field.Item says of what
	Map                  // a map with string keys; Field.Item says of what
	Nested               // a struct; Field.Table says of what
)

// Bounds of what is decoded.
const (
	MaxText  = 4096 // bytes of a String without Max: far above any address or expression
	MaxItems = 4096 // items of a List or Map without Max: as many as a sample has readings
)

// Field is one key of a Table. A pointer in the Go struct is nil where the key is absent
// and has no Default.
type Field struct {
	Key     string
	Aliases []string // other spellings; using two of them at once is refused
	Kind    Kind

	Required bool
	Default  any // used when the key is absent; of any form that the key itself may have

	// Min and Max bound an Int or Float (int or float64), a Duration
	// (time.Duration), the bytes of a String and the items of a List or Map (int).
	Min, Max any

	Enum        []string          // of an Enum; compared without regard to case
	EnumAliases map[string]string // other spellings of an Enum's values, in lower case

	Unit  string // of a number, for the documentation; for a Duration "ms" or "s" allows a bare number
	Item  *Field // of a List or Map; its Key is not used
	Table *Table // of a Nested

	Doc     string // one sentence or two, Markdown
	Example string // as written in YAML
}

// Table is the description of one map of configuration.
type Table struct {
	Title  string // of the section in the documentation
	Doc    string // above the table, Markdown
	Fields []Field
}

// Decode reads data into the struct that into points to, whose fields are
// tagged `key:"name"` after Field.Key; fields without a tag are left alone. object and path
// name the place for the problems: "Device default/boiler" and
// "spec.protocol.configData". Every mistake is one problem, in the table's order;
// the field concerned keeps its default, and the others are decoded. Null is the
// same as an absent key. It panics where the struct does not fit the table, see Check.
func (t *Table) Decode(object, path string, data map[string]any, into any) []twin.Problem {
	if err := t.Check(into); err != nil {
		panic(err)
	}
	d := decoder{object: object}
	values := d.table(t, path, data, true)
	assignTable(t, reflect.ValueOf(into).Elem(), values)
	return d.problems
}

// decoder gathers the problems of one Decode.
type decoder struct {
	object   string
	problems []twin.Problem
}

func (d *decoder) problem(path, what, remedy string) {
	d.problems = append(d.problems, twin.Problem{Object: d.object, Field: path, What: what, Remedy: remedy})
}

// table returns the values of t's fields in their decoded form; absent ones
// without a default are left out. given is false for a Nested that is absent
// itself: its defaults count, its required keys do not.
func (d *decoder) table(t *Table, path string, data map[string]any, given bool) map[string]any {
	values := make(map[string]any, len(t.Fields))
	known := map[string]bool{}
	for i := range t.Fields {
		f := &t.Fields[i]
		known[f.Key] = true
		for _, a := range f.Aliases {
			known[a] = true
		}
		if v, ok := d.field(f, path, data, given); ok {
			values[f.Key] = v
		}
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if !known[key] {
			d.problem(Join(path, key), "unknown key", Suggest(key, t.keys()))
		}
	}
	return values
}

// keys lists the keys of t and their aliases, keys first.
func (t *Table) keys() []string {
	var keys, aliases []string
	for i := range t.Fields {
		keys = append(keys, t.Fields[i].Key)
		aliases = append(aliases, t.Fields[i].Aliases...)
	}
	return append(keys, aliases...)
}

// field decodes one field of data, or gives its default.
func (d *decoder) field(f *Field, path string, data map[string]any, given bool) (any, bool) {
	key, raw := "", any(nil)
	for _, k := range append([]string{f.Key}, f.Aliases...) {
		v, ok := data[k]
		if !ok || v == nil {
			continue
		}
		if key != "" {
			d.problem(Join(path, k), fmt.Sprintf("%s and %s are two spellings of one key", key, k), "keep one of them, best "+f.Key)
			continue
		}
		key, raw = k, v
	}
	if key != "" {
		if v, ok := d.value(f, Join(path, key), raw); ok {
			return v, true
		}
	} else if f.Required && given {
		d.problem(Join(path, f.Key), "missing", f.hint())
	}
	return d.fallback(f)
}

// fallback is the decoded default of f; for a Nested without one, the defaults of its fields.
func (d *decoder) fallback(f *Field) (any, bool) {
	quiet := decoder{}
	if f.Default != nil {
		return quiet.value(f, "", f.Default)
	}
	if f.Kind == Nested {
		return absent{quiet.table(f.Table, "", nil, false)}, true
	}
	return nil, false
}

// absent marks the defaults of a Nested that nobody wrote: a pointer stays nil.
type absent struct{ values map[string]any }

// value decodes raw as f says.
func (d *decoder) value(f *Field, path string, raw any) (any, bool) {
	switch f.Kind {
	case List:
		return d.list(f, path, raw)
	case Map, Nested:
		m, ok := raw.(map[string]any)
		if !ok {
			d.problem(path, "want a map, not "+describe(raw), f.hint())
			return nil, false
		}
		if f.Kind == Nested {
			return d.table(f.Table, path, m, true), true
		}
		return d.entries(f, path, m)
	}
	v, fault := f.scalar(raw)
	if fault != nil {
		d.problem(path, fault.what, fault.remedy)
		return nil, false
	}
	return v, true
}

func (d *decoder) list(f *Field, path string, raw any) (any, bool) {
	items, ok := raw.([]any)
	if !ok {
		d.problem(path, "want a list, not "+describe(raw), f.hint())
		return nil, false
	}
	if fault := f.checkSize(len(items), "items", MaxItems); fault != nil {
		d.problem(path, fault.what, fault.remedy)
		return nil, false
	}
	list := make([]any, 0, len(items))
	for i, item := range items {
		if v, ok := d.value(f.Item, fmt.Sprintf("%s[%d]", path, i), item); ok {
			list = append(list, v)
		}
	}
	return list, len(list) == len(items)
}

func (d *decoder) entries(f *Field, path string, m map[string]any) (any, bool) {
	if fault := f.checkSize(len(m), "entries", MaxItems); fault != nil {
		d.problem(path, fault.what, fault.remedy)
		return nil, false
	}
	entries := make(map[string]any, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if v, ok := d.value(f.Item, Join(path, key), m[key]); ok {
			entries[key] = v
		}
	}
	return entries, len(entries) == len(m)
}

// Join makes the path of a key: "spec.protocol.configData" and "url" give
// "spec.protocol.configData.url". A key that is not a plain word is quoted in brackets.
func Join(path, key string) string {
	if len(key) > 64 {
		key = strings.ToValidUTF8(key[:64], "") + "…"
	}
	if !isWord(key) {
		return fmt.Sprintf("%s[%q]", path, key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func isWord(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '…' {
			return false
		}
	}
	return s != ""
}
