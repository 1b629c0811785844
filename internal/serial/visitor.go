package serial

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/twinline/twinline/internal/number"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// visit is one visitor being checked.
type visit struct {
	*parser
	path  string
	prop  *twin.Property
	raw   visitorConfig
	field Field
}

// wrong notes a problem with a key of the visitor.
func (v *visit) wrong(key, what, remedy string) {
	v.problem(number.Path(v.path, key), what, remedy)
}

// visitor reads the visitor of a property.
func (p *parser) visitor(prop *twin.Property) (Field, bool) {
	v := visit{parser: p, prop: prop, path: "spec.properties[" + prop.Name + "].visitors.configData"}
	before := len(p.problems)
	p.problems = append(p.problems, VisitorTable().Decode(p.object, v.path, v.withField(prop), &v.raw)...)
	if len(p.problems) > before {
		return Field{}, false
	}
	v.field = Field{Property: prop.Name, Writable: prop.Writable, Request: Unasked}
	if p.broken {
		return v.field, false // what follows rests on the device
	}
	v.recognise()
	v.source()
	v.request()
	v.number()
	v.field.bad = p.refusals(v.path+".bad", v.raw.Bad)
	v.writing()
	if len(p.problems) == before {
		v.claim()
	}
	return v.field, len(p.problems) == before
}

// withField puts the visitor's keys over those of the field that it names, and of the profile's numbers.
func (p *parser) withField(prop *twin.Property) map[string]any {
	keys := prop.Visitor
	name, _ := keys["field"].(string)
	if base, ok := p.profile.fields[name].(map[string]any); ok {
		if _, own := keys["write"]; !own && !prop.Writable { // what can be set need not be
			base = maps.Clone(base)
			delete(base, "write")
		}
		keys = overlay(base, keys)
		delete(keys, "field")
	}
	switch prop.Type {
	case twin.TypeInt, twin.TypeFloat, twin.TypeDouble:
		if p.profile.numbers != nil {
			keys = overlay(p.profile.numbers, keys)
		}
	}
	return keys
}

func (v *visit) recognise() {
	w := v.raw.When
	if w == nil {
		return
	}
	r := &v.field.when
	r.prefix = v.bytes(v.path+".when.prefix", w.Prefix)
	r.match = v.pattern(v.path+".when.match", w.Match)
	for _, key := range slices.Sorted(maps.Keys(w.Equals)) {
		e := equal{want: w.Equals[key]}
		if b := v.bytes(v.path+".when.equals."+key, e.want); b != nil {
			e.want = string(b)
		}
		column, err := strconv.Atoi(key)
		pointer, isPointer := parsePointer(key)
		switch {
		case err == nil && column >= 0 && column < maxParts:
			e.source = source{kind: byColumn, column: column, separator: v.separator()}
		case isPointer && key != "":
			e.source = source{kind: byPointer, pointer: pointer}
		case v.profile.decodes:
			e.source = source{kind: byField, name: key}
		default:
			e.source = source{kind: byName, name: key}
		}
		r.equals = append(r.equals, e)
	}
}

func (v *visit) separator() string {
	if v.raw.Separator == "" {
		return ","
	}
	return v.raw.Separator
}

// source reads where in a frame the value is.
func (v *visit) source() {
	var given []string
	add := func(is bool, key string, s source) {
		if is {
			given = append(given, key)
			v.field.source = s
		}
	}
	add(v.raw.Field != "", "field", source{kind: byField, name: v.raw.Field})
	add(v.raw.Regex != "", "regex", source{kind: byRegex})
	if v.raw.Column != nil {
		add(true, "column", source{kind: byColumn, column: *v.raw.Column, separator: v.separator()})
	}
	add(v.raw.Name != "", "name", source{kind: byName, name: v.raw.Name})
	add(v.raw.Pointer != "", "pointer", source{kind: byPointer})
	if v.raw.At != nil {
		add(true, "at", source{kind: byPlace, at: *v.raw.At})
	}
	assumed := v.raw.Write != nil && v.raw.Write.Assume
	switch {
	case len(given) > 1:
		v.wrong(given[1], "it stands beside "+given[0], "keep one of field, regex, column, name, pointer and at")
		return
	case len(given) == 1 && assumed:
		v.wrong("write.assume", "the value can be read by "+given[0], "leave assume out, or leave "+given[0]+" out")
		return
	case len(given) == 0 && !assumed:
		v.wrong("", "it does not say where the value is", "write one of field, regex, column, name, pointer and at")
		return
	case len(given) == 0:
		v.field.Request = Assumed
		return
	}
	v.place(given[0])
}

