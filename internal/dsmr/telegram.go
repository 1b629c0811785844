package dsmr

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twinline/twinline/internal/checksum"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// Codes that say something of the telegram itself.
const (
	codeTime    = "0-0:1.0.0"
	codeNumber  = "0-0:96.1.1"
	codeVersion = "1-3:0.2.8"  // since DSMR 4
	codeBelgian = "0-0:96.1.4" // the version of e-MUCS P1
)

// Decode takes apart one telegram, from "/" to the CRC behind "!" and the line
// end. raw is not kept. Errors wrap ErrChecksum, ErrEncrypted or ErrFormat; there is no telegram then, not even a part of one.
func Decode(raw []byte) (telegram.Telegram, error) {
	t, err := decode(raw)
	if err != nil {
		return telegram.Telegram{}, fmt.Errorf("P1 telegram: %w", err)
	}
	return t, nil
}

func decode(raw []byte) (telegram.Telegram, error) {
	switch {
	case len(raw) > MaxTelegram:
		return telegram.Telegram{}, fmt.Errorf("%w: %d bytes are more than %d", ErrFormat, len(raw), MaxTelegram)
	case len(raw) > 0 && raw[0] == 0xDB: // general-glo-ciphering, IEC 62056-5-3
		return telegram.Telegram{}, ErrEncrypted
	case len(raw) == 0 || raw[0] != '/':
		return telegram.Telegram{}, fmt.Errorf("%w: it does not begin with \"/\"", ErrFormat)
	}
	body, sum, err := split(raw)
	if err != nil {
		return telegram.Telegram{}, err
	}
	ident, rest, _ := strings.Cut(string(body[1:]), "\n")
	ident = strings.TrimSuffix(ident, "\r")
	if !printable(ident) {
		return telegram.Telegram{}, fmt.Errorf("%w: the identification is not printable", ErrFormat)
	}
	r := reader{taken: map[string]bool{}}
	r.t.Sender = ident
	if err := r.lines(rest); err != nil {
		return telegram.Telegram{}, err
	}
	if sum == "" && r.checked {
		return telegram.Telegram{}, fmt.Errorf("%w: none, and this version has one", ErrChecksum)
	}
	return r.t, nil
}

// split returns what stands before "!", and the CRC behind it if there is one,
// which is right then: CRC-16/ARC from "/" to "!", most significant digit first
// (P1 Companion Standard 5.0.2, section 6.2).
func split(raw []byte) (body []byte, sum string, err error) {
	end := bytes.Index(raw, []byte("\n!"))
	if end < 0 {
		return nil, "", fmt.Errorf("%w: no \"!\" at the end", ErrFormat)
	}
	end++
	switch sum = string(raw[end+1:]); sum {
	case "":
		return nil, "", fmt.Errorf("%w: it ends with \"!\"", ErrChecksum)
	case "\r\n", "\n": // DSMR 2 and 3 have none
		return raw[:end], "", nil
	}
	sum = strings.TrimSuffix(strings.TrimSuffix(sum, "\n"), "\r")
	want, err := strconv.ParseUint(sum, 16, 16)
	if err != nil || len(sum) != 4 {
		return nil, "", fmt.Errorf("%w: %s is none", ErrChecksum, quoted(sum))
	}
	crc, ok := checksum.Find("crc-16/arc")
	if !ok {
		return nil, "", fmt.Errorf("%w: this program has no CRC-16/ARC", ErrChecksum)
	}
	if got := crc.Sum(raw[:end+1]); got != want {
		return nil, "", fmt.Errorf("%w: %04X and not %04X", ErrChecksum, want, got)
	}
	return raw[:end], sum, nil
}

// reader collects the fields of one telegram.
type reader struct {
	t       telegram.Telegram
	taken   map[string]bool
	checked bool // it is of a version that has a CRC
}

// lines reads the lines behind the identification. One that begins with "("
// goes on with the code of the line before.
func (r *reader) lines(rest string) error {
	var code string
	var groups []string
	for number := 2; rest != ""; number++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			continue
		}
		name, more, err := parse(line)
		if err == nil && name == "" && code == "" {
			err = fmt.Errorf("%w: %s has no code", ErrFormat, quoted(line))
		}
		if err == nil && name != "" {
			err = r.add(code, groups)
			code, groups = name, groups[:0]
		}
		if groups = append(groups, more...); err == nil && len(groups) > telegram.MaxFields {
			err = fmt.Errorf("%w: more than %d values", ErrFormat, telegram.MaxFields)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return r.add(code, groups)
}

// parse takes one line apart.
func parse(line string) (code string, groups []string, err error) {
	if len(line) > maxLine {
		return "", nil, fmt.Errorf("%w: more than %d characters", ErrFormat, maxLine)
	}
	if !printable(line) {
		return "", nil, fmt.Errorf("%w: %s is not printable", ErrFormat, quoted(line))
	}
	code, rest, ok := strings.Cut(line, "(")
	if !ok || strings.ContainsAny(code, " )#@") {
		return "", nil, fmt.Errorf("%w: %s is no OBIS code with a value", ErrFormat, quoted(line))
	}
	for {
		group, more, ok := strings.Cut(rest, ")")
		if !ok || strings.Contains(group, "(") {
			return "", nil, fmt.Errorf("%w: %s has no end", ErrFormat, quoted(line))
		}
		groups = append(groups, group)
		if more == "" {
			return code, groups, nil
		}
		if rest, ok = strings.CutPrefix(more, "("); !ok {
			return "", nil, fmt.Errorf("%w: %s between values", ErrFormat, quoted(more))
		}
	}
}

