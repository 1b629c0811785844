package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/twinline/twinline/pkg/twin"
)

// stream is one kind of what instruments send by themselves, and how it is declared.
type stream struct {
	name, title string
	tape        func(r *rand.Rand) (data []byte, frames int)
	device      map[string]any // configData
	properties  []twin.Property
	plain       side     // the loop that one writes by hand
	plainly     string   // what it is made of
	peers       []string // Telegraf's parsers
	unlike      int      // properties, from the first on, whose values the peers leave as they are sent
}

// frameCount is how many frames a tape has.
const frameCount = 4096

func streams() []stream {
	return []stream{
		{
			name: "nmea", title: "NMEA 0183: RMC and GGA by turns, of which latitude, longitude, speed and altitude",
			tape: sentences, device: map[string]any{"profile": "nmea"},
			properties: properties("field", "RMC.latitude", "RMC.longitude", "RMC.speed", "GGA.altitude"),
			plain:      plainSentences, plainly: "bufio.Scanner, regexp", peers: []string{"grok", "csv"}, unlike: 2,
		},
		{
			name: "pairs", title: "lines TEMP=20.5 HUM=40.1 P=1013.2, three values",
			tape: pairs, device: map[string]any{}, properties: properties("name", "TEMP", "HUM", "P"),
			plain: plainPairs, plainly: "bufio.Scanner, regexp", peers: []string{"logfmt"},
		},
		{
			name: "binary", title: "frames of a PMS5003, six numbers of 16 bits",
			tape: frames,
			device: map[string]any{
				"framing": map[string]any{"kind": "length", "start": "BM", "offset": 2, "width": 2, "adjust": 4},
				"check":   map[string]any{"kind": "sum16"},
			},
			properties: words(6),
			plain:      plainFrames, plainly: "io.ReadFull, encoding/binary", peers: []string{"binary"},
		},
	}
}

// properties declares numbers that are found by key.
func properties(key string, names ...string) []twin.Property {
	var list []twin.Property
	for i, name := range names {
		list = append(list, twin.Property{Name: fmt.Sprint("v", i), Type: twin.TypeDouble, Visitor: map[string]any{key: name}})
	}
	return list
}

// words declares numbers of 16 bits, from the fourth byte on.
func words(n int) []twin.Property {
	var list []twin.Property
	for i := range n {
		list = append(list, twin.Property{Name: fmt.Sprint("v", i), Type: twin.TypeInt, Visitor: map[string]any{"at": 4 + 2*i, "type": "uint16"}})
	}
	return list
}

// declared returns the device of a stream.
func (s *stream) declared() *twin.Device {
	s.device["url"] = "serial:///dev/null"
	return &twin.Device{ID: twin.DeviceID{Namespace: "default", Name: s.name}, Protocol: "serial", Config: s.device, Properties: s.properties}
}

func sentences(r *rand.Rand) ([]byte, int) {
	var b bytes.Buffer
	for i := range frameCount / 2 {
		clock := fmt.Sprintf("%02d%02d%02d.00", i/3600%24, i/60%60, i%60)
		place := fmt.Sprintf("%02d%07.4f,N,%03d%07.4f,E", r.IntN(90), 60*r.Float64()*0.999, r.IntN(180), 60*r.Float64()*0.999)
		sentence(&b, fmt.Sprintf("GPRMC,%s,A,%s,%05.1f,%05.1f,250326,003.1,W", clock, place, 30*r.Float64(), 359*r.Float64()))
		sentence(&b, fmt.Sprintf("GPGGA,%s,%s,1,%02d,%.1f,%.1f,M,46.9,M,,", clock, place, 4+r.IntN(8), 0.8+r.Float64(), 900*r.Float64()))
	}
	return b.Bytes(), frameCount
}

// sentence writes a sentence with its checksum.
func sentence(b *bytes.Buffer, text string) {
	var sum byte
	for _, c := range []byte(text) {
		sum ^= c
	}
	fmt.Fprintf(b, "$%s*%02X\r\n", text, sum)
}

func pairs(r *rand.Rand) ([]byte, int) {
	var b bytes.Buffer
	for range frameCount {
		fmt.Fprintf(&b, "TEMP=%.1f HUM=%.1f P=%.1f\n", 15+10*r.Float64(), 30+40*r.Float64(), 990+40*r.Float64())
	}
	return b.Bytes(), frameCount
}

// frames are of the sensor's manual: 42 4D, the length 28, 13 numbers, and the sum of all bytes before.
func frames(r *rand.Rand) ([]byte, int) {
	var b []byte
	for range frameCount {
		from := len(b)
		b = append(b, 0x42, 0x4d, 0, 28)
		for range 13 {
			b = binary.BigEndian.AppendUint16(b, uint16(r.IntN(500)))
		}
		var sum uint16
		for _, c := range b[from:] {
			sum += uint16(c)
		}
		b = binary.BigEndian.AppendUint16(b, sum)
	}
	return b, frameCount
}