// place completes the source that is given by key.
func (v *visit) place(key string) {
	s := &v.field.source
	switch s.kind {
	case byField:
		if !v.profile.decodes {
			v.wrong("field", fmt.Sprintf("%.80q is no field that the device or its profile names", s.name), v.knownFields(s.name))
		}
	case byRegex:
		if s.match = v.pattern(v.path+".regex", v.raw.Regex); s.match != nil {
			s.group = v.group(s.match)
		}
	case byPointer:
		var ok bool
		if s.pointer, ok = parsePointer(v.raw.Pointer); !ok {
			v.wrong("pointer", fmt.Sprintf("%.80q is not a JSON pointer", v.raw.Pointer), "write such as /sensors/0/temp (RFC 6901)")
		}
	}
	for _, stray := range []struct {
		is        bool
		key, with string
	}{
		{v.raw.Group != "" && s.kind != byRegex, "group", "regex"},
		{v.raw.Separator != "" && s.kind != byColumn && (v.raw.When == nil || len(v.raw.When.Equals) == 0), "separator", "column"},
		{v.raw.Length != nil && s.kind != byPlace, "length", "at"},
		{v.raw.Bit != nil && s.kind != byPlace, "bit", "at"},
	} {
		if stray.is {
			v.wrong(stray.key, "it means nothing beside "+key, "leave it out; it goes with "+stray.with)
		}
	}
}

func (v *visit) knownFields(name string) string {
	if len(v.profile.fields) == 0 {
		return "name a profile in the device's configData, or say where the value is by regex, column, name, pointer or at"
	}
	return schema.Suggest(name, slices.Sorted(maps.Keys(v.profile.fields)))
}

// group finds the group of the regular expression that is the value.
func (v *visit) group(re *regexp.Regexp) int {
	if re.NumSubexp() == 0 {
		v.wrong("regex", fmt.Sprintf("%.80q has no group", v.raw.Regex), "put the value's part in parentheses: T=([-+0-9.]+)")
		return 0
	}
	if v.raw.Group == "" {
		return 1
	}
	if n, err := strconv.Atoi(v.raw.Group); err == nil && n >= 0 && n <= re.NumSubexp() {
		return n
	}
	if i := re.SubexpIndex(v.raw.Group); i >= 0 {
		return i
	}
	v.wrong("group", fmt.Sprintf("%.80q is no group of the regular expression", v.raw.Group), fmt.Sprintf("use 1 to %d, or the name of one: (?P<name>…)", re.NumSubexp()))
	return 0
}

// request finds the question whose answer has the value.
func (v *visit) request() {
	name := v.raw.Request
	if v.field.Request == Assumed {
		if name != "" {
			v.wrong("request", "what is assumed is not asked for", "leave it out, or leave write.assume out")
		}
		return
	}
	if name == "" && v.decl.Config.Meter != nil {
		name = readout
	}
	if name == "" {
		return
	}
	i, ok := v.requests[name]
	switch {
	case !ok:
		v.wrong("request", fmt.Sprintf("there is no request %.80q", name), schema.Suggest(name, slices.Sorted(maps.Keys(v.requests)))+"; requests are declared in the device's configData")
	case i >= 0:
		v.field.Request = i
		if v.decl.Requests[i].Reply.None {
			v.wrong("request", fmt.Sprintf("the request %.80q has no answer", name), "take none out of its reply, or use another request")
		}
	}
}

// maxWord is the most bytes of a number, and so of a word of bits.
const maxWord = 8

