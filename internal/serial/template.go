package serial

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// template is what is to be sent, with places for values: ${name}, or
// ${name:%06.2f} with a format for numbers.
type template struct {
	parts []part
}

// part is bytes, or a place.
type part struct {
	bytes []byte
	name  string // of a place
	verb  string // its format, "" for the text as it is
}

// maxSend bounds what is sent at once, before its framing.
const maxSend = 1024

// parseTemplate reads text with C's escapes (\r, \n, \t, \0, \xHH, \\, \$) and places.
func parseTemplate(text string) (template, error) {
	var t template
	var literal []byte
	flush := func() {
		if len(literal) > 0 {
			t.parts = append(t.parts, part{bytes: literal})
			literal = nil
		}
	}
	for rest := text; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "${"):
			inside, after, ok := strings.Cut(rest[2:], "}")
			if !ok {
				return t, fmt.Errorf("%.40q is not closed with }", rest)
			}
			p, err := parsePlace(inside)
			if err != nil {
				return t, err
			}
			flush()
			t.parts = append(t.parts, p)
			rest = after
		case rest[0] == '\\':
			b, n, err := unescape(rest)
			if err != nil {
				return t, err
			}
			literal = append(literal, b)
			rest = rest[n:]
		default:
			literal = append(literal, rest[0])
			rest = rest[1:]
		}
	}
	flush()
	if n := t.size(); n > maxSend {
		return t, fmt.Errorf("it has %d bytes, at most %d are sent at once", n, maxSend)
	}
	return t, nil
}

// unescape reads the escape that text begins with, and says how long it is.
func unescape(text string) (b byte, n int, err error) {
	if len(text) < 2 {
		return 0, 0, fmt.Errorf(`it ends with a single \; write \\ for one`)
	}
	if text[1] == 'x' {
		if len(text) >= 4 {
			if v, err := strconv.ParseUint(text[2:4], 16, 8); err == nil {
				return byte(v), 4, nil
			}
		}
		return 0, 0, fmt.Errorf(`%.4q is not \x with two hexadecimal digits`, text)
	}
	const names, values = `rnt0\$"`, "\r\n\t\x00\\$\""
	if i := strings.IndexByte(names, text[1]); i >= 0 {
		return values[i], 2, nil
	}
	return 0, 0, fmt.Errorf(`unknown escape %.2q; known are \r \n \t \0 \xHH \\ \$`, text)
}

// unescapeAll reads text with escapes and without places.
func unescapeAll(text string) ([]byte, error) {
	t, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	if names := t.names(); len(names) > 0 {
		return nil, fmt.Errorf("${%s} stands where only bytes can", names[0])
	}
	return t.fill(nil), nil
}

// parseHex reads hexadecimal digits, in pairs, with spaces as they please, and places between.
func parseHex(text string) (template, error) {
	var t template
	for rest := text; ; {
		before, after, ok := strings.Cut(rest, "${")
		b, err := hex.DecodeString(strings.Join(strings.Fields(before), ""))
		if err != nil {
			return t, fmt.Errorf("%.40q are not pairs of hexadecimal digits", before)
		}
		if len(b) > 0 {
			t.parts = append(t.parts, part{bytes: b})
		}
		if !ok {
			break
		}
		inside, tail, closed := strings.Cut(after, "}")
		if !closed {
			return t, fmt.Errorf("%.40q is not closed with }", "${"+after)
		}
		p, err := parsePlace(inside)
		if err != nil {
			return t, err
		}
		t.parts = append(t.parts, p)
		rest = tail
	}
	if n := t.size(); n > maxSend {
		return t, fmt.Errorf("it has %d bytes, at most %d are sent at once", n, maxSend)
	}
	return t, nil
}

// parsePlace reads what stands between ${ and }.
func parsePlace(inside string) (part, error) {
	name, verb, formatted := strings.Cut(inside, ":")
	if !regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,63}$`).MatchString(name) {
		return part{}, fmt.Errorf("${%.40s}: %.40q is not a name; use letters, digits, _ and -", inside, name)
	}
	if formatted && !regexp.MustCompile(`^%[-+ 0]*[0-9]{0,2}(\.[0-9]{1,2})?[dfxXs]$`).MatchString(verb) {
		return part{}, fmt.Errorf("${%.40s}: %.40q is not a format; use such as %%d, %%05d, %%.2f, %%+08.3f, %%x or %%s", inside, verb)
	}
	return part{name: name, verb: verb}, nil
}

func (t *template) size() (n int) {
	for i := range t.parts {
		n += len(t.parts[i].bytes)
	}
	return n
}

// empty reports whether nothing would be sent.
func (t *template) empty() bool { return len(t.parts) == 0 }

// names are the places, each once.
func (t *template) names() []string {
	var names []string
	for _, p := range t.parts {
		if p.name != "" && !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	return names
}

// fill returns the bytes with the places filled by get, which has no name for what it returns nil of.
func (t *template) fill(get func(p *part) []byte) []byte {
	var out []byte
	for i := range t.parts {
		if p := &t.parts[i]; p.name != "" {
			out = append(out, get(p)...)
		} else {
			out = append(out, p.bytes...)
		}
	}
	return out
}

// bind fills the places of known values and leaves the others open. In a template of hexadecimal digits the values are too.
func (t *template) bind(values map[string]string, inHex bool) (template, error) {
	var out template
	for _, p := range t.parts {
		v, ok := values[p.name]
		if p.name == "" || !ok {
			out.parts = append(out.parts, p)
			continue
		}
		text, err := p.format(v)
		if err != nil {
			return out, err
		}
		b := []byte(text)
		if inHex {
			if b, err = hex.DecodeString(text); err != nil {
				return out, fmt.Errorf("${%s} is %.40q, which are not pairs of hexadecimal digits", p.name, text)
			}
		}
		out.parts = append(out.parts, part{bytes: b})
	}
	return out, nil
}

// format returns text as the place's format wants it: %d and %x take integers, %f any number.
func (p *part) format(text string) (string, error) {
	if p.verb == "" {
		return text, nil
	}
	switch p.verb[len(p.verb)-1] {
	case 's':
		return fmt.Sprintf(p.verb, text), nil
	case 'f':
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return "", fmt.Errorf("${%s:%s}: %.40q is not a number", p.name, p.verb, text)
		}
		return fmt.Sprintf(p.verb, x), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return fmt.Sprintf(p.verb, n), nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return "", fmt.Errorf("${%s:%s}: %.40q is not an integer", p.name, p.verb, text)
	}
	return fmt.Sprintf(p.verb, n), nil
}
