package history

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Span is a run of sequence numbers, both ends included.
type Span struct{ First, Last uint64 }

// MaxSpans bounds the spans kept for one device and epoch. A device has one
// span as long as nothing is missing; each hole adds one. 1024 spans are 16 KiB in the database.
const MaxSpans = 1024

// Spans is the set of sequence numbers of one device and epoch that are stored.
// Sequence numbers start at 1. The zero Spans is empty.
type Spans struct {
	spans []Span // ascending, never touching
	floor uint64 // at and below it the set is forgotten
}

// Verdict says what is to be done with a sequence number.
type Verdict int

// The verdicts of Spans.Add.
const (
	New       Verdict = iota // was not in the set, and is now
	Duplicate                // was in the set
	Forgotten                // lies where the set is no longer known
)

// Add puts seq into the set. When that would make more than MaxSpans spans,
// the lowest hole is given up: what arrives at or below it later is Forgotten.
func (s *Spans) Add(seq uint64) Verdict {
	if n := len(s.spans); n > 0 && seq == s.spans[n-1].Last+1 { // in order, nearly always
		s.spans[n-1].Last = seq
		return New
	}
	i, found := slices.BinarySearchFunc(s.spans, seq, func(sp Span, seq uint64) int {
		switch {
		case sp.Last < seq:
			return -1
		case sp.First > seq:
			return 1
		}
		return 0
	})
	switch {
	case seq <= s.floor:
		return Forgotten
	case found:
		return Duplicate
	}
	s.insert(i, seq)
	if len(s.spans) > MaxSpans {
		s.floor = s.spans[0].Last
		s.spans = slices.Delete(s.spans, 0, 1)
	}
	return New
}

// insert puts seq before spans[i], where it is known to belong.
func (s *Spans) insert(i int, seq uint64) {
	left := i > 0 && s.spans[i-1].Last+1 == seq
	right := i < len(s.spans) && s.spans[i].First == seq+1
	switch {
	case left && right:
		s.spans[i-1].Last = s.spans[i].Last
		s.spans = slices.Delete(s.spans, i, i+1)
	case left:
		s.spans[i-1].Last = seq
	case right:
		s.spans[i].First = seq
	default:
		s.spans = slices.Insert(s.spans, i, Span{seq, seq})
	}
}

// Missing is how many numbers above the floor and below the highest are not in the set.
func (s *Spans) Missing() uint64 {
	var missing uint64
	before := s.floor
	for _, sp := range s.spans {
		missing += sp.First - before - 1
		before = sp.Last
	}
	return missing
}

// Holes returns the runs that Missing counts, lowest first.
func (s *Spans) Holes() []Span {
	var holes []Span
	before := s.floor
	for _, sp := range s.spans {
		if sp.First > before+1 {
			holes = append(holes, Span{before + 1, sp.First - 1})
		}
		before = sp.Last
	}
	return holes
}

// Highest is the highest number that was ever in the set; 0 if there is none.
func (s *Spans) Highest() uint64 {
	if len(s.spans) == 0 {
		return s.floor
	}
	return s.spans[len(s.spans)-1].Last
}

// Len is the number of spans.
func (s *Spans) Len() int { return len(s.spans) }

// Floor is the number at and below which the set is forgotten; 0 if nothing is.
func (s *Spans) Floor() uint64 { return s.floor }

// AppendText appends the spans as a PostgreSQL multirange, ends excluded: {[1,18),[20,21)}.
func (s *Spans) AppendText(b []byte) []byte {
	b = append(b, '{')
	for i, sp := range s.spans {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendUint(b, sp.First, 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, sp.Last+1, 10)
		b = append(b, ')')
	}
	return append(b, '}')
}

// ParseSpans reads what AppendText writes. It refuses what is not in order,
// touches, or has more than MaxSpans.
func ParseSpans(text string, floor uint64) (Spans, error) {
	s := Spans{floor: floor}
	inner, ok := strings.CutPrefix(text, "{")
	if inner, ok = cutSuffix(inner, "}", ok); !ok {
		return Spans{}, fmt.Errorf("spans %.40q: want {[1,18),[20,21)}", text)
	}
	before := floor
	for inner != "" {
		sp, rest, err := parseSpan(inner)
		if err != nil {
			return Spans{}, fmt.Errorf("spans %.40q: %w", text, err)
		}
		touches := len(s.spans) > 0 && sp.First == before+1
		if sp.First <= before || sp.Last < sp.First || touches || len(s.spans) == MaxSpans {
			return Spans{}, fmt.Errorf("spans %.40q: [%d,%d] is out of order, or one too many", text, sp.First, sp.Last)
		}
		s.spans = append(s.spans, sp)
		before, inner = sp.Last, rest
	}
	return s, nil
}

func cutSuffix(s, suffix string, ok bool) (string, bool) {
	cut, found := strings.CutSuffix(s, suffix)
	return cut, ok && found
}

var errSpan = errors.New("a span is not of the form [first,end)")

// parseSpan reads "[1,18)" and a comma before a further one.
func parseSpan(text string) (Span, string, error) {
	one, rest, ok := strings.Cut(text, ")")
	one, open := strings.CutPrefix(one, "[")
	first, end, two := strings.Cut(one, ",")
	if !ok || !open || !two {
		return Span{}, "", errSpan
	}
	lo, err := strconv.ParseUint(first, 10, 63)
	if err != nil || lo == 0 {
		return Span{}, "", errSpan
	}
	hi, err := strconv.ParseUint(end, 10, 63)
	if err != nil || hi == 0 {
		return Span{}, "", errSpan
	}
	if rest != "" {
		if rest, ok = strings.CutPrefix(rest, ","); !ok || rest == "" {
			return Span{}, "", errSpan
		}
	}
	return Span{lo, hi - 1}, rest, nil
}
