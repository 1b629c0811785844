package serial

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"path"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/twinline/twinline/internal/dsmr"
	"github.com/twinline/twinline/internal/iec62056"
	"github.com/twinline/twinline/internal/nmea"
	"github.com/twinline/twinline/internal/serialport"
	"github.com/twinline/twinline/internal/sml"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/internal/toledo"
)

//go:embed profiles/*.yaml
var profileFiles embed.FS

// profile is what one name stands for.
type profile struct {
	name      string
	title     string
	keys      map[string]any    // of the device's configData
	fields    map[string]any    // named visitors
	numbers   map[string]any    // keys of every visitor of a number
	usual     serialport.Config // settings of the line
	decodes   bool              // by dissector; else the fields say where their values are
	dissector dissector
	dialog    bool // of IEC 62056-21
}

// profileFile is one of profiles/*.yaml.
type profileFile struct {
	Title   string         `json:"title"`
	Source  string         `json:"source"`  // the specification that it follows
	Line    string         `json:"line"`    // usual settings, as the query of a URL
	Decode  string         `json:"decode"`  // the dissector that takes its frames apart
	Config  map[string]any `json:"config"`  // keys of the device's configData
	Fields  map[string]any `json:"fields"`  // what visitors may name as field: keys of a visitor
	Numbers map[string]any `json:"numbers"` // keys of every visitor of an INT, FLOAT or DOUBLE
}

// dissector takes the frames of a profile apart.
type dissector struct {
	all func() decoder
	// only reads some fields alone; nil: that is not cheaper.
	only func(fields []string) decoder
}

// dissectors are known to profiles by their names.
func dissectors() map[string]dissector {
	plain := func(d decoder) dissector { return dissector{all: func() decoder { return d }} }
	return map[string]dissector{
		"nmea": {
			all:  func() decoder { return sentences(nmea.New()) },
			only: func(fields []string) decoder { return sentences(nmea.Only(fields...)) },
		},
		"iec62056": plain(iec62056.DecodeMessage),
		"dsmr":     plain(dsmr.Decode),
		"sml":      plain(sml.Decode),
		"toledo":   plain(toledo.Decode),
	}
}

func sentences(d *nmea.Decoder) decoder {
	return func(frame []byte) (telegram.Telegram, error) { return d.Decode(sentence(frame)) }
}

// damaged reports whether a decoder refused a frame for its check.
func damaged(err error) bool {
	return errors.Is(err, nmea.ErrChecksum) || errors.Is(err, dsmr.ErrChecksum) || errors.Is(err, sml.ErrChecksum) || errors.Is(err, iec62056.ErrDamaged)
}

// sentence cuts a line down to the NMEA sentence in it: noise may stand before.
func sentence(line []byte) []byte {
	line = bytes.TrimRight(line, "\r\n")
	for _, start := range []byte{'$', '!'} {
		if i := bytes.LastIndexByte(line, start); i >= 0 {
			return line[i:]
		}
	}
	return line
}

// ProfileNames lists the profiles.
func ProfileNames() []string {
	entries, _ := profileFiles.ReadDir("profiles") // embedded: it is there
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// profileOf reads a profile; false if there is none of the name.
func profileOf(name string) (profile, bool) {
	for _, known := range ProfileNames() {
		if strings.EqualFold(known, name) {
			p, err := readProfile(known)
			return p, err == nil
		}
	}
	return profile{}, false
}

func readProfile(name string) (profile, error) {
	var file profileFile
	data, err := profileFiles.ReadFile(path.Join("profiles", name+".yaml"))
	if err == nil {
		err = yaml.UnmarshalStrict(bytes.TrimSpace(data), &file)
	}
	if err != nil {
		return profile{}, fmt.Errorf("profile %s: %w", name, err)
	}
	p := profile{name: name, title: file.Title, keys: file.Config, fields: file.Fields, numbers: file.Numbers, usual: defaults()}
	if file.Decode != "" {
		if p.dissector, p.decodes = dissectors()[file.Decode]; !p.decodes {
			return p, fmt.Errorf("profile %s: no dissector %q", name, file.Decode)
		}
	}
	p.dialog = file.Decode == "iec62056"
	if file.Line != "" {
		e, wrong := parseURL("serial:///dev/null?"+file.Line, p.usual)
		if wrong != nil {
			return p, fmt.Errorf("profile %s: %s", name, wrong.what)
		}
		p.usual = e.Settings
		p.usual.Path = ""
	}
	return p, nil
}
