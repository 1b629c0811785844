package reactor

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"

	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/pkg/twin"
)

// inbox holds what came and was not looked at yet. Its methods may be called concurrently.
type inbox struct {
	signal  chan struct{} // something came
	metrics *metrics
	log     *slog.Logger

	mu         sync.Mutex
	rules      *rules
	messages   []message
	complained map[string]bool
}

// message is a sample or a result.
type message struct {
	device twin.DeviceID
	sample *twin.Sample
	result *twin.Result
}

// batch is what one take returns.
type batch struct {
	rules    *rules
	messages []message
}

func (b *inbox) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules, b.messages, b.complained = nil, nil, map[string]bool{}
}

func (b *inbox) take() batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := batch{b.rules, b.messages}
	b.rules, b.messages = nil, nil
	return t
}

// setRules takes the rules; a set that was not looked at yet is replaced.
func (b *inbox) setRules(list []*rule.Rule, problems []twin.Problem) {
	b.mu.Lock()
	b.rules = &rules{list, problems}
	b.mu.Unlock()
	signal(b.signal)
}

// message takes one message of the bus.
func (b *inbox) message(topic string, payload []byte) {
	m, err := parse(topic, payload)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.metrics.malformed.Inc()
		if !b.complained[topic] && len(b.complained) < maxComplaints {
			b.complained[topic] = true
			b.log.Warn("malformed message; further ones of this topic are only counted", "topic", topic, "err", err)
		}
		return
	}
	if len(b.messages) == maxInbox {
		b.messages = b.messages[1:]
		b.metrics.dropped.Inc()
	}
	b.messages = append(b.messages, m)
	signal(b.signal)
}

func parse(topic string, payload []byte) (message, error) {
	id, ok := twin.DeviceOfTopic(topic)
	if !ok {
		return message{}, twin.ErrNoDevice
	}
	if strings.HasSuffix(topic, "/result") && strings.HasPrefix(topic, "twinline/command/") {
		var r twin.Result
		err := json.Unmarshal(payload, &r)
		return message{device: id, result: &r}, err
	}
	var s twin.Sample
	if err := json.Unmarshal(payload, &s); err != nil {
		return message{}, err
	}
	s.Device = id // the topic is what the broker's access list guards
	return message{device: id, sample: &s}, nil
}
