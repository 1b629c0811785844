package identify

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/checksum"
	"github.com/twinline/twinline/internal/serial"
)

// maxSearched bounds the bytes in which checks are searched; the rest is read with what was found.
const maxSearched = 8 << 10

// algorithms are the checks that are searched for, the strongest first: those that instruments use.
func algorithms() []checksum.Algorithm {
	var list []checksum.Algorithm
	for _, name := range []string{
		"crc-32/iso-hdlc", "crc-16/modbus", "crc-16/xmodem", "crc-16/ibm-3740", "crc-16/kermit", "crc-16/arc", "crc-16/ibm-sdlc",
		"sum16", "xor8", "sum8", "sum8-twos", "crc-8/smbus", "crc-8/maxim-dow",
	} {
		a, _ := checksum.Find(name)
		list = append(list, a)
	}
	return list
}

// check is one that fits frames.
type check struct {
	algorithm checksum.Algorithm
	from      int
	behind    int // bytes of the frame behind it
	little    bool
	hex       bool
}

func (k *check) width() int {
	w := (k.algorithm.Bits() + 7) / 8
	if k.hex {
		w *= 2
	}
	return w
}

// fits reports whether the check of a frame is right.
func (k *check) fits(frame []byte) bool {
	w := k.width()
	at := len(frame) - k.behind - w
	if at <= k.from {
		return false
	}
	got, want := frame[at:at+w], k.algorithm.Sum(frame[k.from:at])
	if k.hex {
		return strings.EqualFold(string(got), fmt.Sprintf("%0*X", w, want))
	}
	for i := range w {
		shift := 8 * (w - 1 - i)
		if k.little {
			shift = 8 * i
		}
		if got[i] != byte(want>>shift) {
			return false
		}
	}
	return true
}

// config declares it.
func (k *check) config() map[string]any {
	m := map[string]any{"kind": k.algorithm.Name()}
	if k.from != 0 {
		m["from"] = k.from
	}
	if k.behind != 0 {
		m["at"] = -(k.width() + k.behind)
	}
	if k.little {
		m["order"] = "little"
	}
	if k.hex {
		m["encoding"] = "hex"
	}
	return m
}

// searched is a search for a check in frames.
type searched struct {
	froms, behinds []int
	hex            bool // also as digits
}

// find returns the strongest check that is right in nine of ten frames.
func (s searched) find(frames [][]byte) (check, bool) {
	for _, a := range algorithms() {
		for _, behind := range s.behinds {
			for _, from := range s.froms {
				for form := range 3 {
					k := check{algorithm: a, from: from, behind: behind, little: form == 1, hex: form == 2}
					if k.hex && !s.hex || k.little && a.Bits() == 8 {
						continue
					}
					if most(frames, &k) {
						return k, true
					}
				}
			}
		}
	}
	return check{}, false
}

func most(frames [][]byte, k *check) bool {
	wrong := 0
	for _, f := range frames {
		if !k.fits(f) {
			if wrong++; wrong*10 > len(frames) {
				return false
			}
		}
	}
	return len(frames) > 0
}

// different counts frames that are not the same.
func different(frames [][]byte) int {
	seen := map[string]bool{}
	for _, f := range frames {
		seen[string(f)] = true
	}
	return len(seen)
}

// believed is the score of a check of bits that fits so many different frames: among the some hundred that are tried
// one of 8 bits fits a single frame by chance.
func believed(bits, different int) int {
	switch strength := bits * different; {
	case strength >= 32:
		return 94
	case strength >= 24:
		return 85
	case strength >= 16:
		return 72
	}
	return 40
}

// escaped writes bytes as a Device has them.
func escaped(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		switch {
		case c == '\r':
			s.WriteString(`\r`)
		case c == '\n':
			s.WriteString(`\n`)
		case c == '\\' || c == '$':
			s.WriteByte('\\')
			s.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&s, `\x%02x`, c)
		default:
			s.WriteByte(c)
		}
	}
	return s.String()
}

const stx, etx = 0x02, 0x03

// enclosed tries what stands between STX and ETX, with a check behind ETX or before it.
func enclosed(heard []serial.Chunk) (Candidate, bool) {
	b := joined(tail(heard, maxSearched))
	var bodies [][]byte // from STX on, up to the next STX
	for {
		i := bytes.IndexByte(b, stx)
		if i < 0 {
			break
		}
		b = b[i:]
		end := bytes.IndexByte(b[1:], stx) + 1
		if end == 0 {
			end = len(b)
		}
		if bytes.IndexByte(b[:end], etx) > 0 {
			bodies = append(bodies, b[:end])
		}
		b = b[end:]
	}
	if len(bodies) == 0 {
		return Candidate{}, false
	}
	framing := map[string]any{"kind": "between", "start": `\x02`, "end": `\x03`}
	config := map[string]any{"framing": framing}
	what, how, best := "what stands between STX and ETX", "an STX and an ETX", 62
	if len(bodies) < 2 {
		best = 45
	}
	if k, to, after, n := enclosing(bodies); n > 0 && believed(k.algorithm.Bits(), n) > best {
		best = believed(k.algorithm.Bits(), n)
		what = fmt.Sprintf("frames from STX to ETX with the check %s", k.algorithm.Name())
		how = fmt.Sprintf("an STX, an ETX and a right %s (of %s)", k.algorithm.Name(), rangeOf(k.from, to))
		declared := k.config()
		if delete(declared, "at"); to != 0 {
			declared["to"] = to
		}
		if after > 0 {
			framing["after"] = after
		}
		config["check"] = declared
	}
	return framed(what, how, best, config, heard, func(data [][]byte) []Field { return textual(data) })
}

