package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/twin"
)

// making is one instrument being made of its declaration.
type making struct {
	*Instrument
	device   *twin.Device
	script   DeviceScript
	problems []twin.Problem
}

// declared notes a problem of the Device, scripted one of the Simulation.
func (m *making) declared(field, what, remedy string) {
	m.problems = append(m.problems, twin.Problem{Object: "Device " + m.id.String(), Field: field, What: what, Remedy: remedy})
}

func (m *making) scripted(field, what, remedy string) {
	m.problems = append(m.problems, twin.Problem{Object: Kind, Field: "spec.devices[" + m.id.String() + "]." + field, What: what, Remedy: remedy})
}

// addInstrument puts one declared serial device on its line.
func (s *Simulator) addInstrument(d *twin.Device, script DeviceScript, start time.Time) []twin.Problem {
	decl, problems := serial.Parse(d)
	if decl == nil {
		return problems
	}
	i := &Instrument{id: d.ID, config: &decl.Config, decl: decl, start: start, log: s.log, replies: map[string]serial.Wording{}}
	m := making{Instrument: i, device: d, script: script, problems: problems}
	e := decl.Config.Endpoint
	if e.Scheme == serial.RFC2217 {
		m.declared("spec.protocol.configData.url", "the scheme rfc2217 cannot be simulated", "use serial or tcp; ser2net in front of a simulated serial line speaks RFC 2217")
		return m.problems
	}
	if mode := i.meter.begin(decl.Config.Meter); mode != "" {
		m.declared("spec.protocol.configData.meter.mode", "a meter of mode "+mode+" cannot be simulated", "use auto, a or c, or d for one that sends by itself")
		return m.problems
	}
	m.properties()
	m.words()
	m.check()
	m.speech()
	i.faults = newFaults(m.faultScript())
	l := s.serialLines[e.Line()]
	if l == nil {
		l = &serialLine{name: e.Settings.Path}
		if e.Scheme == serial.TCP {
			l.name, l.address = e.String(), e.Address
		}
		s.serialLines[e.Line()] = l
	}
	l.instruments = append(l.instruments, i)
	s.instruments[d.ID] = i
	return m.problems
}

// properties gives each property its wave.
func (m *making) properties() {
	for n := range m.decl.Fields {
		f := &m.decl.Fields[n]
		p, _ := m.device.Property(f.Property)
		scripted, isScripted := m.script.Properties[f.Property]
		if name, _ := f.Key(); strings.HasSuffix(strings.ToLower(name), "latitude") && scripted.Max == nil && p.Maximum.IsZero() {
			scripted.Max = new(float64)
			*scripted.Max = 60 // there are no 100 degrees of it
		}
		w, err := waveOf(scripted, p)
		if err != nil {
			m.scripted("properties."+f.Property, err.Error(), "")
			continue
		}
		if !isScripted && p.Type == twin.TypeString {
			w.fixed = m.usualText(f, p, w.fixed)
		}
		m.dials = append(m.dials, dial{field: f, prop: p, wave: w})
	}
	m.problems = append(m.problems, strangers(m.device, m.script)...)
}

// usualText is what a text shows of which nothing is scripted.
func (m *making) usualText(f *serial.Field, p *twin.Property, v twin.Value) twin.Value {
	if names, _ := p.Visitor["enum"].(map[string]any); len(names) > 0 {
		first := slices.Min(slices.Collect(maps.Keys(names)))
		return twin.StringValue(textOf(names[first]))
	}
	if name, is := f.Key(); is && m.profile() == "nmea" {
		if text := usualNMEA(name); text != "" {
			return twin.StringValue(text)
		}
	}
	return f.Usual(v)
}

