package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Topics of the local bus, as docs/ARCHITECTURE.md has them. The suite knows
// the contracts on the wire only, and none of Twinline's packages.
const (
	allTelemetry = "twinline/telemetry/#"
	allAcks      = "twinline/ack/#"
)

// position names a sample of a device for ever.
type position struct{ Epoch, Seq uint64 }

// key names a sample.
type key struct {
	device string
	position
}

func (k key) String() string { return fmt.Sprintf("%s (%d, %d)", k.device, k.Epoch, k.Seq) }

// sample is what a mapper published.
type sample struct {
	Time    time.Time                  `json:"time"`
	Values  map[string]json.RawMessage `json:"values"`
	Quality map[string]string          `json:"quality"`
}

// recorder keeps all samples and acknowledgements of one namespace on a broker.
type recorder struct {
	namespace string

	mu      sync.Mutex
	samples map[key]sample
	acked   map[string]position // of each device the furthest: it acknowledges all before it too, of earlier epochs as well
	wrong   []error             // messages that break the contract
}

// record subscribes before anything is published.
func record(t *testing.T, broker, namespace string) *recorder {
	t.Helper()
	r := &recorder{namespace: namespace, samples: map[key]sample{}, acked: map[string]position{}}
	subscribe := func(c mqtt.Client) {
		c.Subscribe(allTelemetry, 1, func(_ mqtt.Client, m mqtt.Message) { r.note(r.takeSample(m)) })
		c.Subscribe(allAcks, 1, func(_ mqtt.Client, m mqtt.Message) { r.note(r.takeAck(m)) })
	}
	// The session is kept, so that nothing passes by while the recorder is not connected.
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("recorder-" + namespace).
		SetCleanSession(false).SetMaxReconnectInterval(time.Second).SetOnConnectHandler(subscribe))
	if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("connect recorder to %s: %v", broker, token.Error())
	}
	t.Cleanup(func() {
		client.Unsubscribe(allTelemetry, allAcks).WaitTimeout(5 * time.Second)
		client.Disconnect(250)
	})
	return r
}

func (r *recorder) note(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, err)
}

func (r *recorder) takeSample(m mqtt.Message) error {
	device := strings.TrimPrefix(m.Topic(), strings.TrimSuffix(allTelemetry, "#"))
	if !strings.HasPrefix(device, r.namespace+"/") {
		return nil
	}
	var s struct {
		Device     string
		Epoch, Seq uint64
		sample
	}
	if err := json.Unmarshal(m.Payload(), &s); err != nil {
		return fmt.Errorf("sample on %s: %w: %.200s", m.Topic(), err, m.Payload())
	}
	if s.Device != device || s.Epoch == 0 || s.Seq == 0 {
		return fmt.Errorf("sample on %s: %.200s", m.Topic(), m.Payload())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{device, position{s.Epoch, s.Seq}}
	if before, again := r.samples[k]; again && !same(before, s.sample) {
		return fmt.Errorf("sample %s came again with other readings: %.200s", k, m.Payload())
	}
	r.samples[k] = s.sample
	return nil
}

// same reports whether a sample that came again says what it said before.
func same(a, b sample) bool {
	return a.Time.Equal(b.Time) && maps.Equal(a.Quality, b.Quality) &&
		maps.EqualFunc(a.Values, b.Values, func(x, y json.RawMessage) bool { return string(x) == string(y) })
}

func (r *recorder) takeAck(m mqtt.Message) error {
	var ack struct{ Acks map[string]position }
	if err := json.Unmarshal(m.Payload(), &ack); err != nil {
		return fmt.Errorf("acknowledgement on %s: %w: %.200s", m.Topic(), err, m.Payload())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for device, p := range ack.Acks {
		if !strings.HasPrefix(device, r.namespace+"/") {
			continue
		}
		if r.acked[device].before(p) {
			r.acked[device] = p
		}
	}
	return nil
}

// acknowledged returns the samples that an uplink has said to have, and how
// many were published.
func (r *recorder) acknowledged() (acked map[key]sample, published int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acked = map[key]sample{}
	for k, s := range r.samples {
		if !r.acked[k.device].before(k.position) {
			acked[k] = s
		}
	}
	return acked, len(r.samples)
}

// before reports whether p comes before q in a device's sequence.
func (p position) before(q position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Seq < q.Seq
}

// latest returns the newest sample of a device.
func (r *recorder) latest(device string) (key, sample, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var best key
	for k := range r.samples {
		if k.device == device && (k.Epoch > best.Epoch || k.Epoch == best.Epoch && k.Seq > best.Seq) {
			best = k
		}
	}
	return best, r.samples[best], best.device != ""
}

// of returns all samples of a device.
func (r *recorder) of(device string) map[key]sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[key]sample{}
	for k, s := range r.samples {
		if k.device == device {
			out[k] = s
		}
	}
	return out
}

// check reports messages that broke the contract.
func (r *recorder) check(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, err := range r.wrong {
		if i == 10 {
			t.Errorf("and %d more", len(r.wrong)-i)
			break
		}
		t.Error(err)
	}
}
