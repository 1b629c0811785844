package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of POST /api/v1/events.
const (
	MaxEventsBody = 4 << 20 // bytes
	MaxEvents     = 10_000
	maxReason     = 300 // bytes of Refused.Reason
)

// EventsAnswer is the answer to POST /api/v1/events: 202 when all events are in
// Kafka, 207 when some are, 400 when all are malformed, 503 when Kafka has none.
type EventsAnswer struct {
	Accepted int       `json:"accepted"` // events that Kafka has acknowledged
	Refused  []Refused `json:"refused"`  // the others
	Error    string    `json:"error,omitempty"`
}

// Refused is an event that was not accepted.
type Refused struct {
	Index  int    `json:"index"` // in the array or among the lines, from 0
	Reason string `json:"reason"`
	Retry  bool   `json:"retry"` // it may be accepted when it is sent again
}

// serveEvents takes one event, an array of events, or one event per line.
func (t *Telemetry) serveEvents(w http.ResponseWriter, r *http.Request) {
	answer, status, refused := t.takeEvents(w, r)
	w.Header().Set("Content-Type", "application/json")
	if refused != nil {
		t.refuse(r, refused)
		answer = EventsAnswer{Error: refused.Error()}
		setRefused(w, refused)
	} else {
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
	}
	if answer.Refused == nil {
		answer.Refused = []Refused{}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (t *Telemetry) takeEvents(w http.ResponseWriter, r *http.Request) (EventsAnswer, int, *refusal) {
	if refused := t.allow(r.Context(), bearer(r)); refused != nil {
		return EventsAnswer{}, 0, refused
	}
	release, refused := t.enter(w, r)
	if refused != nil {
		return EventsAnswer{}, 0, refused
	}
	defer release()
	body, refused := readBody(w, r, MaxEventsBody)
	if refused != nil {
		return EventsAnswer{}, 0, refused
	}
	raws, err := splitEvents(body)
	if err != nil {
		return EventsAnswer{}, 0, malformed(err)
	}
	events, indexes, problems := readEvents(raws)
	failed := t.produce(r.Context(), events, "/twinline/events")
	for i, err := range failed {
		problems = append(problems, Refused{indexes[i], cut(err.Error()), !kafka.TooLarge(err)})
	}
	slices.SortFunc(problems, func(a, b Refused) int { return a.Index - b.Index })
	answer := EventsAnswer{Accepted: len(events) - len(failed), Refused: problems}
	t.metrics.events.WithLabelValues("events").Add(float64(answer.Accepted))
	return answer, t.judge(r, &answer, away(failed)), nil
}

// judge counts what was refused, and returns the status of the answer.
func (t *Telemetry) judge(r *http.Request, answer *EventsAnswer, away bool) int {
	for _, p := range answer.Refused {
		reason := "malformed"
		if p.Retry {
			reason = "kafka"
		}
		t.metrics.refused.WithLabelValues(reason).Inc()
		if t.logged.First(hostOf(r) + " event " + reason) {
			t.deps.Log.Warn("an event is refused; logged once per source and reason", "source", hostOf(r), "reason", reason, "error", p.Reason)
		}
	}
	switch {
	case len(answer.Refused) == 0:
		return http.StatusAccepted
	case answer.Accepted > 0:
		return http.StatusMultiStatus
	case away:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

var errManyEvents = fmt.Errorf("more than %d events", MaxEvents)

// splitEvents parts a body into events, without looking into them. Of an array
// that is not JSON nothing can be taken; of lines each stands for itself.
func splitEvents(body []byte) ([]json.RawMessage, error) {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return nil, errors.New("the body is empty")
	case body[0] == '[':
		return splitArray(body)
	case json.Valid(body):
		return []json.RawMessage{body}, nil
	}
	var raws []json.RawMessage
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(raws) == MaxEvents {
			return nil, errManyEvents
		}
		raws = append(raws, line)
	}
	return raws, nil
}

func splitArray(body []byte) ([]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("array of events: %w", err)
	}
	var raws []json.RawMessage
	for dec.More() {
		if len(raws) == MaxEvents {
			return nil, errManyEvents
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("array of events: %w", err)
		}
		raws = append(raws, raw)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("array of events: %w", err)
	}
	if dec.More() {
		return nil, errors.New("array of events: there is more behind it")
	}
	return raws, nil
}

// readEvents returns the events that are right, where each was, and what is wrong with the others.
func readEvents(raws []json.RawMessage) (events []twin.Event, indexes []int, problems []Refused) {
	for i, raw := range raws {
		var e twin.Event
		err := e.UnmarshalJSON(raw)
		if err == nil {
			err = history.Check(&e)
		}
		if err != nil {
			problems = append(problems, Refused{Index: i, Reason: cut(err.Error())})
			continue
		}
		events = append(events, e)
		indexes = append(indexes, i)
	}
	return events, indexes, problems
}

func cut(reason string) string { return reason[:min(len(reason), maxReason)] }
