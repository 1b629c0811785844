package serial

import (
	"context"
	"sync"
	"time"

	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// said keeps the last that a device said by itself of each property, until it is read.
type said struct {
	config *serial.Config
	fields []*serial.Field

	mu      sync.Mutex
	last    map[string]*utterance
	opening uint64        // of the line, that await saw last
	since   time.Time     // when that was
	news    chan struct{} // closed when something is said; nil: nobody waits
}

// utterance is a property's last value.
type utterance struct {
	reading twin.Reading
	at      time.Time // when it came; zero: never
	fresh   bool      // it was not read yet
}

func newSaid(c *serial.Config) *said { return &said{config: c, last: map[string]*utterance{}} }

// add makes a field known, before the first message.
func (s *said) add(f *serial.Field) {
	s.fields = append(s.fields, f)
	s.last[f.Property] = &utterance{}
}

// handler takes messages; nil where there is nothing to hear.
func (s *said) handler() func(*serial.Message) {
	if len(s.fields) == 0 {
		return nil
	}
	return s.hear
}

// hear takes a message.
func (s *said) hear(m *serial.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	any := false
	for _, f := range s.fields {
		value, quality, has := f.Read(m)
		if !has {
			continue
		}
		any = true
		at, doubt := s.config.Time(m)
		if quality.IsGood() && doubt != "" {
			quality = doubt
		}
		*s.last[f.Property] = utterance{reading: twin.Reading{Property: f.Property, Value: value, Quality: quality, Time: at}, at: m.At, fresh: true}
	}
	if any && s.news != nil {
		close(s.news)
		s.news = nil
	}
}

// await waits for the first words after the line was opened, for up to patience.
func (s *said) await(ctx context.Context, opening uint64, patience time.Duration) {
	s.mu.Lock()
	if opening == s.opening {
		s.mu.Unlock()
		return
	}
	s.opening, s.since = opening, time.Now()
	for _, u := range s.last {
		if u.fresh {
			s.mu.Unlock()
			return
		}
	}
	if s.news == nil {
		s.news = make(chan struct{})
	}
	news := s.news
	s.mu.Unlock()
	timer := time.NewTimer(min(patience, s.config.Silence))
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	}
}

const staleQuality twin.Quality = "bad:stale"

// take returns what was said of a property and was not taken yet.
func (s *said) take(property string, now time.Time) twin.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.last[property]
	if u.fresh {
		u.fresh = false
		return u.reading
	}
	since := s.since
	if u.at.After(since) {
		since = u.at
	}
	if now.Sub(since) > s.config.Silence {
		return twin.Reading{Property: property, Quality: staleQuality}
	}
	return twin.Reading{Property: property, Quality: mapper.NothingNew}
}

// nothing reports whether the device should have spoken by now, and said nothing since then.
func (s *said) nothing(since, now time.Time) bool {
	if len(s.fields) == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.last {
		if u.at.After(since) {
			since = u.at
		}
	}
	return now.Sub(since) > s.config.Silence
}

// forget drops what was said of a property before it was written.
func (s *said) forget(property string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.last[property]; u != nil {
		u.fresh = false
	}
}
