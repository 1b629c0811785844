package identify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/twin"
)

// text is bytes parted into lines.
type text struct {
	lines     []string // without their ends, none empty
	delimiter string   // "\n" or "\r"
	end       string   // for people: "CR LF"
	rest      int      // bytes behind the last end
	printable float64
}

// maxLine bounds a line: framing.DefaultMax is what a Device takes without more words.
const maxLine = 4096

// split parts bytes into lines; none where they are no text.
func split(b []byte) text {
	t := text{delimiter: "\n", end: "LF"}
	feeds := bytes.Count(b, []byte("\n"))
	switch {
	case feeds == 0:
		t.delimiter, t.end = "\r", "CR"
	case bytes.Count(b, []byte("\r\n")) == feeds:
		t.end = "CR LF"
	}
	parts := strings.Split(string(b), t.delimiter)
	t.rest = len(parts[len(parts)-1])
	size, good := 0, 0
	for _, line := range parts[:len(parts)-1] {
		line = strings.Trim(line, "\r\x00")
		if len(line) > maxLine {
			return text{}
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		size += len(line)
		good += printable(line)
		t.lines = append(t.lines, line)
	}
	t.printable = float64(good) / float64(max(size, 1))
	return t
}

// printable counts the bytes of a line that are text, UTF-8 included.
func printable(line string) (n int) {
	for _, r := range line {
		if r >= ' ' && r != 0x7f && r != utf8.RuneError || r == '\t' {
			n += utf8.RuneLen(r)
		}
	}
	return n
}

// tally says which lines pass a test; the first that does not is excused, hearing may have begun in it.
func (t *text) tally(test func(line string) bool) (good []string, bad int, cut bool) {
	for i, line := range t.lines {
		switch {
		case test(line):
			good = append(good, line)
		case i == 0:
			cut = true
		default:
			bad++
		}
	}
	return good, bad, cut
}

// candidate is a Candidate of which good are the lines.
func (t *text) candidate(what, reason string, best int, good []string, bad int, cut bool) (Candidate, bool) {
	if len(good) == 0 || len(good) < bad {
		return Candidate{}, false
	}
	c := Candidate{
		What: what, Frames: len(good), Damaged: bad, Config: t.config(), Score: score(best, len(good), bad, 1),
		Reason: fmt.Sprintf("%d of %s, ended by %s, %s", len(good), count(len(good)+bad, "line"), t.end, reason),
	}
	if cut {
		c.Damaged++
		c.Reason += "; the first, which is otherwise, may have begun before"
	}
	return c, true
}

// config declares the lines; those that a line feed ends are the default.
func (t *text) config() map[string]any {
	if t.delimiter == "\n" {
		return map[string]any{}
	}
	return map[string]any{"framing": map[string]any{"kind": "delimiter", "delimiter": `\r`}}
}

// maxLooked bounds the lines of which the values are looked at.
const maxLooked = 64

func looked(lines []string) []string { return lines[:min(len(lines), maxLooked)] }

// documents tries lines of JSON.
func (t *text) documents([]serial.Chunk) (Candidate, bool) {
	good, bad, cut := t.tally(func(line string) bool {
		line = strings.TrimSpace(line)
		return (line[0] == '{' || line[0] == '[') && json.Valid([]byte(line))
	})
	c, ok := t.candidate("lines of JSON", verb(len(good), "is JSON", "are JSON"), 94, good, bad, cut)
	if !ok {
		return c, false
	}
	f := &fieldSet{at: map[string]int{}}
	for _, line := range looked(good) {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil && err != io.EOF {
			continue // it was valid
		}
		f.flatten(v, "", "")
	}
	c.Fields = f.list
	return c, true
}

func verb(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// fieldSet collects fields, each name once.
type fieldSet struct {
	list []Field
	at   map[string]int
}

// field returns the field of a name, nil where there are too many; visitor is what is declared for it when it is new.
func (s *fieldSet) field(name string, visitor map[string]any) *Field {
	i, known := s.at[name]
	if !known {
		if i = len(s.list); i == maxFields {
			return nil
		}
		s.at[name] = i
		s.list = append(s.list, Field{Name: name, Visitor: visitor})
	}
	return &s.list[i]
}

// see notes a good value of a field.
func (s *fieldSet) see(name, text, unit string, visitor map[string]any) {
	if f := s.field(name, visitor); f != nil {
		f.see(text, unit, "")
	}
}

// flatten notes all scalars of a document.
func (s *fieldSet) flatten(v any, name, pointer string) {
	below := func(key string) (string, string) {
		escaped := strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		return strings.TrimPrefix(name+"."+key, "."), pointer + "/" + escaped
	}
	visitor := map[string]any{"pointer": pointer}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			n, p := below(key)
			s.flatten(v[key], n, p)
		}
	case []any:
		for i, item := range v {
			n, p := below(strconv.Itoa(i))
			s.flatten(item, n, p)
		}
	case json.Number:
		s.see(name, v.String(), "", visitor)
	case bool:
		s.see(name, strconv.FormatBool(v), "", visitor)
	case string:
		s.see(name, v, "", visitor)
		if i, is := s.at[name]; is {
			s.list[i].Type = twin.TypeString // also where it looks like a number
		}
	}
}

