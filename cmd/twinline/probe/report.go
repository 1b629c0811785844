package probe

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// lineReport is what was heard; the JSON of --output json.
type lineReport struct {
	URL        string      `json:"url"`
	Seconds    float64     `json:"seconds"`
	Bytes      int         `json:"bytes"`
	Sent       string      `json:"sent,omitempty"`               // in hexadecimal digits
	Delay      *float64    `json:"answerAfterSeconds,omitempty"` // what came first after it was sent
	Looks      string      `json:"looks"`                        // the bytes, in words
	Chunks     []chunk     `json:"chunks"`
	Candidates []candidate `json:"candidates"` // the likeliest first
}

// chunk is bytes that came together.
type chunk struct {
	At   float64 `json:"at"` // seconds since the line was opened
	Hex  string  `json:"hex"`
	Text string  `json:"text"` // with what is no ASCII as dots
}

// candidate is what the bytes may be.
type candidate struct {
	What      string         `json:"what"`
	Reason    string         `json:"reason"`
	Score     int            `json:"score"` // 0 to 100
	Profile   string         `json:"profile,omitempty"`
	Config    map[string]any `json:"configData"`
	SevenBits string         `json:"sevenBits,omitempty"` // the parity of the 7 data bits that the line is to be opened with
	Frames    int            `json:"frames"`
	Damaged   int            `json:"damaged"`
	Skipped   int            `json:"skippedBytes"`
	Fields    []field        `json:"fields"`
}

// field is a value that was in the frames.
type field struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Unit    string `json:"unit,omitempty"`
	Quality string `json:"quality"`
}

func (o *options) report(h *heard) *lineReport {
	r := &lineReport{
		URL: h.endpoint.String(), Seconds: h.length.Seconds(), Bytes: h.traits.Bytes, Sent: hex.EncodeToString(o.payload), Looks: h.traits.String(),
		Chunks: []chunk{}, Candidates: []candidate{},
	}
	if !h.sent.IsZero() && len(h.chunks) > 0 {
		delay := h.chunks[0].At.Sub(h.sent).Seconds()
		r.Delay = &delay
	}
	for _, c := range h.chunks {
		r.Chunks = append(r.Chunks, chunk{At: c.At.Sub(h.opened).Seconds(), Hex: hex.EncodeToString(c.Data), Text: printable(string(c.Data))})
	}
	for _, c := range h.list {
		one := candidate{What: c.What, Reason: c.Reason, Score: c.Score, Profile: c.Profile(), Config: c.Config, SevenBits: c.SevenBits, Frames: c.Frames, Damaged: c.Damaged, Skipped: c.Skipped, Fields: []field{}}
		for i := range c.Fields {
			f := &c.Fields[i]
			one.Fields = append(one.Fields, field{Name: f.Name, Value: shown(f), Unit: f.Unit, Quality: quality(f.Quality)})
		}
		r.Candidates = append(r.Candidates, one)
	}
	return r
}

// deviceReport is what a device read; with --watch there is one in each line.
type deviceReport struct {
	Device     string     `json:"device"`
	At         time.Time  `json:"at"`
	Error      string     `json:"error,omitempty"` // nothing could be read
	Properties []property `json:"properties"`
}

// property is one reading.
type property struct {
	field
	Time *time.Time `json:"time,omitempty"` // of what a device says by itself: by its clock, or when it came
}

func deviceReportOf(d *twin.Device, readings []twin.Reading) *deviceReport {
	r := &deviceReport{Device: d.ID.String(), At: time.Now().UTC(), Properties: []property{}}
	for i := range readings {
		p := property{field: field{Name: readings[i].Property, Value: readings[i].Value.Text(), Unit: d.Properties[i].Unit, Quality: said(readings[i].Quality)}}
		if !readings[i].Time.IsZero() {
			p.Time = &readings[i].Time
		}
		r.Properties = append(r.Properties, p)
	}
	return r
}

func writeJSON(w io.Writer, report any) error {
	if err := json.NewEncoder(w).Encode(report); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
