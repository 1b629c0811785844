package identify

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/twinline/twinline/internal/serial"
)

// separator is a way to part columns.
type separator struct {
	text, name string
	best       int // score
}

// columns tries lines that have equally many columns.
func (t *text) columns([]serial.Chunk) (Candidate, bool) {
	var best Candidate
	for _, sep := range []separator{{",", "a comma", 80}, {";", "a semicolon", 80}, {"\t", "a tab", 80}, {"|", "a bar", 80}, {" ", "spaces", 72}} {
		if c, ok := t.partedBy(sep); ok && c.Score > best.Score {
			best = c
		}
	}
	return best, best.Score > 0
}

// part parts a line as a visitor with this separator does.
func (s *separator) part(line string) []string {
	if s.text == " " {
		return strings.Fields(line)
	}
	columns := strings.Split(line, s.text)
	for i := range columns {
		columns[i] = strings.TrimSpace(columns[i])
	}
	return columns
}

func (t *text) partedBy(sep separator) (Candidate, bool) {
	if t.printable < 0.9 {
		return Candidate{}, false
	}
	most, lines := 0, map[int]int{}
	for _, line := range t.lines {
		n := len(sep.part(line))
		lines[n]++
		if lines[n] > lines[most] {
			most = n
		}
	}
	if most < 2 {
		return Candidate{}, false
	}
	good, bad, cut := t.tally(func(line string) bool { return len(sep.part(line)) == most })
	f := &fieldSet{at: map[string]int{}}
	numbers := 0
	for _, line := range looked(good) {
		for i, text := range sep.part(line) {
			value, unit, measured := measure(text)
			if !measured {
				value = text
			}
			if measured || decimal(text) {
				numbers++
			}
			f.see(fmt.Sprintf("column%d", i), value, unit, sep.visitor(i, measured))
		}
	}
	numeric := float64(numbers) / float64(max(len(looked(good))*most, 1))
	switch {
	case numbers == 0:
		return Candidate{}, false // words
	case sep.text == " " && numeric < 0.5:
		sep.best = 50
	}
	what := fmt.Sprintf("lines of %d columns parted by %s", most, sep.name)
	c, ok := t.candidate(what, fmt.Sprintf("%s %d columns, %.0f %% of them numbers", has(len(good)), most, 100*numeric), sep.best, good, bad, cut)
	c.Fields = f.list
	if sep.text == "," {
		c.prefer("csv", t)
	}
	return c, ok && bad*5 <= len(good)
}

// visitor declares a column; of one with a unit only the number.
func (s *separator) visitor(i int, measured bool) map[string]any {
	switch {
	case measured && s.text == " ":
		return map[string]any{"regex": fmt.Sprintf(`^\s*(?:\S+\s+){%d}%s`, i, numberPattern)}
	case measured:
		quoted := strings.ReplaceAll(regexp.QuoteMeta(s.text), "\t", `\t`)
		return map[string]any{"regex": fmt.Sprintf(`^(?:[^%s]*%s){%d}\s*%s`, quoted, quoted, i, numberPattern)}
	case s.text == ",":
		return map[string]any{"column": i}
	}
	return map[string]any{"column": i, "separator": s.text}
}