// wording reads a scripted text.
func (m *making) wording(field, text string) (w serial.Wording, ok bool) {
	values := map[string]string{}
	declared, _ := m.device.Config["values"].(map[string]any)
	for name, v := range declared {
		values[name] = textOf(v)
	}
	w, err := serial.ParseWording(text, values)
	if err != nil {
		m.scripted(field, err.Error(), `escapes are \r \n \t \0 \xHH \\ \$, places are ${property} and ${property:%.1f}`)
		return w, false
	}
	for _, name := range w.Names() {
		if m.dial(name) == nil {
			m.scripted(field, fmt.Sprintf("${%s} is no property, and none of the device's values", name), "name one of the device's properties")
			return w, false
		}
	}
	return w, true
}

// words reads the scripted replies.
func (m *making) words() {
	names := []string{}
	for n := range m.decl.Requests {
		names = append(names, m.decl.Requests[n].Name)
	}
	for n := range m.dials {
		if w := m.dials[n].field.Writing(); w != nil {
			names = append(names, w.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.script.Replies)) {
		field := "replies." + name
		if !slices.Contains(names, name) {
			m.scripted(field, "the device has no such request", "use one of "+strings.Join(names, ", "))
			continue
		}
		if w, ok := m.wording(field, m.script.Replies[name]); ok {
			m.replies[name] = w
		}
	}
}

// check makes every answer once, so that what cannot be said is known before it is asked for.
func (m *making) check() {
	ask := func(r *serial.Request, index int, path string) {
		if r.Reply.None || r.Dialog {
			return
		}
		fields := m.fieldsOf(index)
		frame, err := m.reply(r, index, r.Send)
		if err == nil {
			err = m.config.Reads(frame, &r.Reply, fields)
		}
		if err != nil {
			m.declared(path, err.Error(), "give what it answers in a Simulation: spec.devices["+m.id.String()+"].replies: {"+r.Name+": …}")
		}
	}
	for n := range m.config.Init {
		ask(&m.config.Init[n], -1, fmt.Sprintf("spec.protocol.configData.init[%d]", n))
	}
	for n := range m.decl.Requests {
		ask(&m.decl.Requests[n], n, "spec.protocol.configData.requests."+m.decl.Requests[n].Name)
	}
	for n := range m.dials {
		if w := m.dials[n].field.Writing(); w != nil {
			ask(&w.Request, -1, "spec.properties["+m.dials[n].prop.Name+"].visitors.configData.write")
		}
	}
	if m.config.Meter != nil {
		if _, err := m.dataBlock(); err != nil {
			m.declared("spec.properties", err.Error(), "name addresses of data sets, such as 1.8.0")
		}
	}
}

// fieldsOf returns the fields that a request brings.
func (m *making) fieldsOf(index int) (list []*serial.Field) {
	for n := range m.dials {
		if m.dials[n].field.Request == index && index != -1 {
			list = append(list, m.dials[n].field)
		}
	}
	return list
}

// speech finds out what the instrument says by itself.
func (m *making) speech() {
	var unasked []*serial.Field
	for n := range m.dials {
		if m.dials[n].field.Request == serial.Unasked {
			unasked = append(unasked, m.dials[n].field)
		}
	}
	every := time.Duration(0)
	for n, s := range m.script.Stream {
		if s.Send == "" {
			every = time.Duration(s.Every)
			continue
		}
		field := fmt.Sprintf("stream[%d].send", n)
		w, ok := m.wording(field, s.Send)
		if !ok {
			continue
		}
		said := stream{every: time.Duration(s.Every), text: &w, raw: s.Raw}
		frame, err := m.says(&said)
		if err != nil {
			m.scripted(field, err.Error(), "write another text")
			continue
		}
		for _, f := range unasked {
			if m.config.Hears(frame, f) {
				said.fields = append(said.fields, f)
			}
		}
		if err := m.config.Reads(frame, nil, said.fields); err != nil {
			m.scripted(field, err.Error(), "write it so that the device's visitors read it")
		}
		m.streams = append(m.streams, said)
	}
	if len(m.streams) == 0 {
		m.derived(unasked)
	}
	for n := range m.streams {
		if m.streams[n].every == 0 {
			m.streams[n].every = max(every, 0)
		}
		if m.streams[n].every == 0 {
			m.streams[n].every = m.usual(m.streams[n].fields)
		}
	}
	for _, f := range unasked {
		if !slices.ContainsFunc(m.streams, func(s stream) bool { return slices.Contains(s.fields, f) }) && len(m.script.Stream) > 0 {
			m.scripted("stream", "nothing of it is read as "+f.Property, "write a frame that has it")
		}
	}
}

// usual is how often fields are said: the shortest collectCycle, and twice before they are stale.
func (m *making) usual(fields []*serial.Field) time.Duration {
	every := time.Second
	first := true
	for _, f := range fields {
		p, _ := m.device.Property(f.Property)
		if p.CollectCycle > 0 && (first || p.CollectCycle < every) {
			every, first = p.CollectCycle, false
		}
	}
	return max(min(every, m.config.Silence/2), minEvery)
}

// derived makes one stream of the fields that have the same frames; or one of each field, where no frame has them all.
func (m *making) derived(unasked []*serial.Field) {
	var keys []string
	groups := map[string][]*serial.Field{}
	for _, f := range unasked {
		key := f.When()
		if name, is := f.Key(); is && m.profile() == "nmea" {
			kind, _, _ := strings.Cut(name, ".")
			key = kind + " " + key
		}
		if _, known := groups[key]; !known {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], f)
	}
	for _, key := range keys {
		err := m.say(groups[key])
		if err == nil {
			continue
		}
		if _, profiled := groups[key][0].Key(); profiled {
			m.unsaid(groups[key][0], err)
			continue
		}
		for _, f := range groups[key] {
			if err := m.say([]*serial.Field{f}); err != nil {
				m.unsaid(f, err)
			}
		}
	}
	m.apart(unasked)
}

