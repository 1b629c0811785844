package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// envPrefix begins the environment variable of every key: TWINLINE_LOG_LEVEL.
const envPrefix = "TWINLINE_"

// maxConfigSize bounds a configuration file, in bytes.
const maxConfigSize = 1 << 20

// field is one key of a configuration struct.
type field struct {
	key, help string
	value     reflect.Value
}

// Bind adds a flag for every key of config, and --config, and returns the
// function that loads it: first the file, then the environment, then the flags that were
// given; what none of them names keeps its default. config points to a struct; its
// fields tagged `key:"name" help:"…"` may be string, bool, int, int64,
// float64, time.Duration or []string (comma-separated); embedded structs are
// flattened. Load errors name the source, the key and what it wants.
func Bind(flags *pflag.FlagSet, config any) (load func(env func(string) (string, bool)) error) {
	fields := fieldsOf(reflect.ValueOf(config).Elem())
	given := map[string]string{}
	for _, f := range fields {
		help := f.help + " [$" + envName(f.key) + "]"
		flags.Var(&flagValue{f, given}, f.key, help)
		if f.value.Kind() == reflect.Bool {
			flags.Lookup(f.key).NoOptDefVal = "true"
		}
	}
	file := flags.String("config", "", "YAML file with the same keys [$"+envName("config")+"]")
	return func(env func(string) (string, bool)) error {
		name := *file
		if v, ok := env(envName("config")); ok && name == "" {
			name = v
		}
		if err := loadFile(fields, name); err != nil {
			return err
		}
		for _, f := range fields {
			if v, ok := env(envName(f.key)); ok {
				if err := f.set(v); err != nil {
					return fmt.Errorf("$%s: %w", envName(f.key), err)
				}
			}
			if v, ok := given[f.key]; ok {
				if err := f.set(v); err != nil {
					return fmt.Errorf("--%s: %w", f.key, err)
				}
			}
		}
		if v, ok := config.(interface{ Validate() error }); ok {
			return v.Validate()
		}
		return nil
	}
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

func fieldsOf(v reflect.Value) []field {
	var fields []field
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if t.Anonymous {
			fields = append(fields, fieldsOf(v.Field(i))...)
			continue
		}
		if key := t.Tag.Get("key"); key != "" {
			fields = append(fields, field{key: key, help: t.Tag.Get("help"), value: v.Field(i)})
		}
	}
	return fields
}

func loadFile(fields []field, name string) error {
	if name == "" {
		return nil
	}
	if info, err := os.Stat(name); err == nil && info.Size() > maxConfigSize {
		return fmt.Errorf("%s: %d bytes, at most %d are allowed", name, info.Size(), maxConfigSize)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	values, err := decodeYAML(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	known := map[string]field{}
	for _, f := range fields {
		known[f.key] = f
	}
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		f, ok := known[key]
		if !ok {
			problems = append(problems, fmt.Errorf("%s: unknown key %q; known are %s", name, key, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
			continue
		}
		text, err := yamlText(values[key])
		if err == nil {
			err = f.set(text)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", name, key, err))
		}
	}
	return errors.Join(problems...)
}

// decodeYAML refuses duplicate keys and keeps numbers as they are written.
func decodeYAML(data []byte) (map[string]any, error) {
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, err
	}
	values := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(asJSON))
	dec.UseNumber()
	return values, dec.Decode(&values)
}

func yamlText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case json.Number:
		return v.String(), nil
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			text, err := yamlText(item)
			if err != nil {
				return "", err
			}
			parts[i] = text
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("want a text, a number, true, false or a list of texts")
}

// set parses text into the field.
func (f field) set(text string) error {
	switch p := f.value.Addr().Interface().(type) {
	case *string:
		*p = text
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q: want true or false", text)
		}
		*p = b
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q: want an integer", text)
		}
		*p = n
	case *int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q: want an integer", text)
		}
		*p = n
	case *float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q: want a number", text)
		}
		*p = n
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q: want a duration such as 500ms, 10s or 1h", text)
		}
		*p = d
	case *[]string:
		*p = nil
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*p = append(*p, part)
			}
		}
	default:
		panic(fmt.Sprintf("key %s: type %s cannot be configured", f.key, f.value.Type()))
	}
	return nil
}

// text is the field's value as set takes it.
func (f field) text() string {
	switch p := f.value.Addr().Interface().(type) {
	case *[]string:
		return strings.Join(*p, ",")
	case *time.Duration:
		return p.String()
	}
	return fmt.Sprint(f.value.Interface())
}

// flagValue keeps what the command line says until load: flags win over the
// file and the environment, which are read later.
type flagValue struct {
	field
	given map[string]string
}

func (v *flagValue) String() string {
	if v == nil || !v.value.IsValid() {
		return ""
	}
	return v.text()
}

func (v *flagValue) Set(text string) error {
	probe := field{value: reflect.New(v.value.Type()).Elem(), key: v.key}
	if err := probe.set(text); err != nil {
		return err
	}
	v.given[v.key] = text
	return nil
}

func (v *flagValue) Type() string {
	switch v.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case []string:
		return "list"
	}
	return v.value.Kind().String()
}
