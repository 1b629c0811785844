package serial

import (
	"errors"
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

// Try shows what a device with this configData would make of bytes that were heard; see NewReader.
func Try(config map[string]any, heard []Chunk, asked bool) (Tried, error) {
	r, err := NewReader(config, asked)
	if err != nil {
		return Tried{}, err
	}
	var t Tried
	var last time.Time
	total := 0
	for _, chunk := range heard {
		r.Push(chunk)
		last = chunk.At
		total += len(chunk.Data)
		t.take(r)
	}
	open := int(r.Counters().Skipped)
	r.Quiet(last.Add(settleTime))
	t.take(r)
	counted := r.Counters()
	t.Damaged = int(counted.Damaged + counted.Oversize)
	t.Skipped = int(counted.Skipped)
	if r.config.Framing.Gap > 0 { // Quiet gave up what was pending
		t.Pending = t.Skipped - open
		t.Skipped = open
	} else {
		t.Pending = total - t.Covered - t.Skipped
	}
	return t, nil
}

// take reads the frames that the reader has.
func (t *Tried) take(r *Reader) {
	for {
		h, ok := r.Next()
		if !ok {
			return
		}
		if t.Frames+t.Unread == 0 {
			t.Cut = h.Frame.Start > 0 || h.Err != nil
		}
		if h.Err != nil {
			t.Unread++
			continue
		}
		t.Frames++
		t.Covered += len(h.Frame.Raw)
		if len(t.Data) < MaxTried {
			t.Data = append(t.Data, slices.Clone(h.Message.Data))
			t.Values = append(t.Values, h.Values)
		}
	}
}

// Reader reads bytes as a device with some configData would. It is not safe for concurrent use.
type Reader struct {
	config  Config
	fields  []Field
	scanner *framing.Scanner
}

// Heard is one frame. It is valid until the next Push.
type Heard struct {
	Frame   framing.Frame
	Message *Message         // nil where Err is not
	Values  []telegram.Field // what the profile has in it
	Err     error            // the frame is whole, but the profile cannot read it
}

// NewReader reads by configData with keys such as profile, framing and check. A url is not needed. asked
// says that answers are read: of a profile whose fields are declared, those of its requests, else those of what is said
// unasked. The error is the first mistake of config.
func NewReader(config map[string]any, asked bool) (*Reader, error) {
	c, fields, err := trial(config)
	if err != nil {
		return nil, err
	}
	fields = slices.DeleteFunc(fields, func(f Field) bool { return (f.Request >= 0) != asked })
	return &Reader{config: c, fields: fields, scanner: framing.NewScanner(c.Framing)}, nil
}

// Push takes bytes. Call Next until it has no more afterwards.
func (r *Reader) Push(c Chunk) { r.scanner.Push(c.Data, c.At) }

// Quiet tells that nothing came until now. Call Next until it has no more afterwards.
func (r *Reader) Quiet(now time.Time) { r.scanner.Quiet(now) }

// Counters are the scanner's.
func (r *Reader) Counters() framing.Counters { return r.scanner.Counters() }

// errNoField is why a frame of a profile whose fields are declared cannot be read.
var errNoField = errors.New("it has none of the profile's fields")

// Next returns the next whole frame.
func (r *Reader) Next() (Heard, bool) {
	f, ok := r.scanner.Next()
	if !ok {
		return Heard{}, false
	}
	h := Heard{Frame: f}
	h.Message, h.Err = r.config.message(f)
	if h.Err != nil {
		return h, true
	}
	h.Values = valuesOf(h.Message, r.fields)
	if len(r.fields) > 0 && len(h.Values) == 0 {
		h.Message, h.Err = nil, errNoField
	}
	return h, true
}

// valuesOf returns what a message says by the profile's decoder, or by its fields.
func valuesOf(m *Message, fields []Field) []telegram.Field {
	if m.Telegram != nil {
		return m.Telegram.Fields
	}
	var values []telegram.Field
	for i := range fields {
		f := &fields[i]
		if v, q, has := f.Read(m); has && !q.IsBad() {
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
	if p.decodes {
		decl.Config.decode = p.dissector.all()
	}
	var fields []Field
	for _, name := range slices.Sorted(maps.Keys(p.fields)) {
		for _, typ := range []twin.Type{twin.TypeString, twin.TypeDouble, twin.TypeInt, twin.TypeBoolean} { // text keeps the digits
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

// Decodes reports whether a profile takes frames apart by itself: only those can be told by what comes.
func Decodes(profile string) bool {
	p, ok := profileOf(profile)
	return ok && p.decodes
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
