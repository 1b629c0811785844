package framing

import (
	"bytes"
	"fmt"
	"slices"
)

// Problem is one thing that is wrong with a Config.
type Problem struct {
	Key    string // the setting: the name of the field in lower camel case, "escape.mode", "check.at"
	What   string // what is wrong with it, to go on after the key: "is missing"
	Remedy string // what to do
}

// Problems returns every setting that is wrong or goes with nothing, in the order of
// the fields. A Scanner of such a Config finds no frames.
func (c *Config) Problems() []Problem {
	if !slices.Contains([]Kind{Delimiter, Between, Fixed, Length, Silence}, c.Kind) {
		return []Problem{{"kind", fmt.Sprintf("is unknown: %q", c.Kind), "use delimiter, between, fixed, length or silence"}}
	}
	list := append(c.unused(), c.ofKind()...)
	list = append(list, c.ofEscape()...)
	if c.Gap < 0 {
		list = append(list, Problem{"gap", "is negative", "use a duration such as 50ms, or leave it out"})
	}
	if c.Check != nil {
		of := c.Check.problems()
		if len(of) == 0 {
			of = c.ofPlace()
		}
		list = append(list, of...)
	}
	if len(list) == 0 {
		list = c.ofMax()
	}
	return list
}

// unused returns the settings that the kind knows nothing of.
func (c *Config) unused() []Problem {
	terms, sized := []Kind{Delimiter, Between}, []Kind{Fixed, Length}
	var list []Problem
	for _, s := range []struct {
		key   string
		given bool
		kinds []Kind
	}{
		{"delimiter", len(c.Delimiter) > 0, []Kind{Delimiter}},
		{"start", len(c.Start) > 0, slices.Concat(terms, sized)},
		{"end", len(c.End) > 0, append([]Kind{Between}, sized...)},
		{"restart", c.Restart, terms},
		{"after", c.After != 0, terms},
		{"afterDelimiter", len(c.AfterDelimiter) > 0, []Kind{Between}},
		{"escape.mode", c.Escape.Mode != None || len(c.Escape.With) > 0, terms},
		{"size", c.Size != 0, []Kind{Fixed}},
		{"offset", c.Offset != 0, []Kind{Length}},
		{"width", c.Width != 0, []Kind{Length}},
		{"little", c.Little, []Kind{Length}},
		{"adjust", c.Adjust != 0, []Kind{Length}},
	} {
		if s.given && !slices.Contains(s.kinds, c.Kind) {
			list = append(list, Problem{s.key, fmt.Sprintf("means nothing for frames of kind %s", c.Kind), "leave it out, or use another kind"})
		}
	}
	return list
}

// ofKind returns what the kind lacks.
func (c *Config) ofKind() []Problem {
	var list []Problem
	missing := func(key, remedy string, is bool) {
		if is {
			list = append(list, Problem{key, "is missing", remedy})
		}
	}
	switch c.Kind {
	case Delimiter:
		missing("delimiter", `give the bytes that end a frame, for example "\r\n"`, len(c.Delimiter) == 0)
	case Between:
		missing("start", "give the bytes that a frame begins with", len(c.Start) == 0)
		missing("end", "give the bytes that a frame ends with", len(c.End) == 0)
		if len(c.AfterDelimiter) > 0 && c.After < len(c.AfterDelimiter) {
			list = append(list, Problem{"after", "has no room for afterDelimiter", "give the most bytes that may stand behind end, afterDelimiter included"})
		}
	case Fixed:
		missing("size", "give the number of bytes of a frame", c.Size == 0)
		if c.Size > 0 && c.Size < len(c.Start)+len(c.End) {
			list = append(list, Problem{"size", "has no room for start and end", "give the number of bytes of a frame, all included"})
		}
	case Length:
		missing("width", "give the number of bytes of the field with the length: 1 to 4", c.Width == 0)
	case Silence:
		missing("gap", "give the silence that ends a frame, for example 50ms", c.Gap == 0)
	}
	if term := c.term(); len(term) > 0 && bytes.Equal(term, c.Start) {
		list = append(list, Problem{"start", "is the same as what ends a frame", "use kind delimiter without start"})
	}
	if (c.Kind == Fixed || c.Kind == Length) && len(c.Start) == 0 && c.Check == nil && c.Gap == 0 {
		list = append(list, Problem{"start", "is missing, and nothing else shows where a frame begins", "give start, check or gap"})
	}
	if c.Restart && (len(c.Start) == 0 || c.Escape.Mode != None || c.Check != nil) {
		list = append(list, Problem{"restart", "needs start, and neither escape nor check", "leave it out"})
	}
	for _, s := range []struct {
		key  string
		n    int
		from int
		to   int
	}{
		{"after", c.After, 0, MaxFrame},
		{"size", c.Size, 0, MaxFrame},
		{"offset", c.Offset, 0, MaxFrame},
		{"width", c.Width, 0, 4},
		{"adjust", c.Adjust, -MaxFrame, MaxFrame},
	} {
		if s.n < s.from || s.n > s.to {
			list = append(list, Problem{s.key, "is out of range", fmt.Sprintf("use %d to %d", s.from, s.to)})
		}
	}
	return list
}

