package identify

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// Question is something harmless that many instruments answer.
type Question struct {
	Name string
	What string // for people, what it is and of what
	Send []byte
	// Baud is the only rate at which it is of use, with 7 data bits and even parity; 0: any.
	Baud int
}

// Questions are what an instrument that says nothing by itself may be asked. None of them sets anything. The
// answers of one do not look like those of another.
func Questions() []Question {
	return []Question{
		{"sics", "S of MT-SICS: the weight of a scale", []byte("S\r\n"), 0},
		{"sics-number", "I4 of MT-SICS: the serial number of a scale", []byte("I4\r\n"), 0},
		{"scpi", "*IDN? of SCPI: who an instrument is", []byte("*IDN?\n"), 0},
		{"iec62056", "/?! of IEC 62056-21: the sign-on of a meter", []byte("/?!\r\n"), 300},
		{"enter", "an empty line", []byte("\r\n"), 0},
	}
}

// Answered says what an instrument is that answered so; false: the answer says nothing. An echo is no answer.
func (q *Question) Answered(heard []serial.Chunk) (Candidate, bool) {
	answer, echo := bytes.CutPrefix(joined(heard), q.Send)
	text := string(answer)
	var c Candidate
	var ok bool
	switch q.Name {
	case "sics":
		c, ok = weight(text, heard)
	case "sics-number":
		c, ok = serialNumber(text, heard)
	case "scpi":
		c, ok = identity(text, heard)
	case "iec62056":
		c, ok = signOn(text)
	default:
		c, ok = q.anything(answer, heard)
	}
	if ok && echo {
		c.Config["echo"] = true
		c.Reason += "; the line repeats what is sent"
	}
	return c, ok
}

// request is a question of a Device, and the answers that are taken for its own.
func request(send, match string) map[string]any {
	return map[string]any{"send": send, "reply": map[string]any{"match": match}}
}

// one makes a Candidate of an answer with one field.
func one(what, reason string, score int, config map[string]any, fields ...Field) Candidate {
	for i := range fields {
		if f := &fields[i]; f.Type == "" && f.Text != "" {
			f.Type = typeOf(f.Text, f.Unit)
		}
	}
	return Candidate{What: what, Reason: reason, Score: score, Config: config, Frames: 1, Fields: fields}
}

// weight reads the answer to S: "S S     100.00 g", or why there is none
// (MT-SICS reference manual, commands S and the error messages ES, ET, EL).
func weight(text string, heard []serial.Chunk) (Candidate, bool) {
	if c, ok := profile("sics", heard, true); ok {
		c.What, c.Reason, c.Score = "a scale that speaks MT-SICS", fmt.Sprintf("it answers S with %q", firstLine(text)), 96
		c.weigh()
		return c, true
	}
	if !regexp.MustCompile(`(?m)^(S [I+-]|E[SLT])\s*$`).MatchString(text) {
		return Candidate{}, false
	}
	f := Field{Name: "weight", Type: twin.TypeDouble, Visitor: map[string]any{"field": "weight"}}
	return one("a scale that speaks MT-SICS", fmt.Sprintf("it answers S with %q", firstLine(text)), 92, map[string]any{"profile": "sics"}, f), true
}

// Read takes what a whole telegram of the instrument says for the Candidate's fields.
func (c *Candidate) Read(fields []telegram.Field) { c.Fields = merged([][]telegram.Field{fields}) }

// weigh gives the weight its unit, which the profile has as a field of its own.
func (c *Candidate) weigh() {
	at := func(name string) int { return slices.IndexFunc(c.Fields, func(f Field) bool { return f.Name == name }) }
	if w, u := at("weight"), at("unit"); w >= 0 && u >= 0 {
		c.Fields[w].Unit = c.Fields[u].Text
		c.Fields[w].Type = twin.TypeDouble
	}
}

func serialNumber(text string, heard []serial.Chunk) (Candidate, bool) {
	c, ok := profile("sics", heard, true)
	if !ok || !regexp.MustCompile(`(?m)^I4 A "`).MatchString(text) {
		return Candidate{}, false
	}
	c.What, c.Reason, c.Score = "an instrument that speaks MT-SICS", fmt.Sprintf("it answers I4 with %q", firstLine(text)), 90
	return c, true
}

// identity reads the answer to *IDN?: maker, model, number, version (IEEE 488.2 section 10.14).
func identity(text string, heard []serial.Chunk) (Candidate, bool) {
	line := firstLine(text)
	parts := strings.Split(line, ",")
	if len(parts) < 3 || len(parts) > 6 || printable(line) != len(line) || strings.TrimSpace(parts[0]) == "" || strings.HasPrefix(line, "$") {
		return Candidate{}, false
	}
	if c, ok := profile("scpi", heard, true); ok && len(parts) == 4 {
		c.What, c.Reason, c.Score = "an instrument that speaks SCPI", fmt.Sprintf("it answers *IDN? with %q", line), 94
		c.Fields = slices.DeleteFunc(c.Fields, func(f Field) bool { return strings.HasPrefix(f.Name, "error") }) // not asked for
		for i := range c.Fields {
			c.Fields[i].Type = twin.TypeString
		}
		return c, true
	}
	config := map[string]any{"requests": map[string]any{"identity": request("*IDN?", `^[^,]+,[^,]*,`)}}
	f := Field{Name: "identity", Text: line, Type: twin.TypeString, Visitor: map[string]any{"request": "identity", "regex": `^(.*)$`}}
	return one("an instrument that speaks SCPI", fmt.Sprintf("it answers *IDN? with %q", line), 92, config, f), true
}

// signOn reads an identification message (IEC 62056-21 section 6.3.2).
func signOn(text string) (Candidate, bool) {
	m := regexp.MustCompile(`/[A-Z]{2}[A-Za-z][0-9A-I:][ -~]{0,20}\r\n`).FindString(text)
	if m == "" {
		return Candidate{}, false
	}
	config := map[string]any{"profile": "iec62056"}
	return one("a meter of IEC 62056-21", fmt.Sprintf("it answers the sign-on with %q", strings.TrimSpace(m)), 93, config), true
}

// anything takes any readable answer.
func (q *Question) anything(answer []byte, heard []serial.Chunk) (Candidate, bool) {
	if len(answer) < 2 || len(heard) == 0 {
		return Candidate{}, false
	}
	for _, c := range Guess([]serial.Chunk{{At: heard[0].At, Data: answer}}) {
		if p := c.Profile(); p != "" && p != "csv" && p != "keyvalue" || c.SevenBits != "" || printable(string(answer)) < len(bytes.Trim(answer, "\r\n"))*9/10 {
			continue
		}
		c.Config["requests"] = map[string]any{q.Name: map[string]any{"send": escaped(q.Send), "raw": true}}
		for i := range c.Fields {
			c.Fields[i].Visitor["request"] = q.Name
		}
		c.Reason = fmt.Sprintf("it answers %s with %q", q.What, firstLine(string(answer)))
		c.Score = min(c.Score, 60)
		return c, true
	}
	return Candidate{}, false
}

// firstLine returns the first line with something in it, cut where it is long.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimLeft(text, "\r\n"), "\n")
	line = strings.TrimRight(line, "\r")
	return line[:min(len(line), 80)]
}