// number reads how text or bytes become the value.
func (v *visit) number() {
	d := number.Decl{
		Type: v.raw.Type, Order: v.raw.Order, Bit: v.raw.Bit, Scale: v.raw.Scale, Offset: v.raw.Offset,
		Enum: v.raw.Enum, Sentinels: v.raw.Sentinels, Deadband: v.raw.Deadband, Out: v.prop.Type,
	}
	if n := v.raw.Length; n != nil {
		d.Length = *n
		if v.raw.Type == "bool" && *n > maxWord {
			v.wrong("length", fmt.Sprintf("a bool is in at most %d bytes, not in %d", maxWord, *n), "move at to the byte that has the bit")
			return
		}
		if v.raw.Type == "bool" {
			d.Word = *n
		}
	}
	s := &v.field.source
	v.field.binary = s.kind == byPlace && slices.Contains(number.BinaryTypes(), v.raw.Type) && (v.raw.Type != "string" || v.prop.Type == twin.TypeBytes)
	if s.kind == byPlace && !v.field.binary {
		if v.raw.Length == nil {
			v.wrong("length", "missing: text has no width of its own", "write how many bytes it has, or a type of bytes such as uint16")
			return
		}
		s.length = *v.raw.Length
	}
	if !v.field.binary {
		if v.raw.Type != "" && !slices.Contains(number.TextTypes(), v.raw.Type) {
			v.wrong("type", fmt.Sprintf("%s is a type of bytes, and the value is text", v.raw.Type), "use "+strings.Join(number.TextTypes(), ", ")+", or say where its bytes are with at")
			return
		}
		v.field.format, _ = number.NewText(d, v.wrong)
		return
	}
	var ok bool
	if v.field.format, ok = number.NewBinary(d, v.wrong); !ok {
		return
	}
	width := v.field.format.Width()
	switch {
	case width == 0 && v.raw.Length == nil:
		v.wrong("length", "missing", "write how many bytes the string has")
	case width == 0:
		width = *v.raw.Length
	case v.raw.Length != nil && *v.raw.Length != width:
		v.wrong("length", fmt.Sprintf("%s has %d bytes of its own", v.raw.Type, width), "leave it out")
	}
	s.length = width
}

// writing reads how the property is set.
func (v *visit) writing() {
	w := v.raw.Write
	switch {
	case w == nil && !v.prop.Writable:
		return
	case w == nil:
		v.wrong("write", "missing, but the property is ReadWrite", "write what is sent to set it, or declare accessMode: ReadOnly")
		return
	case !v.prop.Writable:
		v.wrong("write", "the property is ReadOnly", "declare accessMode: ReadWrite, or leave write out")
		return
	}
	path := v.path + ".write"
	t, inHex := v.send(path, w.Send, w.SendHex)
	if names := t.names(); !t.empty() && (len(names) != 1 || names[0] != "value") {
		for _, name := range names {
			if name != "value" {
				v.problem(path+".send", fmt.Sprintf("${%s} is none of the values", name), "write it under the device's values; the value that is set is ${value}")
			}
		}
		if len(names) == 0 {
			v.problem(path+".send", "it has no place for the value", "write ${value} where the value stands")
		}
	}
	if v.field.binary && !inHex && w.Send != "" {
		v.problem(path+".send", "the value is bytes", "write it under sendHex; ${value} is then the bytes of "+v.raw.Type)
	}
	c := &v.decl.Config
	v.field.write = &Write{bare: t, Request: Request{Name: "write " + v.prop.Name, Timeout: c.Timeout, Pause: c.Pause, Reply: v.reply(path+".reply", w.Reply)}, Raw: w.Raw}
	if w.Timeout != nil {
		v.field.write.Timeout = *w.Timeout
	}
}

// claim refuses a second property with the same value.
func (v *visit) claim() {
	f := &v.field
	if f.Request == Assumed {
		return
	}
	where := fmt.Sprint(f.Request, " ", f.source.String(), " ", f.when.String())
	if v.raw.Bit != nil {
		where += fmt.Sprint(" bit ", *v.raw.Bit)
	}
	if v.taken == nil {
		v.taken = map[string]string{}
	}
	if first, twice := v.taken[where]; twice {
		v.wrong("", fmt.Sprintf("the property %s claims the same value: %s", first, f.source.String()), "keep one of the two, or say with when or request which frame each is of")
		return
	}
	v.taken[where] = v.prop.Name
}

// String names the recogniser, the same for the same frames.
func (r *recogniser) String() string {
	text := fmt.Sprintf("%q", r.prefix)
	if r.match != nil {
		text += fmt.Sprintf(" %q", r.match)
	}
	for i := range r.equals {
		text += fmt.Sprintf(" %s=%q", r.equals[i].source.String(), r.equals[i].want)
	}
	return text
}