func rangeOf(from, to int) string {
	switch {
	case from == 0 && to == 0:
		return "all before it"
	case from == 0:
		return "STX and the content"
	case to == 0:
		return "the content and ETX"
	}
	return "the content"
}

// enclosing searches the check of frames from STX on. It returns it, where what it covers ends, how many
// bytes stand behind ETX, and in how many different frames it is right.
func enclosing(bodies [][]byte) (k check, to, after, n int) {
	for _, width := range []int{4, 2, 1} {
		for _, withETX := range []bool{true, false} {
			var frames [][]byte
			for _, body := range bodies {
				end := bytes.IndexByte(body, etx)
				if len(body) < end+1+width { // of the last the check may not have come yet
					continue
				}
				frame := bytes.Clone(body[:end+1+width])
				if !withETX {
					frame = append(frame[:end:end], frame[end+1:]...)
				}
				frames = append(frames, frame)
			}
			k, ok := searched{froms: []int{1, 0}, behinds: []int{0}, hex: true}.find(frames)
			if !ok || k.width() != width {
				continue
			}
			if !withETX {
				to = -(width + 1)
			}
			return k, to, width, different(frames)
		}
	}
	var frames [][]byte
	for _, body := range bodies {
		frames = append(frames, body[:bytes.IndexByte(body, etx)+1])
	}
	if k, ok := (searched{froms: []int{1, 0}, behinds: []int{1}, hex: true}).find(frames); ok {
		return k, 0, 0, different(frames)
	}
	return check{}, 0, 0, 0
}

// framed makes a Candidate of a framing, by what a Device with it would read.
func framed(what, how string, best int, config map[string]any, heard []serial.Chunk, fields func(data [][]byte) []Field) (Candidate, bool) {
	t, err := serial.Try(maps.Clone(config), heard, false)
	if err != nil || t.Frames == 0 {
		return Candidate{}, false
	}
	bad := t.Damaged
	if t.Cut && bad > 0 {
		bad--
	}
	return Candidate{
		What: what, Reason: fmt.Sprintf("%d of %s %s %s", t.Frames, count(t.Frames+bad, "frame"), has(t.Frames+bad), how),
		Score: score(best, t.Frames, bad, share(&t)), Config: config,
		Frames: t.Frames, Damaged: t.Damaged, Skipped: t.Skipped, Fields: fields(t.Data),
	}, true
}

// textual returns the fields of contents that are text, one to a frame.
func textual(data [][]byte) []Field {
	t := split(append(bytes.Join(data, []byte("\n")), '\n'))
	if len(t.lines) != len(data) {
		return words(data, 0, 0)
	}
	var best Candidate
	for _, try := range []func([]serial.Chunk) (Candidate, bool){t.documents, t.pairs, t.columns, t.plain} {
		if c, ok := try(nil); ok && c.Score > best.Score && c.Damaged == 0 {
			best = c
		}
	}
	if len(best.Fields) == 0 {
		return words(data, 0, 0)
	}
	return best.Fields
}

// maxWords bounds the numbers that are guessed in a frame of bytes.
const maxWords = 32

// words reads frames as numbers of 16 bits from a place on, up to behind bytes before the end of the shortest.
func words(data [][]byte, from, behind int) []Field {
	end := len(data[0])
	for _, d := range data {
		end = min(end, len(d))
	}
	f := &fieldSet{at: map[string]int{}}
	last := data[len(data)-1]
	for at := from; at+2 <= end-behind && len(f.list) < maxWords; at += 2 {
		value := int(last[at])<<8 | int(last[at+1])
		f.see(fmt.Sprintf("at%d", at), fmt.Sprint(value), "", map[string]any{"at": at, "type": "uint16"})
	}
	return f.list
}

// silent tries bursts with silences between them.
func silent(heard []serial.Chunk) (Candidate, bool) {
	var bursts [][]byte
	var last time.Time
	least := time.Duration(0)
	for _, c := range heard {
		gap := c.At.Sub(last)
		if len(bursts) == 0 || gap >= BurstGap {
			if len(bursts) > 0 && (least == 0 || gap < least) {
				least = gap
			}
			bursts = append(bursts, nil)
		}
		last = c.At
		bursts[len(bursts)-1] = append(bursts[len(bursts)-1], c.Data...)
	}
	if len(bursts) < 3 {
		return Candidate{}, false
	}
	gap := max(least/2, BurstGap/2).Truncate(time.Millisecond)
	config := map[string]any{"framing": map[string]any{"kind": "silence", "gap": gap.String()}}
	what, how, best, behind := "bursts between silences", fmt.Sprintf("at least %s of silence behind them", least.Round(time.Millisecond)), 40, 0
	if k, ok := (searched{froms: []int{0, 1}, behinds: []int{0}}).find(bursts); ok && believed(k.algorithm.Bits(), different(bursts)) > best {
		best, behind = believed(k.algorithm.Bits(), different(bursts)), k.width()
		config["check"] = k.config()
		what = "bursts between silences, " + k.algorithm.Name() + " fits"
		how = "a right " + k.algorithm.Name() + " at their end"
		if k.algorithm.Name() == "crc-16/modbus" && k.little && k.from == 0 {
			what += ": it may be Modbus RTU (protocolName: modbus)"
			best += 4 // rather this than frames of a fixed length
		}
	}
	return framed(what, how, best, config, heard, func(data [][]byte) []Field { return words(data, 0, behind) })
}
