// Command telegrafparse takes a tape apart with Telegraf's parsers. The benchmark builds it in a module with
// Telegraf's own requirements, together with serialside.go.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/plugins/parsers"
	"github.com/influxdata/telegraf/plugins/parsers/binary"
	"github.com/influxdata/telegraf/plugins/parsers/csv"
	"github.com/influxdata/telegraf/plugins/parsers/grok"
	_ "github.com/influxdata/telegraf/plugins/parsers/logfmt"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "telegrafparse:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 5 {
		return errors.New("want a stream with a parser, a file, and how long to warm up and to measure")
	}
	warmUp, err1 := time.ParseDuration(os.Args[3])
	length, err2 := time.ParseDuration(os.Args[4])
	s, err3 := sideOf(os.Args[1])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	return play(s, os.Args[2], warmUp, length)
}

// names are the fields that are taken, in the order of the benchmark's properties.
type names [][]string

func sideOf(stream string) (side, error) {
	switch stream {
	case "nmea-csv":
		p, err := nmeaAsCSV()
		return lines(p, names{{"RMC", "c3", "c5", "c7"}, {"GGA", "", "", "", "c9"}}), err
	case "nmea-grok":
		p, err := nmeaAsGrok()
		return lines(p, names{{"RMC", "lat", "lon", "speed"}, {"GGA", "", "", "", "altitude"}}), err
	case "pairs-logfmt":
		p := parsers.Parsers["logfmt"]("line")
		return lines(p, names{{"", "TEMP", "HUM", "P"}}), initialised(p)
	case "binary-binary":
		p, err := frames()
		return fixed(p, names{{"", "v0", "v1", "v2", "v3", "v4", "v5"}}), err
	}
	return nil, fmt.Errorf("no stream %q", stream)
}

func initialised(p telegraf.Parser) error {
	if i, ok := p.(telegraf.Initializer); ok {
		return i.Init()
	}
	return nil
}

// nmeaAsCSV reads all columns: their number differs, and types are guessed.
func nmeaAsCSV() (telegraf.Parser, error) {
	p := &csv.Parser{MetricName: "nmea", MeasurementColumn: "c0"}
	for i := range 15 {
		p.ColumnNames = append(p.ColumnNames, fmt.Sprintf("c%d", i))
	}
	return p, p.Init()
}

func nmeaAsGrok() (telegraf.Parser, error) {
	p := &grok.Parser{Measurement: "nmea", Patterns: []string{
		`^\$..RMC,[^,]*,A,%{NUMBER:lat:float},[NS],%{NUMBER:lon:float},[EW],%{NUMBER:speed:float},`,
		`^\$..GGA,[^,]*,[^,]*,[NS],[^,]*,[EW],[1-8],[^,]*,[^,]*,%{NUMBER:altitude:float},`,
	}}
	return p, p.Init()
}

// frames reads the six words that the benchmark reads, where the frame begins with its mark.
func frames() (telegraf.Parser, error) {
	c := binary.Config{MetricName: "pms5003", Filter: &binary.Filter{Length: 32, Selection: []binary.BinaryPart{{Offset: 0, Bits: 32, Match: "0x424d001c"}}}}
	c.Entries = append(c.Entries, binary.Entry{Bits: 32, Omit: true})
	for i := range 6 {
		c.Entries = append(c.Entries, binary.Entry{Name: fmt.Sprintf("v%d", i), Type: "uint16", Assignment: "field"})
	}
	p := &binary.Parser{Configs: []binary.Config{c}, Endianness: "be"}
	return p, p.Init()
}

// lines takes lines apart one by one, as inputs.execd and inputs.socket_listener do.
func lines(p telegraf.Parser, n names) side {
	return func(tape io.Reader, found *outcome) error {
		s := bufio.NewScanner(tape)
		for s.Scan() {
			if err := parse(p, n, s.Bytes(), found); err != nil {
				return err
			}
		}
		return s.Err()
	}
}

// fixed takes frames of 32 bytes, as inputs.socket_listener does with a fixed length.
func fixed(p telegraf.Parser, n names) side {
	return func(tape io.Reader, found *outcome) error {
		r := bufio.NewReader(tape)
		var frame [32]byte
		for {
			if _, err := io.ReadFull(r, frame[:]); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if err := parse(p, n, frame[:], found); err != nil {
				return err
			}
		}
	}
}

func parse(p telegraf.Parser, n names, frame []byte, found *outcome) error {
	metrics, err := p.Parse(frame)
	if err != nil {
		return fmt.Errorf("parse %.80q: %w", frame, err)
	}
	for _, m := range metrics {
		found.Frames++
		for _, fields := range n {
			for i, name := range fields[1:] {
				if name != "" && (fields[0] == "" || len(m.Name()) < 6 || m.Name()[3:] == fields[0]) {
					take(m, i, name, found)
				}
			}
		}
	}
	return nil
}

func take(m telegraf.Metric, i int, name string, found *outcome) {
	v, ok := m.GetField(name)
	if !ok {
		return
	}
	switch x := v.(type) {
	case float64:
		found.take(i, x)
	case int64:
		found.take(i, float64(x))
	case uint64:
		found.take(i, float64(x))
	}
}
