package serial

import (
	"bytes"
	"fmt"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/pkg/twin"
)

// Key returns the name of a field of the profile's telegrams; false: the value is found another way.
func (f *Field) Key() (string, bool) { return f.source.name, f.source.kind == byField }

// Fixed returns what other fields of a telegram must be, so that it has the property.
func (f *Field) Fixed() map[string]string {
	out := map[string]string{}
	for _, e := range f.when.equals {
		if e.source.kind == byField {
			out[e.source.name] = e.want
		}
	}
	return out
}

// When names the frames that have the property, the same for the same frames.
func (f *Field) When() string { return f.when.String() }

// Text returns a value as the instrument says it: text, or the bytes in which it holds it.
func (f *Field) Text(v twin.Value) (string, error) {
	s, err := sayingOf(Shown{f, v})
	if f.binary {
		return string(s.bytes), err
	}
	return s.text, err
}

// Usual returns v where the property's place can hold it, else a short text that it can, if there is one.
func (f *Field) Usual(v twin.Value) twin.Value {
	if f.source.kind != byRegex {
		return v
	}
	group, err := groupPattern(f.source.match, f.source.group)
	if err != nil {
		return v
	}
	if text, _, err := f.format.EncodeText(v); err == nil && group.MatchString(text) {
		return v
	}
	text, err := shortest(group, nil, "0A ")
	if err != nil {
		return v
	}
	if shown, q := f.format.DecodeText(text); !q.IsBad() {
		return shown
	}
	return v
}

// Writing returns how the property is set; nil where it is not writable.
func (f *Field) Writing() *Write { return f.write }

// Open reports whether nothing tells where the command ends that sets the property but the silence behind it.
func (f *Field) Open(c *Config) bool {
	parts := f.write.bare.parts
	return f.write.Raw && !f.binary && parts[len(parts)-1].name != "" || !f.write.Raw && c.Framing.Kind == framing.Silence
}

// Commanded reads what sets the property: the payload that Field.Command makes a frame of. is: it is
// such a one; the value is zero where the quality is bad, as in number.Format.DecodeText.
func (f *Field) Commanded(c *Config, payload []byte) (v twin.Value, q twin.Quality, is bool) {
	if f.write == nil || f.write.bare.empty() {
		return v, "", false
	}
	width := 0
	if f.binary {
		width = f.source.length
		if width == 0 {
			width = f.format.Width()
		}
	}
	b, is := f.write.bare.unfill(payload, width, c.overwritten(payload))
	switch {
	case !is:
		return v, "", false
	case f.binary:
		v, q = f.format.Decode(b)
	default:
		v, q = f.format.DecodeText(string(b))
	}
	return v, q, true
}

// overwritten tells which bytes of a payload the framing writes, so that it does not matter what
// stands there: the length and the check of frames that are their own payload.
func (c *Config) overwritten(payload []byte) func(i int) bool {
	return func(i int) bool {
		kind := c.Framing.Kind
		if len(payload) > maxSend || kind != framing.Fixed && kind != framing.Length && c.Framing.Check == nil {
			return false
		}
		other := bytes.Clone(payload)
		other[i] ^= 0xFF
		return bytes.Equal(c.Framing.Append(nil, other), c.Framing.Append(nil, payload))
	}
}

// unfill returns what stands in the first place of data; width: how many bytes that has, 0 is any number.
// free tells where it does not matter what stands in data.
func (t *template) unfill(data []byte, width int, free func(i int) bool) (value []byte, is bool) {
	found := false
	at := 0
	for i := range t.parts {
		p := &t.parts[i]
		if p.name == "" {
			if len(data)-at < len(p.bytes) {
				return nil, false
			}
			for k, b := range p.bytes {
				if data[at+k] != b && !free(at+k) {
					return nil, false
				}
			}
			at += len(p.bytes)
			continue
		}
		n := len(data) - at
		switch {
		case width > 0:
			n = min(width, n)
		case i == len(t.parts)-2:
			n -= len(t.parts[i+1].bytes)
		case i < len(t.parts)-2:
			n = bytes.Index(data[at:], t.parts[i+1].bytes)
		}
		if n < 0 {
			return nil, false
		}
		if !found {
			value, found = data[at:at+n], true
		}
		at += n
	}
	return value, found && at == len(data)
}

// Wording is text with places for properties: ${name} and ${name:%.1f}, with the escapes of what is sent.
type Wording struct{ t template }

// ParseWording reads a Wording; the places of values are filled at once.
func ParseWording(text string, values map[string]string) (Wording, error) {
	t, err := parseTemplate(text)
	if err == nil {
		t, err = t.bind(values, false)
	}
	return Wording{t}, err
}

// Names returns the names of its places, each once.
func (w *Wording) Names() []string { return w.t.names() }

// Fill returns the text with the values in their places; a property that is not shown is an error.
func (w *Wording) Fill(shown map[string]Shown) ([]byte, error) {
	var failed error
	out := w.t.fill(func(p *part) []byte {
		s, ok := shown[p.name]
		if !ok {
			failed = fmt.Errorf("${%s} is no property", p.name)
			return nil
		}
		text, err := s.Field.Text(s.Value)
		if err == nil {
			text, err = p.format(text)
		}
		if err != nil {
			failed = err
		}
		return []byte(text)
	})
	return out, failed
}
