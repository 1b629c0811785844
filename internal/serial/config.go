package serial

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// Config is how to reach one device, and how it speaks.
type Config struct {
	Endpoint Endpoint
	Profile  string
	Timeout  time.Duration // for one answer
	Retries  int           // of a question that was not answered, or badly
	Pause    time.Duration // kept free on the line after each request
	// Recovery is how long a device is not asked after it left a question open; Fixed says
	// that it was declared, and does not grow with the lateness that is seen.
	Recovery time.Duration
	Fixed    bool
	Silence  time.Duration // after which a property that the device says by itself is stale
	Arrival  bool          // times are those of arrival, whatever a telegram says
	Echo     bool          // the line repeats what is sent
	Sender   string        // only its telegrams are the device's; "": everyone's
	Framing  framing.Config
	Init     []Request
	Meter    *Meter // nil: no dialogue of IEC 62056-21

	trim   bool // a carriage return before the line feed is no part of a frame
	decode decoder
}

// decoder takes frames of a profile apart.
type decoder func(frame []byte) (telegram.Telegram, error)

// Meter is the dialogue of IEC 62056-21 that a device is read with.
type Meter struct {
	Address string
	Mode    string // auto, a, b or c
	MaxBaud int
}

// Request is one question to the instrument.
type Request struct {
	Name    string
	Send    []byte // the whole frame
	Reply   Reply
	Timeout time.Duration
	Pause   time.Duration
	Dialog  bool // Config.Meter's dialogue, in place of Send and Reply
}

// Reply says which frame answers a request.
type Reply struct {
	None    bool // there is no answer
	Named   bool // it names the device or the question, so that no other is taken for it
	prefix  []byte
	match   *regexp.Regexp
	refused []refusal
}

// Is reports whether a frame answers the request. why is the word for an answer that is no value.
func (r *Reply) Is(data []byte) (answers bool, why string) {
	if why, refused := refusedBy(r.refused, data); refused {
		return true, why
	}
	return hasPrefix(data, r.prefix) && (r.match == nil || r.match.Match(data)), ""
}

// Declaration is a device as declared, ready to be served.
type Declaration struct {
	Config   Config
	Requests []Request // in the order of their names
	Fields   []Field   // of the properties that are declared without a mistake, in their order
}

const configPath = "spec.protocol.configData"

// Parse reads a declared device. Each mistake is one Problem with a remedy. A
// property with a mistake is left out of Fields; the Declaration is nil when the
// device itself cannot be served.
func Parse(device *twin.Device) (*Declaration, []twin.Problem) {
	p := parser{object: "Device " + device.ID.String(), requests: map[string]int{}}
	ok := p.device(device.Config)
	for i := range device.Properties {
		if f, right := p.visitor(&device.Properties[i]); right {
			p.decl.Fields = append(p.decl.Fields, f)
		}
	}
	if !ok {
		return nil, p.problems
	}
	p.answers()
	switch d := p.profile.dissector; {
	case d.only != nil:
		p.decl.Config.decode = d.only(p.decl.telegramFields())
	case p.profile.decodes:
		p.decl.Config.decode = d.all()
	}
	return &p.decl, p.problems
}

// telegramFields returns the fields of a telegram that properties are read from, or told by.
func (d *Declaration) telegramFields() []string {
	var names []string
	add := func(s *source) {
		if s.kind == byField {
			names = append(names, s.name)
		}
	}
	for i := range d.Fields {
		f := &d.Fields[i]
		add(&f.source)
		for at := range f.when.equals {
			add(&f.when.equals[at].source)
		}
	}
	return names
}

// answers refuses questions of a device that also speaks by itself, if anything it says would do for an answer.
func (p *parser) answers() {
	if !slices.ContainsFunc(p.decl.Fields, func(f Field) bool { return f.Request == Unasked }) {
		return
	}
	const what, remedy = "the device also speaks by itself, and anything that it says would be taken for the answer", "write prefix or match, or none: true where it does not answer"
	open := map[int]bool{}
	for i := range p.decl.Requests {
		if r := &p.decl.Requests[i]; !r.Dialog && r.Reply.any() {
			p.problem(configPath+".requests."+r.Name+".reply", what, remedy)
			open[i] = true
		}
	}
	p.decl.Fields = slices.DeleteFunc(p.decl.Fields, func(f Field) bool {
		if f.write != nil && f.write.Reply.any() {
			p.problem("spec.properties["+f.Property+"].visitors.configData.write.reply", what, remedy)
			return true
		}
		return open[f.Request]
	})
}