func (c *Config) ofEscape() []Problem {
	term := c.term()
	if len(term) == 0 {
		return nil // said already
	}
	with := c.Escape.With
	needs := func(end byte) []Problem {
		var list []Problem
		if !bytes.Equal(term, []byte{end}) {
			list = append(list, Problem{"escape.mode", fmt.Sprintf("%s hides %02X only", c.Escape.Mode, end), fmt.Sprintf("let frames end with %02X", end)})
		}
		if len(with) > 0 {
			list = append(list, Problem{"escape.with", "is given by the mode", "leave it out"})
		}
		return list
	}
	switch c.Escape.Mode {
	case None:
		if len(with) > 0 {
			return []Problem{{"escape.mode", "is missing", "use double, prefix, slip or hdlc, or leave escape out"}}
		}
	case SLIP:
		return needs(slipEnd)
	case HDLC:
		return needs(hdlcFlag)
	case Prefix:
		if len(with) != 1 {
			return []Problem{{"escape.with", "is not one byte", "give the byte that stands before an escaped one"}}
		}
		if bytes.Contains(term, with) {
			return []Problem{{"escape.with", "is in what ends a frame", "use mode double"}}
		}
	case Double:
		return c.ofDouble()
	default:
		return []Problem{{"escape.mode", "is unknown: " + string(c.Escape.Mode), "use double, prefix, slip or hdlc"}}
	}
	return nil
}

// ofDouble makes sure that what follows an escape sequence tells at once what it is.
func (c *Config) ofDouble() []Problem {
	with, term := c.Escape.With, c.term()
	if len(with) == 0 || bytes.Count(with, with[:1]) != len(with) {
		return []Problem{{"escape.with", "is not one byte, or one byte repeated", "give what is doubled in a payload, for example 10"}}
	}
	clear := func(seq []byte) bool { return len(seq) > len(with) && seq[len(with)] != with[0] }
	if !bytes.HasPrefix(term, with) || !clear(term) {
		return []Problem{{"escape.with", "is not what the end of a frame begins with", "let end or delimiter be escape.with and another byte"}}
	}
	if bytes.HasPrefix(c.Start, with) {
		if !clear(c.Start) || bytes.HasPrefix(c.Start, term) || bytes.HasPrefix(term, c.Start) {
			return []Problem{{"start", "cannot be told from the end of a frame or from a doubled escape", "let start be escape.with and another byte than the end has"}}
		}
	}
	return nil
}

// ofPlace says where a check cannot stand.
func (c *Config) ofPlace() []Problem {
	k, term := c.Check, c.term()
	size := k.size()
	at := func(what, remedy string) []Problem { return []Problem{{"check.at", what, remedy}} }
	if k.At < 0 {
		from := -k.At // the end
		switch {
		case from < size:
			return at("leaves no room for the check before the end of the frame", fmt.Sprintf("use %d", -size))
		case len(term) == 0:
		case from > c.After && len(c.AfterDelimiter) > 0:
			return at("may be anywhere, for what stands behind end has no fixed length", "place it behind end, or from the start of the frame")
		case from > c.After && from < c.After+len(term)+size:
			return at("lets the check overlap what ends the frame", fmt.Sprintf("use %d, or set after", -(c.After+len(term)+size)))
		case from <= c.After && from < size+len(c.AfterDelimiter):
			return at("lets the check overlap afterDelimiter", fmt.Sprintf("use %d", -(size+len(c.AfterDelimiter))))
		}
	} else if len(term) > 0 && k.At < len(c.Start)+len(k.Mark) {
		return at("lets the check overlap start", fmt.Sprintf("use %d", len(c.Start)+len(k.Mark)))
	}
	if _, ok := k.in(c.Size); c.Kind == Fixed && !ok {
		return at("and what it covers do not fit into size", "count from 0, or from the end with negative numbers")
	}
	if k.To != 0 && (k.From < 0) == (k.To < 0) && k.From > k.To {
		return []Problem{{"check.to", "is before check.from", "give the place behind the last byte that is covered"}}
	}
	if (k.At < 0) == (k.From < 0) && (k.To == 0 || (k.At < 0) == (k.To < 0)) {
		switch p, ok := k.in(4 * MaxFrame); { // any length that all of it fits into
		case !ok:
			return []Problem{{"check.from", "lets the check cover itself, or is out of range", "cover what is before or behind the check"}}
		case p.from == p.to:
			return []Problem{{"check.from", "leaves nothing to be covered", "cover what is before or behind the check"}}
		}
	}
	return nil
}

// ofMax comes last: it needs the rest to be right.
func (c *Config) ofMax() []Problem {
	if c.Max < 0 || c.Max > MaxFrame {
		return []Problem{{"max", "is out of range", fmt.Sprintf("use 1 to %d bytes", MaxFrame)}}
	}
	if least := c.least(); c.max() < least {
		return []Problem{{"max", "is less than the shortest frame", fmt.Sprintf("use at least %d", least)}}
	}
	return nil
}

// least returns the length of the shortest raw frame with a byte in it.
func (c *Config) least() int {
	n := 1
	if c.Check != nil {
		n += len(c.Check.Mark) + c.Check.size()
	}
	switch c.Kind {
	case Fixed:
		return max(c.Size, len(c.Start)+len(c.End))
	case Length:
		return max(c.Offset+c.Width, len(c.Start)+len(c.End))
	case Silence:
		return n
	default:
		if c.Escape.Mode == Double {
			n += 2 * len(c.Escape.With)
		}
		return n + len(c.Start) + len(c.term()) + c.After
	}
}