func (m *making) unsaid(f *serial.Field, err error) {
	m.declared("spec.properties["+f.Property+"].visitors.configData", err.Error(), "give what is said in a Simulation: spec.devices["+m.id.String()+"].stream: [{send: …}]")
}

// say adds a stream of fields, if it can be made.
func (m *making) say(fields []*serial.Field) error {
	s := stream{fields: fields}
	frame, err := m.says(&s)
	if err == nil {
		err = m.config.Reads(frame, nil, fields)
	}
	if err == nil {
		m.streams = append(m.streams, s)
	}
	return err
}

// apart tells where a property would be read in a frame that is another's.
func (m *making) apart(unasked []*serial.Field) {
	for n := range m.streams {
		frame, err := m.says(&m.streams[n])
		for _, f := range unasked {
			if err == nil && !slices.Contains(m.streams[n].fields, f) && m.config.Hears(frame, f) {
				m.declared("spec.properties["+f.Property+"].visitors.configData", fmt.Sprintf("it is read in the frame of %s too: %.60q", m.streams[n].fields[0].Property, frame), "say with when which frames have it")
			}
		}
	}
}

// faultScript returns the faults that can be played.
func (m *making) faultScript() []Fault {
	var script []Fault
	for n, f := range m.script.Faults {
		field := fmt.Sprintf("faults[%d].do", n)
		switch {
		case f.Do == WrongUnit, f.Do == WrongTransaction:
			m.scripted(field, f.Do+" is Modbus's: what another instrument would answer does not follow from the declaration", "use another fault, or give a reply that names another device")
		case f.Do == Exception && !m.refuses():
			m.scripted(field, "no answer of the device is called refused, or none that could be made", "declare refused in its reply")
		default:
			script = append(script, f)
		}
	}
	return script
}

// refuses reports whether some answer can be a refusal.
func (m *making) refuses() bool {
	for n := range m.decl.Requests {
		if _, err := m.refuse(&m.decl.Requests[n].Reply); err == nil {
			return true
		}
	}
	for n := range m.dials {
		if w := m.dials[n].field.Writing(); w != nil {
			if _, err := m.refuse(&w.Reply); err == nil {
				return true
			}
		}
	}
	return false
}
