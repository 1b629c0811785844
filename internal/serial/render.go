package serial

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/pkg/twin"
)

// Shown is a property, and what an instrument shows of it.
type Shown struct {
	Field *Field
	Value twin.Value
}

// ErrRender is wrapped where no frame could be thought of that says what it is to say.
var ErrRender = errors.New("what the instrument says does not follow from the declaration")

// Render returns what an instrument puts into one frame from which all of shown are read, and which answers
// reply (nil: it answers nothing). It is the inverse of Field.Decode: what it returns was read back, and has
// the values; a text that has room for fewer decimals has them rounded. Errors wrap ErrRender.
func (c *Config) Render(reply *Reply, shown []Shown) ([]byte, error) {
	r := rendering{config: c, reply: reply, shown: shown}
	for _, filler := range []string{"0A ", " 0A", "A0 "} { // what stands for "any character"
		r.filler = filler
		if out, ok := r.try(); ok {
			return out, nil
		}
	}
	if r.why == nil {
		r.why = errors.New("nothing says where in a frame the values are")
	}
	return nil, fmt.Errorf("%w: %w", ErrRender, r.why)
}

// Yes returns an answer that reply takes, and that is no refusal. question is what it answers:
// instruments like to repeat it. Errors wrap ErrRender.
func (c *Config) Yes(reply *Reply, question []byte) ([]byte, error) {
	r := rendering{config: c, reply: reply, filler: "0A ", question: question}
	for _, lead := range append(r.leads(), []byte("OK"), question) {
		for _, out := range r.padded(lead) {
			if r.verify(out, nil) {
				return out, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrRender, r.why)
}

// No returns an answer that reply calls refused: by the word prefer if it has it, else by its first. Errors wrap ErrRender.
func (c *Config) No(reply *Reply, prefer string) ([]byte, error) {
	if len(reply.refused) == 0 {
		return nil, fmt.Errorf("%w: no refused answer is declared", ErrRender)
	}
	list := slices.Clone(reply.refused)
	slices.SortStableFunc(list, func(a, b refusal) int {
		switch {
		case a.why == prefer && b.why != prefer:
			return -1
		case b.why == prefer && a.why != prefer:
			return 1
		}
		return 0
	})
	for _, refusal := range list {
		text, _ := shortest(refusal.match, nil, "0A ")
		r := rendering{config: c}
		for _, out := range r.padded([]byte(text)) {
			m, err := c.read(c.frame(out, false))
			if err != nil {
				continue
			}
			if answers, why := reply.Is(m.Data); answers && why == refusal.why {
				return out, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: no text was found that matches a refused answer", ErrRender)
}

// Frame makes the frame of a payload; raw: it is one already.
func (c *Config) Frame(payload []byte, raw bool) []byte { return c.frame(payload, raw) }

// Reads reports whether frame answers reply (nil: it answers nothing) and has a good value of each field. The error says what is not so.
func (c *Config) Reads(frame []byte, reply *Reply, fields []*Field) error {
	m, err := c.read(frame)
	if err != nil {
		return err
	}
	if err := answering(reply, m); err != nil {
		return err
	}
	for _, f := range fields {
		_, q, has := f.Read(m)
		switch {
		case !has:
			return fmt.Errorf("%s is not in it", f.Property)
		case q.IsBad():
			return fmt.Errorf("%s is %s in it", f.Property, q)
		}
	}
	return nil
}

// Hears reports whether a frame has a property.
func (c *Config) Hears(frame []byte, f *Field) bool {
	m, err := c.read(frame)
	if err != nil {
		return false
	}
	_, _, has := f.Read(m)
	return has
}

// read takes apart a frame as if it had come over a line.
func (c *Config) read(frame []byte) (*Message, error) {
	s := framing.NewScanner(c.Framing)
	start := time.Unix(0, 0)
	s.Push(frame, start)
	s.Quiet(start.Add(time.Hour))
	f, ok := s.Next()
	if !ok || len(f.Raw) != len(frame) {
		return nil, errors.New("it makes no frame")
	}
	return c.message(f)
}

func answering(reply *Reply, m *Message) error {
	if reply == nil {
		return nil
	}
	answers, why := reply.Is(m.Data)
	switch {
	case !answers:
		return errors.New("it is not what reply takes")
	case why != "":
		return fmt.Errorf("it is refused as %s", why)
	}
	return nil
}

// rendering is one Render under way.
type rendering struct {
	config   *Config
	reply    *Reply
	shown    []Shown
	filler   string
	question []byte
	why      error // the last verification said so
}

func (r *rendering) verify(out []byte, all []said) bool {
	m, err := r.config.read(r.config.frame(out, false))
	if err == nil {
		err = answering(r.reply, m)
	}
	for i := 0; i < len(all) && err == nil; i++ {
		f := all[i].field
		if got, q, has := f.Read(m); !has || q.IsBad() || !got.Equal(all[i].want) {
			err = fmt.Errorf("%s would not be read from %.60q", f.Property, out)
		}
	}
	r.why = err
	return err == nil
}

// try builds frames until one is read back.
func (r *rendering) try() ([]byte, bool) {
	all := make([]said, 0, len(r.shown))
	kinds := map[sourceKind]bool{}
	for _, s := range r.shown {
		one, err := sayingOf(s)
		if err != nil {
			r.why = err
			return nil, false
		}
		all = append(all, one)
		kinds[s.Field.source.kind] = true
	}
	for out := range r.candidates(all, kinds) {
		if r.verify(out, all) {
			return out, true
		}
	}
	return nil, false
}

// candidates yields payloads, the likeliest first.
func (r *rendering) candidates(all []said, kinds map[sourceKind]bool) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		if kinds[byPointer] {
			yield(document(all))
			return
		}
		chunks := []string{""}
		if kinds[byRegex] || kinds[byName] {
			var err error
			if chunks, err = r.chunks(all); err != nil {
				r.why = err
				return
			}
		}
		for _, lead := range r.leads() {
			for _, text := range chunks {
				for _, between := range []string{"", " "} {
					head := string(lead) + between + text
					var outs [][]byte
					switch {
					case kinds[byPlace]:
						outs = r.places([]byte(head), all)
					case kinds[byColumn]:
						outs = [][]byte{columns(head, all)}
					default:
						outs = [][]byte{[]byte(head)}
					}
					for _, out := range outs {
						if !yield(out) {
							return
						}
					}
				}
			}
		}
	}
}

// leads returns what a frame may have to begin with, by its reply and by what its fields go by; nothing comes first.
func (r *rendering) leads() [][]byte {
	list := [][]byte{nil}
	add := func(prefix []byte, match *regexp.Regexp) {
		text := ""
		if match != nil {
			text, _ = shortest(match, nil, r.filler)
		}
		if !bytes.HasPrefix([]byte(text), prefix) {
			list = append(list, prefix, append(slices.Clone(prefix), text[min(len(prefix), len(text)):]...))
			text = string(prefix) + text
		}
		list = append(list, []byte(text))
	}
	for i := range r.shown {
		w := &r.shown[i].Field.when
		if add(w.prefix, w.match); i > 8 {
			break // they are mostly the same
		}
	}
	if r.reply != nil {
		add(r.reply.prefix, r.reply.match)
	}
	slices.SortStableFunc(list, func(a, b []byte) int { return len(a) - len(b) })
	return slices.CompactFunc(list, bytes.Equal)
}

// padded returns payloads that begin with lead and have a length that the framing wants.
func (r *rendering) padded(lead []byte) [][]byte {
	if f := &r.config.Framing; f.Kind == framing.Fixed || f.Kind == framing.Length {
		return r.places(lead, nil)
	}
	return [][]byte{lead}
}

// columns returns head and the values in their columns; those that nothing stands in are 0.
func columns(head string, all []said) []byte {
	var cells []string
	separator := ","
	put := func(i int, text string, over bool) {
		for len(cells) <= i {
			cells = append(cells, "")
		}
		if over || cells[i] == "" {
			cells[i] = text
		}
	}
	for i := range all {
		if s := &all[i].field.source; s.kind == byColumn {
			separator = s.separator
			put(s.column, all[i].text, true)
		}
		for _, e := range all[i].field.when.equals {
			if e.source.kind == byColumn {
				put(e.source.column, e.want, true)
			}
		}
	}
	for i, text := range strings.Split(head, separator) {
		put(i, text, false)
	}
	for i := range cells {
		put(i, "0", false)
	}
	return []byte(strings.Join(cells, separator))
}

// places returns payloads with the values at their places, the shortest first.
func (r *rendering) places(head []byte, all []said) [][]byte {
	f := &r.config.Framing
	front, back, filler := len(head), len(f.End), byte(' ')
	for i := range all {
		if s := &all[i].field.source; s.kind == byPlace {
			front, back = max(front, s.at+s.length), max(back, -s.at)
			if all[i].field.binary {
				filler = 0
			}
		}
	}
	whole := f.Kind == framing.Fixed || f.Kind == framing.Length
	if whole {
		front, filler = max(front, len(f.Start), f.Offset+f.Width), 0
		if f.Check != nil {
			back = max(back, -f.Check.At)
		}
	}
	const more = 16 // for what else a length or a pattern wants
	var outs [][]byte
	for total := front + back; total <= front+back+more; total++ {
		if f.Kind == framing.Fixed {
			total = max(f.Size, front, back)
		}
		out := bytes.Repeat([]byte{filler}, total)
		if whole {
			copy(out, f.Start)
			copy(out[total-len(f.End):], f.End)
		}
		copy(out, head)
		for i := range all {
			all[i].place(out)
		}
		outs = append(outs, out)
		if f.Kind == framing.Fixed {
			break
		}
	}
	return outs
}

// place writes the value at its place in out, which is long enough.
func (s *said) place(out []byte) {
	at := s.field.source.at
	if at < 0 {
		at += len(out)
	}
	if s.field.source.kind != byPlace || at < 0 || at+len(s.bytes) > len(out) {
		return
	}
	mask := s.field.format.Mask()
	for i, b := range s.bytes {
		m := byte(0xFF)
		if s.field.binary && len(mask) > 0 {
			m = mask[i]
		}
		out[at+i] = out[at+i]&^m | b&m
	}
}

// document returns a JSON document with the values where their pointers say.
func document(all []said) []byte {
	root := map[string]any{}
	put := func(path []string, v any) {
		at := root
		for i, key := range path {
			if i == len(path)-1 {
				at[key] = v
				break
			}
			below, ok := at[key].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[key] = below
			}
			at = below
		}
	}
	for i := range all {
		for _, e := range all[i].field.when.equals {
			put(e.source.pointer, scalar(e.want, twin.Value{}))
		}
		put(all[i].field.source.pointer, scalar(all[i].text, all[i].want))
	}
	out, _ := json.Marshal(arrays(root)) // strings, numbers and maps: it cannot fail
	return out
}

// scalar returns a text as JSON has it.
func scalar(text string, v twin.Value) any {
	if b, ok := v.AsBool(); ok {
		return b
	}
	if _, isText := v.AsString(); !isText && json.Valid([]byte(text)) && text != "null" {
		return json.RawMessage(text)
	}
	return text
}

// arrays returns a tree with lists in place of the maps whose keys are the numbers from 0 on.
func arrays(tree any) any {
	m, ok := tree.(map[string]any)
	if !ok {
		return tree
	}
	list := make([]any, 0, len(m))
	for key, below := range m {
		m[key] = arrays(below)
	}
	for i := range len(m) {
		v, there := m[strconv.Itoa(i)]
		if !there {
			return m
		}
		list = append(list, v)
	}
	if len(list) == 0 {
		return m
	}
	return list
}

// chunks returns the texts of the fields that are found by patterns and by names, joined in several ways.
func (r *rendering) chunks(all []said) ([]string, error) {
	var first, middle, last []string
	var seen []string
	for i := range all {
		f := all[i].field
		for _, e := range f.when.equals {
			if pair := e.source.name + "=" + e.want; e.source.kind == byName && !slices.Contains(middle, pair) {
				middle = append(middle, pair)
			}
		}
		switch f.source.kind {
		case byName:
			middle = append(middle, f.source.name+"="+all[i].text)
		case byRegex:
			if pattern := f.source.match.String(); !slices.Contains(seen, pattern) {
				seen = append(seen, pattern)
				text, err := r.chunk(all[i:], pattern)
				if err != nil {
					return nil, err
				}
				switch begins, ends := anchors(f.source.match); {
				case begins:
					first = append(first, text)
				case ends:
					last = append(last, text)
				default:
					middle = append(middle, text)
				}
			}
		}
	}
	parts := slices.Concat(first, middle, last)
	var out []string
	if len(seen) > 1 && len(seen) == len(parts) { // patterns of the same text, each of its own part
		for _, text := range parts {
			out = append(out, merged(text, all))
		}
	}
	for _, separator := range []string{" ", "", ",", ";"} {
		out = append(out, strings.Join(parts, separator))
		if len(parts) == 1 {
			break
		}
	}
	return out, nil
}

// merged puts the values of all fields into a text where their patterns find them.
func merged(text string, all []said) string {
	for i := range all {
		s := &all[i].field.source
		if at := s.match.FindStringSubmatchIndex(text); at != nil && at[2*s.group] >= 0 {
			text = text[:at[2*s.group]] + all[i].text + text[at[2*s.group+1]:]
		}
	}
	return text
}

// chunk returns a text that a pattern matches, with the values of all the fields that are its groups.
func (r *rendering) chunk(all []said, pattern string) (string, error) {
	groups := map[int]string{}
	match := all[0].field.source.match
	for i := range all {
		s := &all[i].field.source
		if s.kind != byRegex || s.match.String() != pattern {
			continue
		}
		group, err := groupPattern(match, s.group)
		if err != nil {
			return "", err
		}
		if !all[i].reword(group.MatchString) {
			return "", fmt.Errorf("%s: no way to write %q matches group %d of %q", all[i].field.Property, all[i].text, s.group, pattern)
		}
		groups[s.group] = all[i].text
	}
	return shortest(match, groups, r.filler)
}
