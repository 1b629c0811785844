package declare

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// report gathers the problems of one object, at most MaxProblems.
type report struct {
	object   string
	problems []twin.Problem
	more     int
}

func (r *report) problem(field, what, remedy string) {
	if len(r.problems) == MaxProblems {
		r.more++
		return
	}
	r.problems = append(r.problems, twin.Problem{Object: r.object, Field: field, What: what, Remedy: remedy})
}

func (r *report) list() []twin.Problem {
	if r.more == 0 {
		return r.problems
	}
	return append(r.problems, twin.Problem{Object: r.object, What: fmt.Sprintf("%d further problems", r.more), Remedy: "mend those said first"})
}

// strict checks decoded JSON against a Go type, and strikes out what does not fit.
type strict struct {
	report  report
	refused refusals
}

func (s *strict) root(tree map[string]any, into any) {
	s.object("", tree, reflect.TypeOf(into).Elem())
}

const propertiesPath = "spec.properties["

// problem notes a problem and what it makes unusable.
func (s *strict) problem(path, what, remedy string) {
	s.report.problem(path, what, remedy)
	if rest, ok := strings.CutPrefix(path, propertiesPath); ok {
		if index, _, ok := strings.Cut(rest, "]"); ok {
			if i, err := strconv.Atoi(index); err == nil {
				if s.refused.properties == nil {
					s.refused.properties = map[int]bool{}
				}
				s.refused.properties[i] = true
				return
			}
		}
	}
	s.refused.whole = true
}

// fits reports whether v may be put into a typ; what is unfit inside it is struck out.
func (s *strict) fits(path string, v any, typ reflect.Type) bool {
	if v == nil {
		return true
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		_, isMap := v.(map[string]any)
		if freeForm(typ) && !isMap {
			s.problem(path, "want a map, not "+shape(v), "write keys and values")
			return false
		}
		return true
	}
	switch typ.Kind() {
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			s.problem(path, "want a map, not "+shape(v), "write keys and values; known are "+strings.Join(keysOf(typ), ", "))
			return false
		}
		s.object(path, m, typ)
		return true
	case reflect.Map:
		return s.entries(path, v, typ)
	case reflect.Slice:
		return s.items(path, v, typ)
	}
	return s.leaf(path, v, typ)
}

// freeForm reports whether typ is one of KubeEdge's free-form maps.
func freeForm(typ reflect.Type) bool {
	f, ok := typ.FieldByName("Data")
	return ok && f.Type.Kind() == reflect.Map
}

func (s *strict) object(path string, m map[string]any, typ reflect.Type) {
	fields := fieldsOf(typ)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		at := schema.Join(path, key)
		ft, ok := fields[key]
		if !ok {
			s.problem(at, "unknown field", schema.Suggest(key, keysOf(typ)))
		}
		if !ok || !s.fits(at, m[key], ft) {
			delete(m, key)
		}
	}
}

func (s *strict) entries(path string, v any, typ reflect.Type) bool {
	m, ok := v.(map[string]any)
	if !ok {
		s.problem(path, "want a map, not "+shape(v), "write keys and values")
		return false
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !s.fits(schema.Join(path, key), m[key], typ.Elem()) {
			delete(m, key)
		}
	}
	return true
}

func (s *strict) items(path string, v any, typ reflect.Type) bool {
	list, ok := v.([]any)
	if !ok {
		s.problem(path, "want a list, not "+shape(v), "write a list")
		return false
	}
	for i := range list {
		if !s.fits(fmt.Sprintf("%s[%d]", path, i), list[i], typ.Elem()) {
			list[i] = nil // keeps the others at their index
		}
	}
	return true
}

func (s *strict) leaf(path string, v any, typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.String:
		if _, ok := v.(string); !ok {
			s.problem(path, "want a text, not "+shape(v), quoteRemedy(v))
			return false
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			s.problem(path, "want true or false, not "+shape(v), "write true or false, without quotes")
			return false
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, ok := v.(json.Number)
		if _, err := strconv.ParseInt(n.String(), 10, typ.Bits()); !ok || err != nil {
			s.problem(path, "want an integer, not "+shape(v), "write an integer, without quotes")
			return false
		}
	}
	return true
}

func quoteRemedy(v any) string {
	switch v := v.(type) {
	case json.Number:
		return fmt.Sprintf("write it in quotes: %q", v.String())
	case bool:
		return fmt.Sprintf("write it in quotes: \"%t\"", v)
	}
	return "write a text"
}

// shape names what was written.
func shape(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "a map"
	case []any:
		return "a list"
	case string:
		return fmt.Sprintf("the text %.40q", v)
	case json.Number:
		return fmt.Sprintf("the number %.40s", v)
	}
	return fmt.Sprint(v)
}

// fieldsOf returns the types of a struct's fields by JSON name, embedded ones included.
func fieldsOf(typ reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "" && f.Anonymous:
			maps.Copy(fields, fieldsOf(f.Type))
		case name != "" && name != "-":
			fields[name] = f.Type
		}
	}
	return fields
}

func keysOf(typ reflect.Type) []string { return slices.Sorted(maps.Keys(fieldsOf(typ))) }