// add makes fields of the groups of a code; see the package's comment for their names.
func (r *reader) add(code string, groups []string) error {
	if code == "" {
		return nil
	}
	if len(r.t.Fields)+len(groups) > telegram.MaxFields {
		return fmt.Errorf("%w: more than %d values", ErrFormat, telegram.MaxFields)
	}
	r.checked = r.checked || code == codeVersion || code == codeBelgian
	switch {
	case strings.HasSuffix(code, ":24.3.0") && len(groups) == 7 && (stamp(groups[0]) || stamp(groups[0]+"W")):
		r.reading(code, groups[0], telegram.Field{Text: groups[6], Unit: groups[5]})
		for i, group := range groups[1:6] {
			f := value(group)
			f.Name = r.free(code + "#" + strconv.Itoa(i+2))
			r.t.Fields = append(r.t.Fields, f)
		}
		return nil
	case len(groups) == 2 && stamp(groups[0]):
		r.reading(code, groups[0], value(groups[1]))
		return nil
	}
	for i, group := range groups {
		f := value(group)
		if hexadecimal(code) {
			f = telegram.Field{Text: text(group)}
		}
		f.Name = code
		if i > 0 {
			f.Name += "#" + strconv.Itoa(i+1)
		}
		if code == codeTime && i == 0 {
			f = r.clock(f)
		}
		if code == codeNumber && i == 0 && f.Text != "" {
			r.t.Sender = f.Text
		}
		f.Name = r.free(f.Name)
		r.t.Fields = append(r.t.Fields, f)
	}
	return nil
}

// reading adds a reading and the time it was taken.
func (r *reader) reading(code, at string, f telegram.Field) {
	taken := telegram.Field{Name: r.free(code + "@time"), Text: at}
	f.Name = r.free(code)
	if len(at) == len(layout) { // DSMR 2 and 3 do not say whether it is summer
		at += "W"
	}
	if _, ok := instant(at); !ok {
		taken.Quality, f.Quality = twin.Bad("time"), twin.Bad("time")
	}
	r.t.Fields = append(r.t.Fields, f, taken)
}

// clock takes the meter's own time.
func (r *reader) clock(f telegram.Field) telegram.Field {
	at, ok := instant(f.Text)
	if !ok {
		f.Quality = twin.Bad("time")
	}
	if r.t.Time.IsZero() {
		r.t.Time = at
	}
	return f
}

// free returns a name that no field has yet, and takes it.
func (r *reader) free(name string) string {
	unique := name
	for n := 2; r.taken[unique]; n++ {
		unique = name + "#" + strconv.Itoa(n)
	}
	r.taken[unique] = true
	return unique
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c >= 0x7F {
			return false
		}
	}
	return true
}

// value splits a group into value and unit.
func value(group string) telegram.Field {
	text, unit, _ := strings.Cut(group, "*")
	return telegram.Field{Text: text, Unit: unit}
}

// layout is YYMMDDhhmmss of P1 Companion Standard 5.0.2, section 6.4.
const layout = "060102150405"

// stamp reports whether a group has the form of a time: twelve digits and W or S.
func stamp(s string) bool {
	if len(s) != len(layout)+1 || s[12] != 'W' && s[12] != 'S' {
		return false
	}
	for _, c := range []byte(s[:12]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// instant reads a time. W is UTC+1 and S is UTC+2, in all countries that have P1.
func instant(s string) (time.Time, bool) {
	if !stamp(s) {
		return time.Time{}, false
	}
	ahead := time.Hour
	if s[12] == 'S' {
		ahead = 2 * time.Hour
	}
	at, err := time.Parse(layout, s[:12])
	if err != nil {
		return time.Time{}, false
	}
	if at.Year() < 2000 { // two digits from 69 are of the last century for package time
		at = at.AddDate(100, 0, 0)
	}
	return at.Add(-ahead), true
}

// hexadecimal reports whether a code has text in hexadecimal digits.
func hexadecimal(code string) bool {
	_, code, _ = strings.Cut(code, ":")
	switch code {
	case "96.1.0", "96.1.1", "96.1.2", "96.13.0", "96.13.1", "42.0.0":
		return true
	}
	return false
}

// text decodes hexadecimal digits if they are printable text, and else returns
// them. Blanks around the text, with which Kamstrup fills numbers up, are taken off.
func text(digits string) string {
	b, err := hex.DecodeString(digits)
	if err != nil || !utf8.Valid(b) {
		return digits
	}
	s := string(b)
	if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) && c != '\n' && c != '\r' && c != '\t' }) {
		return digits
	}
	return strings.Trim(s, " ")
}

// quoted is a piece of a telegram, short enough for an error.
func quoted(s string) string {
	const enough = 40
	if len(s) > enough {
		s = s[:enough] + "…"
	}
	return strconv.Quote(s)
}
