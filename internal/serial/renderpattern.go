package serial

import (
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// shortest returns a short text that a pattern matches, with the texts of groups in their places.
// filler is what is taken where a class of characters has it.
func shortest(pattern *regexp.Regexp, groups map[int]string, filler string) (string, error) {
	tree, err := syntax.Parse(pattern.String(), syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("pattern %q: %w", pattern, err)
	}
	w := writer{groups: groups, filler: filler}
	w.write(tree)
	return w.out.String(), nil
}

// groupPattern returns a pattern of what a group of match can be, all of it.
func groupPattern(match *regexp.Regexp, group int) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(match.String(), syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", match, err)
	}
	sub := tree
	if group > 0 {
		if sub = capture(tree, group); sub == nil {
			return nil, fmt.Errorf("pattern %q: no group %d", match, group)
		}
	}
	return regexp.Compile(`\A(?:` + sub.String() + `)\z`)
}

// capture returns the group of that number within re; nil: it is not there.
func capture(re *syntax.Regexp, group int) *syntax.Regexp {
	if re.Op == syntax.OpCapture && re.Cap == group {
		return re
	}
	for _, sub := range re.Sub {
		if found := capture(sub, group); found != nil {
			return found
		}
	}
	return nil
}

// anchors reports whether a pattern matches at the beginning or at the end only.
func anchors(match *regexp.Regexp) (begins, ends bool) {
	tree, err := syntax.Parse(match.String(), syntax.Perl)
	if err != nil || tree.Op != syntax.OpConcat {
		return false, false
	}
	first, last := tree.Sub[0].Op, tree.Sub[len(tree.Sub)-1].Op
	return first == syntax.OpBeginText || first == syntax.OpBeginLine, last == syntax.OpEndText || last == syntax.OpEndLine
}

// writer writes what a pattern matches.
type writer struct {
	groups map[int]string
	filler string
	out    strings.Builder
}

// wanted reports whether one of the groups is within re.
func (w *writer) wanted(re *syntax.Regexp) bool {
	for group := range maps.Keys(w.groups) {
		if group == 0 || capture(re, group) != nil {
			return true
		}
	}
	return false
}

func (w *writer) write(re *syntax.Regexp) {
	if text, whole := w.groups[0]; whole {
		w.out.WriteString(text)
		return
	}
	switch re.Op {
	case syntax.OpLiteral:
		w.out.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		w.out.WriteRune(w.of(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		w.out.WriteByte(w.filler[0])
	case syntax.OpCapture:
		if text, ok := w.groups[re.Cap]; ok {
			w.out.WriteString(text)
			return
		}
		w.write(re.Sub[0])
	case syntax.OpAlternate:
		best := re.Sub[0]
		if i := slices.IndexFunc(re.Sub, w.wanted); i >= 0 {
			best = re.Sub[i]
		}
		w.write(best)
	case syntax.OpStar, syntax.OpQuest, syntax.OpPlus, syntax.OpRepeat:
		times := 0
		switch {
		case re.Op == syntax.OpRepeat && re.Min > 0:
			times = re.Min
		case re.Op == syntax.OpPlus || w.wanted(re):
			times = 1
		}
		for range times {
			w.write(re.Sub[0])
		}
	default: // a concatenation, and what has no width
		for _, sub := range re.Sub {
			w.write(sub)
		}
	}
}

// of returns a character of a class, which is pairs of bounds.
func (w *writer) of(class []rune) rune {
	for _, c := range w.filler + "1-+" {
		for i := 0; i+1 < len(class); i += 2 {
			if c >= class[i] && c <= class[i+1] {
				return c
			}
		}
	}
	if len(class) == 0 {
		return utf8Error
	}
	return class[0]
}

// utf8Error stands for a character of a class that has none.
const utf8Error = '\uFFFD'
