package schema

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Check says how the struct that into points to, or the table itself, is wrong:
// a field of the table that the struct lacks or has in an unfit type, a tag that the table lacks, a
// default or bound that does not fit its field. Decode calls it; a test of the
// table's owner should as well.
func (t *Table) Check(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("schema %s: want a pointer to a struct, not %T", t.Title, into)
	}
	return t.checkType(v.Elem().Type())
}

func (t *Table) checkType(typ reflect.Type) error {
	tags := map[string]reflect.Type{}
	for f := range typ.Fields() {
		if key := f.Tag.Get("key"); key != "" {
			tags[key] = f.Type
		}
	}
	var errs []error
	seen := map[string]bool{}
	for i := range t.Fields {
		f := &t.Fields[i]
		for _, key := range append([]string{f.Key}, f.Aliases...) {
			if seen[key] {
				errs = append(errs, fmt.Errorf("schema %s: key %s twice", t.Title, key))
			}
			seen[key] = true
		}
		ft, ok := tags[f.Key]
		delete(tags, f.Key)
		if !ok {
			errs = append(errs, fmt.Errorf("schema %s: %s has no field with the tag key:%q", t.Title, typ, f.Key))
			continue
		}
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if err := f.checkType(ft); err != nil {
			errs = append(errs, fmt.Errorf("schema %s: %s: %w", t.Title, f.Key, err))
		}
	}
	for key := range tags {
		errs = append(errs, fmt.Errorf("schema %s: tag key:%q of %s is not in the table", t.Title, key, typ))
	}
	return errors.Join(errs...)
}

func (f *Field) checkType(typ reflect.Type) error {
	ok := false
	switch f.Kind {
	case String, Enum:
		ok = typ.Kind() == reflect.String
	case Int:
		ok = typ != reflect.TypeFor[time.Duration]() && f.fitsInt(typ)
	case Float:
		ok = typ.Kind() == reflect.Float64 || typ.Kind() == reflect.Float32
	case Bool:
		ok = typ.Kind() == reflect.Bool
	case Duration:
		ok = typ == reflect.TypeFor[time.Duration]()
	case Scalar:
		ok = typ == reflect.TypeFor[twin.Value]()
	case List:
		ok = f.Item != nil && typ.Kind() == reflect.Slice && f.Item.checkType(typ.Elem()) == nil
	case Map:
		ok = f.Item != nil && typ.Kind() == reflect.Map && typ.Key().Kind() == reflect.String && f.Item.checkType(typ.Elem()) == nil
	case Nested:
		if f.Table == nil || typ.Kind() != reflect.Struct {
			return fmt.Errorf("%s cannot hold a nested table", typ)
		}
		return f.Table.checkType(typ)
	}
	if !ok {
		return fmt.Errorf("%s cannot hold it", typ)
	}
	if f.Default == nil {
		return nil
	}
	probe := decoder{}
	if _, ok := probe.value(f, "", f.Default); !ok {
		return fmt.Errorf("its default does not fit: %s", probe.problems[0].What)
	}
	return nil
}

// fitsInt reports whether typ holds every integer from Min to Max.
func (f *Field) fitsInt(typ reflect.Type) bool {
	lo, hi := bound(f.Min), bound(f.Max)
	for _, b := range []*float64{lo, hi} {
		if b != nil && math.Abs(*b) > 1<<53 {
			return false
		}
	}
	v := reflect.Zero(typ)
	switch {
	case v.CanInt():
		wide := typ.Bits() == 64
		return wide || (lo != nil && hi != nil && !v.OverflowInt(int64(*lo)) && !v.OverflowInt(int64(*hi)))
	case v.CanUint():
		return lo != nil && *lo >= 0 && (typ.Bits() == 64 || (hi != nil && !v.OverflowUint(uint64(*hi))))
	}
	return false
}

// assignTable puts decoded values into the fields of dst, a struct.
func assignTable(t *Table, dst reflect.Value, values map[string]any) {
	for i := range dst.NumField() {
		key := dst.Type().Field(i).Tag.Get("key")
		for j := range t.Fields {
			if f := &t.Fields[j]; f.Key == key {
				assign(f, dst.Field(i), values[key])
			}
		}
	}
}

// assign puts one decoded value into dst; nil makes it zero. Check has said that it fits.
func assign(f *Field, dst reflect.Value, v any) {
	dst.SetZero()
	if v == nil {
		return
	}
	if a, ok := v.(absent); ok {
		if dst.Kind() == reflect.Pointer {
			return
		}
		v = a.values
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	switch v := v.(type) {
	case string:
		dst.SetString(v)
	case bool:
		dst.SetBool(v)
	case int64:
		if dst.CanUint() {
			dst.SetUint(uint64(v))
		} else {
			dst.SetInt(v)
		}
	case float64:
		dst.SetFloat(v)
	case time.Duration:
		dst.SetInt(int64(v))
	case twin.Value:
		dst.Set(reflect.ValueOf(v))
	case []any:
		dst.Set(reflect.MakeSlice(dst.Type(), len(v), len(v)))
		for i, item := range v {
			assign(f.Item, dst.Index(i), item)
		}
	case map[string]any:
		assignMap(f, dst, v)
	}
}

func assignMap(f *Field, dst reflect.Value, v map[string]any) {
	if f.Kind == Nested {
		assignTable(f.Table, dst, v)
		return
	}
	dst.Set(reflect.MakeMapWithSize(dst.Type(), len(v)))
	for key, item := range v {
		elem := reflect.New(dst.Type().Elem()).Elem()
		assign(f.Item, elem, item)
		dst.SetMapIndex(reflect.ValueOf(key).Convert(dst.Type().Key()), elem)
	}
}
