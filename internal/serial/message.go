package serial

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/telegram"
)

// Message is one frame of an instrument, taken apart as far as fields ask for
// it. It is for one goroutine, and valid as long as its frame is.
type Message struct {
	Data     []byte             // the frame without what makes it one
	At       time.Time          // when it had come
	Telegram *telegram.Telegram // by the profile; nil where that takes nothing apart

	columns   map[string][]string
	pairs     map[string]string
	document  any
	parsed    bool // document was tried
	malformed bool
}

// message makes a Message of a frame. An error means that the frame is damaged,
// or nothing that the profile knows.
func (c *Config) message(f framing.Frame) (*Message, error) {
	m := &Message{Data: f.Data, At: f.At}
	if c.trim {
		m.Data = bytes.TrimSuffix(m.Data, []byte{'\r'})
	}
	if c.decode == nil {
		return m, nil
	}
	t, err := c.decode(f.Raw)
	if err != nil {
		return nil, err
	}
	m.Telegram = &t
	return m, nil
}

// maxParts bounds columns and pairs of a frame.
const maxParts = 1024

// column returns a column of the frame parted by separator.
func (m *Message) column(i int, separator string) (string, bool) {
	parts, ok := m.columns[separator]
	if !ok {
		if separator == " " {
			parts = strings.Fields(string(m.Data))
		} else {
			parts = strings.SplitN(string(m.Data), separator, maxParts)
		}
		if m.columns == nil {
			m.columns = map[string][]string{}
		}
		m.columns[separator] = parts
	}
	if i >= len(parts) {
		return "", false
	}
	return strings.TrimSpace(parts[i]), true
}

// pair returns the value of a name in NAME=VALUE pairs.
func (m *Message) pair(name string) (string, bool) {
	if m.pairs == nil {
		m.pairs = map[string]string{}
		for _, word := range strings.FieldsFunc(string(m.Data), func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\r' || r == '\n' }) {
			i := strings.IndexAny(word, "=:")
			if i <= 0 || len(m.pairs) >= maxParts {
				continue
			}
			if _, twice := m.pairs[word[:i]]; !twice {
				m.pairs[word[:i]] = word[i+1:]
			}
		}
	}
	v, ok := m.pairs[name]
	return v, ok
}

// json returns the frame as a JSON document.
func (m *Message) json() (any, bool) {
	if !m.parsed {
		m.parsed = true
		d := json.NewDecoder(bytes.NewReader(m.Data))
		d.UseNumber()
		err := d.Decode(&m.document)
		if err == nil {
			_, err = d.Token()
		}
		m.malformed = !errors.Is(err, io.EOF)
	}
	return m.document, !m.malformed
}

// pointer returns the scalar at a path of keys and indexes (RFC 6901, already parted).
func (m *Message) pointer(path []string) (string, bool) {
	at, ok := m.json()
	if !ok {
		return "", false
	}
	for _, key := range path {
		switch here := at.(type) {
		case map[string]any:
			if at, ok = here[key]; !ok {
				return "", false
			}
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(here) {
				return "", false
			}
			at = here[i]
		default:
			return "", false
		}
	}
	switch v := at.(type) {
	case json.Number:
		return v.String(), true
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// parsePointer parts an RFC 6901 pointer.
func parsePointer(text string) ([]string, bool) {
	if text == "" {
		return nil, true
	}
	if text[0] != '/' {
		return nil, false
	}
	parts := strings.Split(text[1:], "/")
	for i, p := range parts {
		if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(p), "~") {
			return nil, false
		}
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts, true
}