// any reports whether every frame is taken for the answer.
func (r *Reply) any() bool { return !r.None && r.prefix == nil && r.match == nil }

type parser struct {
	object   string
	problems []twin.Problem
	decl     Declaration
	broken   bool           // the device: nothing can be said of requests
	requests map[string]int // index in decl.Requests, by name; negative: wrong
	profile  profile
	values   map[string]string
	taken    map[string]string // property, by where its value is
}

func (p *parser) problem(field, what, remedy string) {
	p.problems = append(p.problems, twin.Problem{Object: p.object, Field: field, What: what, Remedy: remedy})
}

// device reads configData; false when the device cannot be served.
func (p *parser) device(data map[string]any) bool {
	p.broken = true // until all is read
	profile, data, ok := p.withProfile(data)
	if !ok {
		return false
	}
	p.profile = profile
	var raw deviceConfig
	p.problems = append(p.problems, DeviceTable().Decode(p.object, configPath, data, &raw)...)
	if len(p.problems) > 0 {
		return false
	}
	endpoint, wrong := parseURL(raw.URL, profile.usual)
	if wrong != nil {
		p.problem(configPath+".url", wrong.what, wrong.remedy)
	}
	c := Config{
		Endpoint: endpoint, Profile: raw.Profile, Timeout: raw.Timeout, Retries: raw.Retries, Pause: raw.Pause,
		Recovery: raw.Timeout, Silence: raw.Silence, Arrival: raw.Clock == "arrival", Echo: raw.Echo, Sender: raw.Sender,
	}
	if raw.Recovery != nil {
		c.Recovery, c.Fixed = *raw.Recovery, true
	}
	if raw.Sender != "" && !profile.decodes {
		p.problem(configPath+".sender", "there is no profile that knows senders", "leave it out, and tell the devices apart by when")
	}
	p.framing(&c, raw.Framing, raw.Check)
	p.decl.Config = c
	p.values = map[string]string{}
	for name, v := range raw.Values {
		p.values[name] = v.Text()
	}
	p.readInit(raw.Init)
	p.readRequests(raw.Requests)
	p.meter(raw.Meter, profile)
	p.broken = len(p.problems) > 0
	return !p.broken
}

// withProfile puts the device's keys over those of its profile.
func (p *parser) withProfile(data map[string]any) (profile, map[string]any, bool) {
	name, given := data["profile"]
	if !given {
		return profile{usual: defaults()}, maps.Clone(data), true
	}
	text, _ := name.(string)
	prof, ok := profileOf(text)
	if !ok {
		p.problem(configPath+".profile", fmt.Sprintf("%.80q is not a profile", fmt.Sprint(name)), schema.Suggest(text, ProfileNames()))
		return prof, nil, false
	}
	return prof, overlay(prof.keys, data), true
}

// overlay returns base with the keys of over in their place; maps within are merged alike.
func overlay(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	maps.Copy(out, base)
	for key, v := range over {
		below, okBelow := out[key].(map[string]any)
		above, okAbove := v.(map[string]any)
		if okBelow && okAbove {
			out[key] = overlay(below, above)
			continue
		}
		out[key] = v
	}
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

func (p *parser) meter(raw *meterConfig, profile profile) {
	switch {
	case raw == nil && !profile.dialog:
		return
	case !profile.dialog:
		p.problem(configPath+".meter", "only the profile iec62056 has this dialogue", "leave it out, or write profile: iec62056")
		return
	case raw == nil:
		raw = &meterConfig{Mode: "auto", MaxBaud: 19200}
	}
	if raw.Mode == "d" {
		if raw.Address != "" {
			p.problem(configPath+".meter.address", "a meter of mode d sends by itself and is not addressed", "leave it out")
		}
		return
	}
	p.decl.Config.Meter = &Meter{Address: raw.Address, Mode: raw.Mode, MaxBaud: raw.MaxBaud}
	p.requests[readout] = len(p.decl.Requests)
	p.decl.Requests = append(p.decl.Requests, Request{Name: readout, Dialog: true, Timeout: p.decl.Config.Timeout, Pause: p.decl.Config.Pause})
}

// readout is the request that is the dialogue of a meter.
const readout = "readout"

func (p *parser) readInit(list []requestConfig) {
	for i := range list {
		path := fmt.Sprintf("%s.init[%d]", configPath, i)
		if r, ok := p.request(path, "init", &list[i]); ok {
			p.decl.Config.Init = append(p.decl.Config.Init, r)
		}
	}
}

func (p *parser) readRequests(byName map[string]requestConfig) {
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		raw := byName[name]
		r, ok := p.request(configPath+".requests."+name, name, &raw)
		if !ok {
			p.requests[name] = -1
			continue
		}
		p.requests[name] = len(p.decl.Requests)
		p.decl.Requests = append(p.decl.Requests, r)
	}
}

