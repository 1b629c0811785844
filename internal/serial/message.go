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
// it. It is for one goroutine, and valid as long as its frame is; the values that were read from it stay.
type Message struct {
	Data     []byte             // the frame without what makes it one
	At       time.Time          // when it had come
	Telegram *telegram.Telegram // by the profile; nil where that takes nothing apart

	held      telegram.Telegram // what Telegram points to
	whole     string            // Data, once somebody asked
	columns   []row
	pairs     []pair // once paired
	paired    bool
	document  any
	parsed    bool // document was tried
	malformed bool
}

// row is a frame's parts between separators.
type row struct {
	separator string
	parts     []string
}

// pair is NAME=VALUE.
type pair struct{ name, value string }

// read makes m the Message of a frame. An error means that the frame is damaged,
// or nothing that the profile knows.
func (m *Message) read(c *Config, f framing.Frame) error {
	*m = Message{Data: f.Data, At: f.At, columns: m.columns[:0], pairs: m.pairs[:0]}
	if c.trim {
		m.Data = bytes.TrimSuffix(m.Data, []byte{'\r'})
	}
	if c.decode == nil {
		return nil
	}
	t, err := c.decode(f.Raw)
	if err != nil {
		return err
	}
	m.held, m.Telegram = t, &m.held
	return nil
}

// message returns the Message of a frame, which is its own.
func (c *Config) message(f framing.Frame) (*Message, error) {
	m := &Message{}
	if err := m.read(c, f); err != nil {
		return nil, err
	}
	return m, nil
}

// clone returns a message that outlives its frame.
func (m *Message) clone() *Message {
	out := &Message{Data: bytes.Clone(m.Data), At: m.At}
	if m.Telegram != nil {
		out.held, out.Telegram = *m.Telegram, &out.held
	}
	return out
}

// text returns Data.
func (m *Message) text() string {
	if m.whole == "" {
		m.whole = string(m.Data)
	}
	return m.whole
}

// maxParts bounds columns and pairs of a frame.
const maxParts = 1024

// column returns a column of the frame parted by separator.
func (m *Message) column(i int, separator string) (string, bool) {
	parts := m.parted(separator)
	if i >= len(parts) {
		return "", false
	}
	return strings.TrimSpace(parts[i]), true
}

func (m *Message) parted(separator string) []string {
	for i := range m.columns {
		if m.columns[i].separator == separator {
			return m.columns[i].parts
		}
	}
	var parts []string
	if separator == " " {
		parts = strings.Fields(m.text())
	} else {
		parts = strings.SplitN(m.text(), separator, maxParts)
	}
	m.columns = append(m.columns, row{separator, parts})
	return parts
}

// pair returns the value of a name in NAME=VALUE pairs: the first of that name.
func (m *Message) pair(name string) (string, bool) {
	if !m.paired {
		m.paired = true
		m.findPairs()
	}
	for i := range m.pairs {
		if m.pairs[i].name == name {
			return m.pairs[i].value, true
		}
	}
	return "", false
}

// findPairs finds NAME=VALUE and NAME:VALUE between spaces, commas, semicolons and line ends.
func (m *Message) findPairs() {
	text := m.text()
	from, mark := 0, -1
	for i := 0; i <= len(text) && len(m.pairs) < maxParts; i++ {
		if i < len(text) && !parts(text[i]) {
			if mark < 0 && (text[i] == '=' || text[i] == ':') {
				mark = i
			}
			continue
		}
		if mark > from {
			m.pairs = append(m.pairs, pair{text[from:mark], text[mark+1 : i]})
		}
		from, mark = i+1, -1
	}
}

// parts reports whether a byte stands between pairs.
func parts(c byte) bool {
	switch c {
	case ',', ';', ' ', '\t', '\r', '\n':
		return true
	}
	return false
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
