package serial

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/serialport"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// Chunk is bytes that came together.
type Chunk struct {
	At   time.Time
	Data []byte
}

// Tried is what a declaration makes of bytes that were heard.
type Tried struct {
	Frames  int // whole frames that are read
	Unread  int // whole frames that the profile cannot read, a wrong check of its own included
	Damaged int // frames with a wrong check of the framing, or too long
	Skipped int // bytes that belong to no frame
	Pending int // bytes at the end that may be the beginning of a frame
	Covered int // bytes of the Frames
	// Cut says that the first that was heard is among Unread or Damaged, or was skipped: hearing may
	// have begun in the middle of it.
	Cut    bool
	Values [][]telegram.Field // of each of the first MaxTried frames
	Data   [][]byte           // of the same frames: without what makes them frames
}

// MaxTried bounds the frames whose contents Try keeps.
const MaxTried = 256

// settleTime is longer than any gap that a declaration may have.
const settleTime = 2 * time.Minute

// Try shows what a device with this configData would make of bytes that were heard: keys
// such as profile, framing and check. A url is not needed. The error is the first mistake of config. It does no I/O.
func Try(config map[string]any, heard []Chunk) (Tried, error) {
	c, fields, err := trial(config)
	if err != nil {
		return Tried{}, err
	}
	s := framing.NewScanner(c.Framing)
	var t Tried
	var last time.Time
	total := 0
	for _, chunk := range heard {
		s.Push(chunk.Data, chunk.At)
		last = chunk.At
		total += len(chunk.Data)
		t.take(&c, fields, s)
	}
	open := int(s.Counters().Skipped)
	s.Quiet(last.Add(settleTime))
	t.take(&c, fields, s)
	counted := s.Counters()
	t.Damaged = int(counted.Damaged + counted.Oversize)
	t.Skipped = int(counted.Skipped)
	if c.Framing.Gap > 0 { // Quiet gave up what was pending
		t.Pending = t.Skipped - open
		t.Skipped = open
	} else {
		t.Pending = total - t.Covered - t.Skipped
	}
	return t, nil
}

// take reads the frames that the scanner has.
func (t *Tried) take(c *Config, fields []Field, s *framing.Scanner) {
	for {
		f, ok := s.Next()
		if !ok {
			return
		}
		if t.Frames+t.Unread == 0 {
			t.Cut = f.Start > 0
		}
		m, err := c.message(f)
		values := valuesOf(m, fields)
		if err != nil || len(fields) > 0 && len(values) == 0 {
			t.Cut = t.Cut || t.Frames+t.Unread == 0
			t.Unread++
			continue
		}
		t.Frames++
		t.Covered += len(f.Raw)
		if len(t.Data) < MaxTried {
			t.Data = append(t.Data, slices.Clone(m.Data))
			t.Values = append(t.Values, values)
		}
	}
}

// valuesOf returns what a message says by the profile's decoder, or by its fields.
func valuesOf(m *Message, fields []Field) []telegram.Field {
	if m == nil {
		return nil
	}
	if m.Telegram != nil {
		return m.Telegram.Fields
	}
	var values []telegram.Field
	for i := range fields {
		f := &fields[i]
		if !f.Of(m) {
			continue
		}
		if v, q := f.Decode(m); !q.IsBad() {
			values = append(values, telegram.Field{Name: f.Property, Text: v.Text(), Quality: q})
		}
	}
	return values
}

// trial parses config as that of a device with all the fields that its profile names, as far as they can be read.
func trial(config map[string]any) (Config, []Field, error) {
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: "trial"}, Protocol: Protocol, Config: maps.Clone(config)}
	if d.Config == nil {
		d.Config = map[string]any{}
	}
	d.Config["url"] = "tcp://trial:1" // it has no settings that could be wrong
	decl, problems := Parse(&d)
	if decl == nil {
		return Config{}, nil, problems[0]
	}
	name, _ := config["profile"].(string)
	p, _ := profileOf(name)
	named, _ := p.keys["fields"].(map[string]any)
	var fields []Field
	for _, name := range slices.Sorted(maps.Keys(named)) {
		for _, typ := range []twin.Type{twin.TypeDouble, twin.TypeInt, twin.TypeBoolean, twin.TypeString} {
			d.Properties = []twin.Property{{Name: name, Type: typ, Visitor: map[string]any{"field": name, "write": nil}}}
			if one, wrong := Parse(&d); one != nil && len(wrong) == 0 {
				fields = append(fields, one.Fields...)
				break
			}
		}
	}
	return decl.Config, fields, nil
}

// Usual returns the settings of the line that hold for a profile where the URL says nothing; "": for none. False: there is no such profile.
func Usual(profile string) (serialport.Config, bool) {
	if profile == "" {
		return defaults(), true
	}
	p, ok := profileOf(profile)
	return p.usual, ok
}

// Unescape reads text with the escapes that a Device may have: \r \n \t \0 \xHH \\ \$.
func Unescape(text string) ([]byte, error) {
	b, err := unescapeAll(text)
	if err != nil {
		return nil, fmt.Errorf("read %.40q: %w", text, err)
	}
	return b, nil
}

// Digits reads pairs of hexadecimal digits with spaces as they please.
func Digits(text string) ([]byte, error) {
	t, err := parseHex(text)
	if err != nil {
		return nil, fmt.Errorf("read %.40q: %w", text, err)
	}
	if names := t.names(); len(names) > 0 {
		return nil, fmt.Errorf("read %.40q: ${%s} stands where only digits can", text, names[0])
	}
	return t.fill(nil), nil
}

// Read returns the messages that bytes are, as they come over a line and with silence behind them.
// The error is that of the first frame that cannot be read; what follows it is not.
func Read(c *Config, heard Chunk) ([]*Message, error) {
	s := framing.NewScanner(c.Framing)
	s.Push(heard.Data, heard.At)
	s.Quiet(heard.At.Add(settleTime))
	var list []*Message
	for {
		f, ok := s.Next()
		if !ok {
			return list, nil
		}
		m, err := c.message(f)
		if err != nil {
			return list, err
		}
		list = append(list, m)
	}
}
