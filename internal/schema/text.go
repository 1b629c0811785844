package schema

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxListed bounds how many words a remedy lists.
const maxListed = 40

// Suggest is the remedy for a word that is not in known: the nearest known word if
// one is near, else all of them.
func Suggest(word string, known []string) string {
	best, least := "", 3 // two slips are a slip, three are another word
	for _, k := range known {
		limit := min(least, max(2, len(k)/2+1)) // "id" is not near "ip" and "to"
		if d := distance(strings.ToLower(word), strings.ToLower(k), limit); d < limit {
			best, least = k, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %s?", best)
	case len(known) == 0:
		return "remove it"
	case len(known) > maxListed:
		return "known are " + strings.Join(known[:maxListed], ", ") + " and others"
	}
	return "known are " + strings.Join(known, ", ")
}

// distance is the Levenshtein distance of a and b, or limit if it is not below it.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return min(row[len(b)], limit)
}

// noun names what the field holds: "an integer".
func (f *Field) noun() string {
	switch f.Kind {
	case Int:
		return "an integer"
	case Float:
		return "a number"
	case Bool:
		return "true or false"
	case Duration:
		return "a duration"
	case Enum:
		return "one of " + strings.Join(f.Enum, ", ")
	case Scalar:
		return "a boolean, a number or a text"
	case List:
		return "a list"
	case Map, Nested:
		return "a map"
	}
	return "a text"
}

// hint says what to write.
func (f *Field) hint() string {
	switch {
	case f.Example != "" && f.Kind == Nested:
		return fmt.Sprintf("write %s", f.Example)
	case f.Kind == Int && f.rangeText() != "":
		return "write an integer, " + f.rangeText()
	case f.Kind == Float && f.rangeText() != "":
		return "write a number, " + f.rangeText()
	case f.Example != "":
		return fmt.Sprintf("write %s, such as %s", f.noun(), f.Example)
	}
	return "write " + f.noun()
}

// rangeText gives Min and Max in words, or "".
func (f *Field) rangeText() string {
	lo, hi := boundText(f.Min), boundText(f.Max)
	switch {
	case lo != "" && hi != "":
		return lo + " to " + hi
	case lo != "":
		return "at least " + lo
	case hi != "":
		return "at most " + hi
	}
	return ""
}

func boundText(b any) string {
	switch b := b.(type) {
	case nil:
		return ""
	case time.Duration:
		return shortDuration(b)
	case float64:
		return strconv.FormatFloat(b, 'f', -1, 64)
	}
	return fmt.Sprint(b)
}

// shortDuration is d without zero units: 24h, not 24h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// WriteMarkdown writes the table's section of the reference: a heading of the
// given level, Doc, and one row per key; keys of nested maps are dotted, of lists
// marked [].
func (t *Table) WriteMarkdown(w io.Writer, level int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n\n", strings.Repeat("#", max(1, level)), t.Title)
	if t.Doc != "" {
		fmt.Fprintf(&b, "%s\n\n", t.Doc)
	}
	b.WriteString("| key | what | default | meaning |\n|---|---|---|---|\n")
	t.rows(&b, "")
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) rows(b *strings.Builder, prefix string) {
	for i := range t.Fields {
		f := &t.Fields[i]
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", prefix+f.Key, cell(f.what()), cell(f.defaultText()), cell(f.meaning()))
		item, path := f, prefix+f.Key
		for item.Kind == List || item.Kind == Map {
			path += map[Kind]string{List: "[]", Map: ".<name>"}[item.Kind]
			item = item.Item
		}
		if item.Kind == Nested {
			item.Table.rows(b, path+".")
		}
	}
}

// what is the kind with its bounds, for the documentation.
func (f *Field) what() string {
	names := map[Kind]string{String: "text", Int: "integer", Float: "number", Bool: "boolean", Duration: "duration", Scalar: "any scalar", Nested: "map"}
	text := names[f.Kind]
	switch f.Kind {
	case Enum:
		return "`" + strings.Join(f.Enum, "`, `") + "`"
	case List:
		text = "list of " + f.Item.what()
	case Map:
		text = "map of " + f.Item.what()
	}
	if r := f.rangeText(); r != "" {
		switch f.Kind {
		case String:
			r += " bytes"
		case List:
			r += " items"
		case Map:
			r += " entries"
		}
		text += ", " + r
	}
	if f.Unit != "" {
		if f.Kind == Duration {
			return text + "; a bare number is in " + f.Unit
		}
		text += " " + f.Unit
	}
	return text
}

func (f *Field) defaultText() string {
	switch d := f.Default.(type) {
	case nil:
		if f.Required {
			return "**required**"
		}
		return ""
	case time.Duration:
		return "`" + shortDuration(d) + "`"
	}
	return fmt.Sprintf("`%v`", f.Default)
}

func (f *Field) meaning() string {
	text := f.Doc
	if f.Example != "" {
		text += fmt.Sprintf(" Example: `%s`.", f.Example)
	}
	if len(f.Aliases) > 0 {
		text += " Also spelled `" + strings.Join(f.Aliases, "`, `") + "`."
	}
	return strings.TrimSpace(text)
}

// cell makes text fit a cell of a Markdown table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", `\|`), "\n", " ")
}