// request reads one question; all its places must be among the values.
func (p *parser) request(path, name string, raw *requestConfig) (Request, bool) {
	before := len(p.problems)
	c := &p.decl.Config
	r := Request{Name: name, Timeout: c.Timeout, Pause: c.Pause}
	if raw.Timeout != nil {
		r.Timeout = *raw.Timeout
	}
	if raw.Pause != nil {
		r.Pause = *raw.Pause
	}
	t, _ := p.send(path, raw.Send, raw.SendHex)
	if names := t.names(); len(names) > 0 {
		p.problem(path+".send", fmt.Sprintf("${%s} is none of the values", names[0]), schema.Suggest(names[0], slices.Sorted(maps.Keys(p.values)))+"; or write it under values")
	}
	r.Reply = p.reply(path+".reply", raw.Reply)
	if len(p.problems) > before {
		return r, false
	}
	r.Send = c.frame(t.fill(nil), raw.Raw)
	return r, true
}

// send reads what is sent, with the values filled in; inHex is that it is written in digits.
func (p *parser) send(path, text, digits string) (t template, inHex bool) {
	inHex = digits != ""
	key, parse := ".send", parseTemplate
	if inHex {
		key, parse, text = ".sendHex", parseHex, digits
	}
	if text == "" {
		p.problem(path+".send", "missing", "write what is sent, as text under send or as digits under sendHex")
		return t, inHex
	}
	t, err := parse(text)
	if err == nil {
		t, err = t.bind(p.values, inHex)
	}
	if err != nil {
		p.problem(path+key, err.Error(), "write it otherwise; escapes are \\r \\n \\t \\0 \\xHH \\\\ \\$, places are ${name}")
		return template{}, inHex
	}
	return t, inHex
}

// frame makes the frame of what is sent.
func (c *Config) frame(payload []byte, raw bool) []byte {
	if raw {
		return payload
	}
	return c.Framing.Append(nil, payload)
}

func (p *parser) reply(path string, raw *replyConfig) (r Reply) {
	if raw == nil {
		return r
	}
	r.None = raw.None
	if raw.None && (raw.Prefix != "" || raw.Match != "" || len(raw.Refused) > 0) {
		p.problem(path+".none", "an answer that does not come is described", "leave none out, or leave all else out")
	}
	r.prefix = p.bytes(path+".prefix", raw.Prefix)
	r.match = p.pattern(path+".match", raw.Match)
	r.Named = strings.Contains(raw.Prefix+raw.Match, "${")
	r.refused = p.refusals(path+".refused", raw.Refused)
	return r
}

func (p *parser) refusals(path string, raw map[string]string) (list []refusal) {
	for _, why := range slices.Sorted(maps.Keys(raw)) {
		if !twin.Bad(why).Valid() {
			p.problem(path+"."+why, fmt.Sprintf("%.40q cannot be the word of a quality", why), "use lower-case letters, digits, - and _")
			continue
		}
		list = append(list, refusal{why, p.pattern(path+"."+why, raw[why])})
	}
	return list
}

// bytes reads text with escapes and values.
func (p *parser) bytes(path, text string) []byte {
	if text == "" {
		return nil
	}
	t, err := parseTemplate(text)
	if err == nil {
		t, err = t.bind(p.values, false)
	}
	if err == nil && len(t.names()) > 0 {
		err = fmt.Errorf("${%s} is none of the values", t.names()[0])
	}
	if err != nil {
		p.problem(path, err.Error(), "write bytes, with the escapes \\r \\n \\t \\0 \\xHH \\\\ \\$ and ${name} for values")
		return nil
	}
	return t.fill(nil)
}

// pattern reads a regular expression in which ${name} stands for a value, taken literally.
func (p *parser) pattern(path, text string) *regexp.Regexp {
	if text == "" {
		return nil
	}
	for name, v := range p.values {
		text = strings.ReplaceAll(text, "${"+name+"}", regexp.QuoteMeta(v))
	}
	if i := strings.Index(text, "${"); i >= 0 {
		p.problem(path, fmt.Sprintf("%.40q is none of the values", text[i:]), "write it under values; a dollar sign before a brace is \\$")
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		p.problem(path, strings.TrimPrefix(err.Error(), "error parsing regexp: "), "write a regular expression in the syntax of RE2 (https://github.com/google/re2/wiki/Syntax)")
		return nil
	}
	return re
}
