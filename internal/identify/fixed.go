package identify

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/twinline/twinline/internal/serial"
)

// Bounds of frames of a fixed length.
const (
	minSize  = 4
	maxSize  = 256
	maxMagic = 12 // beginnings that are tried for a length
)

// magic is two bytes that come again at a distance.
type magic struct {
	bytes    [2]byte
	size     int
	times    int
	starting int // of them, how many begin a burst
	first    int
}

// fixed tries frames of equal length that begin with the same two bytes.
func fixed(heard []serial.Chunk) (Candidate, bool) {
	recent := tail(heard, maxSearched)
	b := joined(recent)
	if t := split(b); t.printable > 0.9 && len(t.lines) > 0 {
		return Candidate{}, false // text of equal length
	}
	var loose *magic
	for _, m := range magics(b, starts(recent)) {
		frames := m.frames(b)
		k, ok := searched{froms: []int{0, 1, 2}, behinds: []int{0, 1, 2}}.find(frames)
		if ok && k.behind > 0 && !sameEnd(frames, k.behind) {
			ok = false
		}
		score := believed(k.algorithm.Bits(), different(frames))
		if ok && score > 40 {
			return m.candidate(&k, score, frames[0], heard)
		}
		if loose == nil {
			loose = &m
		}
	}
	if loose == nil || loose.times < 4 {
		return Candidate{}, false
	}
	return loose.candidate(nil, 50, loose.frames(b)[0], heard)
}

// starts are the positions at which bursts begin.
func starts(heard []serial.Chunk) map[int]bool {
	at := map[int]bool{}
	n := 0
	for i, c := range heard {
		if i > 0 && c.At.Sub(heard[i-1].At) >= BurstGap {
			at[n] = true
		}
		n += len(c.Data)
	}
	return at
}

// magics finds what comes again at one distance: what begins bursts first, then what comes most often, then the shortest frames.
func magics(b []byte, starts map[int]bool) []magic {
	places := map[[2]byte][]int{}
	for i := range len(b) - 1 {
		two := [2]byte{b[i], b[i+1]}
		places[two] = append(places[two], i)
	}
	var list []magic
	for two, at := range places {
		if size, times := distance(at); times >= 2 && times*10 >= (len(at)-1)*6 {
			m := magic{bytes: two, size: size, times: times + 1, first: at[0]}
			for _, i := range at {
				if starts[i] {
					m.starting++
				}
			}
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b magic) int {
		return cmp.Or(cmp.Compare(b.starting, a.starting), cmp.Compare(b.times, a.times), cmp.Compare(a.size, b.size), cmp.Compare(a.first, b.first))
	})
	tried := map[int]int{}
	return slices.DeleteFunc(list, func(m magic) bool {
		tried[m.size]++
		return tried[m.size] > maxMagic || len(tried) > 3
	})
}

// distance returns the distance that is most common, and how often it is there.
func distance(at []int) (size, times int) {
	often := map[int]int{}
	for i := 1; i < len(at); i++ {
		d := at[i] - at[i-1]
		if d < minSize || d > maxSize {
			continue
		}
		often[d]++
		if n := often[d]; n > times || n == times && d < size {
			size, times = d, n
		}
	}
	return size, times
}

// frames are the frames that begin so and are followed by another, or by the end.
func (m *magic) frames(b []byte) [][]byte {
	var list [][]byte
	for i := m.first; i+m.size <= len(b); {
		if b[i] != m.bytes[0] || b[i+1] != m.bytes[1] {
			i++
			continue
		}
		list = append(list, b[i:i+m.size])
		i += m.size
	}
	return list
}

// sameEnd reports whether the last n bytes of all frames are the same.
func sameEnd(frames [][]byte, n int) bool {
	end := func(f []byte) string { return string(f[len(f)-n:]) }
	return !slices.ContainsFunc(frames, func(f []byte) bool { return end(f) != end(frames[0]) })
}

// candidate declares frames that begin so, with a check if there is one.
func (m *magic) candidate(k *check, best int, frame []byte, heard []serial.Chunk) (Candidate, bool) {
	framing := map[string]any{"kind": "fixed", "size": m.size, "start": escaped(m.bytes[:])}
	config := map[string]any{"framing": framing}
	what := fmt.Sprintf("fixed %d bytes, starts with % X", m.size, m.bytes[:])
	how, behind := "that length and beginning, but no common checksum fits", 0
	if k != nil {
		if k.behind > 0 {
			framing["end"] = escaped(frame[m.size-k.behind:])
		}
		what += ", " + k.algorithm.Name() + " fits"
		how = fmt.Sprintf("a right %s of the bytes from %d on", k.algorithm.Name(), k.from)
		config["check"], behind = k.config(), k.width()+k.behind
	}
	return framed(what, how, best, config, heard, func(data [][]byte) []Field { return words(data, 2, behind) })
}