// pair is a name and what stands behind it.
type pair struct{ name, raw, text, unit string }

// pairsOf reads NAME=VALUE or NAME: VALUE pairs; nil where a line has something else as well.
func pairsOf(line string, names *regexp.Regexp) []pair {
	at := names.FindAllStringSubmatchIndex(line, -1)
	if len(at) == 0 || strings.Trim(line[:at[0][2]], " \t,;") != "" {
		return nil
	}
	list := make([]pair, len(at))
	for i, m := range at {
		end := len(line)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		p := pair{name: line[m[2]:m[3]], raw: strings.TrimRight(line[m[1]:end], " \t,;")}
		p.text = strings.TrimSpace(p.raw)
		if p.text == "" || strings.ContainsAny(p.text, ",;") || strings.Count(p.text, " ") > 2 {
			return nil
		}
		if value, unit, ok := measure(p.text); ok {
			p.text, p.unit = value, unit
		}
		list[i] = p
	}
	return list
}

// visitor declares the value of a pair.
func (p *pair) visitor() map[string]any {
	if p.unit == "" && !strings.ContainsAny(p.raw, " \t") {
		return map[string]any{"name": p.name}
	}
	value := `([^,;]*)`
	if p.unit != "" || decimal(p.text) {
		value = numberPattern
	}
	return map[string]any{"regex": `(?:^|[\s,;])` + regexp.QuoteMeta(p.name) + `\s*[=:]\s*` + value}
}

// pairs tries lines of NAME=VALUE.
func (t *text) pairs([]serial.Chunk) (Candidate, bool) {
	names := regexp.MustCompile(`(?:^|[\s,;])([A-Za-z_][\w.#/-]*)\s*[=:]`)
	good, bad, cut := t.tally(func(line string) bool { return pairsOf(line, names) != nil })
	c, ok := t.candidate("lines of NAME=VALUE", verb(len(good), "is such pairs", "are such pairs"), 88, good, bad, cut)
	if !ok {
		return c, false
	}
	f := &fieldSet{at: map[string]int{}}
	for _, line := range looked(good) {
		for _, p := range pairsOf(line, names) {
			f.see(p.name, p.text, p.unit, p.visitor())
		}
	}
	c.Fields = f.list
	c.prefer("keyvalue", t)
	return c, true
}

// prefer declares lines by a profile that stands for such ones.
func (c *Candidate) prefer(profile string, t *text) {
	if t.delimiter == "\n" && slices.Contains(serial.ProfileNames(), profile) {
		c.Config = map[string]any{"profile": profile}
	}
}

// plain takes what can be read for lines of text.
func (t *text) plain([]serial.Chunk) (Candidate, bool) {
	size := 0
	for _, line := range t.lines {
		size += len(line)
	}
	if t.printable < 0.9 || size == 0 {
		return Candidate{}, false
	}
	best := 70
	if len(t.lines) < 3 || size < 32 {
		best = 55
	}
	best = int(float64(best) * t.printable * t.printable)
	what, reason := "lines of text", fmt.Sprintf("of which %.0f %% of the bytes are printable", 100*t.printable)
	f, alone := t.single()
	if alone {
		what, reason = "lines of one number", verb(len(t.lines), "is a number", "are numbers")+", alone or with a unit"
		if best = 60; len(t.lines) >= 3 {
			best = 76
		}
	}
	if len(f.list) == 0 {
		f.see("line", t.lines[len(t.lines)-1], "", map[string]any{"regex": `^(.*)$`})
		f.list[0].Type = twin.TypeString
	}
	c, ok := t.candidate(what, reason, best, t.lines, 0, false)
	c.Fields = f.list
	return c, ok
}

// single returns the number of lines that have one each, and whether nothing stands before it.
func (t *text) single() (f *fieldSet, alone bool) {
	f, alone = &fieldSet{at: map[string]int{}}, true
	one := regexp.MustCompile(`^([^0-9+-]*)([-+]?\s*[0-9]*\.?[0-9]+)\s*([^0-9]*)$`)
	for _, line := range looked(t.lines) {
		m := one.FindStringSubmatch(line)
		if m == nil {
			return &fieldSet{at: map[string]int{}}, false
		}
		unit := strings.TrimSpace(m[3])
		if strings.TrimSpace(m[1]) != "" || len(unit) > maxUnit {
			alone = false
		}
		if len(unit) > maxUnit {
			unit = ""
		}
		f.see("value", strings.TrimSpace(m[2]), unit, map[string]any{"regex": numberPattern})
	}
	return f, alone
}
