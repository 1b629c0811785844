package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/twinline/twinline/internal/bus/bustest"
	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/spool"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) {
	if runVictim() {
		return
	}
	goleak.VerifyTestMain(m)
}

// memoryBus is a bus without a network that keeps retained messages.
type memoryBus struct {
	*bustest.Memory
	mu       sync.Mutex
	retained map[string][]byte
	links    int // retained messages published
}

func newMemoryBus() *memoryBus {
	return &memoryBus{Memory: bustest.NewMemory(), retained: map[string][]byte{}}
}

func (b *memoryBus) PublishRetained(ctx context.Context, topic string, payload []byte) error {
	if err := b.Publish(ctx, topic, payload); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retained[topic] = payload
	b.links++
	return nil
}

// link returns the retained link state of the node.
func (b *memoryBus) link(t *testing.T) (state twin.LinkState, ok bool) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	payload, ok := b.retained[twin.LinkTopic("edge-1")]
	if ok {
		require.NoError(t, json.Unmarshal(payload, &state))
	}
	return state, ok
}

// cloud is a telemetry service that fails as it is told.
type cloud struct {
	codec *forward.Codec

	mu       sync.Mutex
	fault    func(b *forward.Batch) (ack *forward.Ack, err error, lose bool)
	batches  []forward.Batch
	stored   []twin.Sample
	times    []time.Time
	inFlight int
}

func newCloud() *cloud { return &cloud{codec: forward.NewCodec(1)} }

var errAway = errors.New("connection refused")

// Send implements Sender. fault may answer instead of the cloud, and with lose
// after the cloud has stored the batch.
func (c *cloud) Send(ctx context.Context, encoded []byte) (forward.Ack, error) {
	b, err := c.codec.Decode(encoded)
	if err != nil {
		return forward.Ack{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inFlight++; c.inFlight > 1 {
		return forward.Ack{}, errors.New("two batches in flight")
	}
	defer func() { c.inFlight-- }()
	var instead *forward.Ack
	var lose bool
	if c.fault != nil {
		instead, err, lose = c.fault(&b)
	}
	c.times = append(c.times, time.Now())
	if (instead == nil && err == nil) || lose {
		c.batches = append(c.batches, b)
		c.stored = append(c.stored, b.Samples...)
	}
	if err != nil {
		return forward.Ack{}, err
	}
	if instead != nil {
		return *instead, nil
	}
	return forward.Ack{Stream: b.Stream, Last: b.Last}, ctx.Err()
}

func (c *cloud) setFault(f func(b *forward.Batch) (*forward.Ack, error, bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

func away(*forward.Batch) (*forward.Ack, error, bool) { return nil, errAway, false }

// samples returns what the cloud has stored, with doubles.
func (c *cloud) samples() []twin.Sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]twin.Sample(nil), c.stored...)
}

// distinct removes the doubles as storage does, and returns the sequences per
// device. It checks that each device's new samples came in order.
func (c *cloud) distinct(t require.TestingT) map[string][]uint64 {
	seen := map[string]bool{}
	got := map[string][]uint64{}
	for _, s := range c.samples() {
		name := fmt.Sprint(s.Device, s.Epoch, s.Seq)
		if seen[name] {
			continue
		}
		seen[name] = true
		got[s.Device.String()] = append(got[s.Device.String()], s.Seq)
	}
	return got
}

// fixture is an uplink between a memory bus and a fake cloud.
type fixture struct {
	t     *testing.T
	bus   *memoryBus
	cloud *cloud
	cfg   Config
	up    *Uplink

	mu      sync.Mutex
	full    bool // the disk
	forgot  bool // a process ended with samples that it could not store
	acked   map[twin.DeviceID]twin.Position
	ackTime []time.Time
}

func newFixture(t *testing.T, change func(*Config)) *fixture {
	f := &fixture{t: t, bus: newMemoryBus(), cloud: newCloud(), acked: map[twin.DeviceID]twin.Position{}}
	f.cfg = Config{Node: "edge-1", Dir: t.TempDir(), Linger: 100 * time.Millisecond}
	if change != nil {
		change(&f.cfg)
	}
	_, err := f.bus.Subscribe(twin.AckTopic("edge-1"), f.onAck)
	require.NoError(t, err)
	f.renew()
	t.Cleanup(f.bus.Close)
	return f
}

// renew makes an uplink as a new process would.
func (f *fixture) renew() {
	up, err := New(f.cfg, Deps{Bus: f.bus, Sender: f.cloud, Open: f.open})
	require.NoError(f.t, err)
	f.up = up
}

func (f *fixture) start() {
	require.NoError(f.t, f.up.Start(f.t.Context()))
	f.t.Cleanup(f.up.Stop)
}

func (f *fixture) open() (Store, error) {
	s, err := spool.Open(spool.Config{Dir: f.cfg.Dir, MaxBytes: 8 << 20, CommitWindow: -1})
	return fullStore{s, f}, err
}

// fullStore is a spool on a disk that may be full.
type fullStore struct {
	*spool.Spool
	f *fixture
}

func (s fullStore) Append(ctx context.Context, records ...spool.Record) (uint64, error) {
	s.f.mu.Lock()
	full := s.f.full
	s.f.mu.Unlock()
	if full {
		return 0, unix.ENOSPC
	}
	return s.Spool.Append(ctx, records...)
}

func (f *fixture) setFull(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

func (f *fixture) onAck(_ string, payload []byte) {
	var ack twin.Ack
	require.NoError(f.t, json.Unmarshal(payload, &ack))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ackTime = append(f.ackTime, time.Now())
	for id, p := range ack.Acks {
		f.acked[id] = p
	}
}

func (f *fixture) position(device string) twin.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acked[device1(device)]
}

func device1(name string) twin.DeviceID { return twin.DeviceID{Namespace: "plant", Name: name} }

func sampleOf(device string, epoch, seq uint64) twin.Sample {
	return twin.Sample{
		Device: device1(device), Epoch: epoch, Seq: seq, Time: time.UnixMicro(1_767_323_045_000_000 + int64(seq)).UTC(),
		Readings: []twin.Reading{{Property: "level", Value: twin.IntValue(int64(seq))}, {Property: "state", Value: twin.StringValue("on")}},
	}
}

// publish puts samples on the bus.
func (f *fixture) publish(device string, epoch uint64, seqs ...uint64) {
	for _, seq := range seqs {
		s := sampleOf(device, epoch, seq)
		require.NoError(f.t, f.bus.Publish(f.t.Context(), twin.TelemetryTopic(s.Device), s.AppendJSON(nil)))
	}
}

// sequence returns the numbers from first to last.
func sequence(first, last uint64) []uint64 {
	var all []uint64
	for n := first; n <= last; n++ {
		all = append(all, n)
	}
	return all
}

// faults answers as a cloud on a bad day, the same for the same seed.
func faults(seed uint64, rounds int) func(b *forward.Batch) (*forward.Ack, error, bool) {
	r := rand.New(rand.NewPCG(seed, 0))
	return func(b *forward.Batch) (*forward.Ack, error, bool) {
		if rounds--; rounds < 0 {
			return nil, nil, false
		}
		switch r.IntN(8) {
		case 0: // away
			return nil, errAway, false
		case 1: // stored, and the answer is lost
			return nil, errAway, true
		case 2: // Kafka is away
			return &forward.Ack{Stream: b.Stream, Last: b.First - 1, Error: "Kafka is away", Retry: true}, nil, false
		case 3: // stored, and yet it says that it is not
			return &forward.Ack{Stream: b.Stream, Last: b.First - 1, Error: "timeout", Retry: true}, nil, true
		case 4: // a part is acknowledged
			if b.IsHeartbeat() {
				return nil, nil, false
			}
			return &forward.Ack{Stream: b.Stream, Last: b.First + (b.Last-b.First)/2}, nil, true
		case 5: // somebody else's answer
			return &forward.Ack{Stream: "other/0", Last: b.Last + 100}, nil, false
		case 6:
			if len(b.Samples) < 2 {
				return nil, nil, false
			}
			return nil, &forward.SendError{Code: forward.CodeTooLarge, Err: errors.New("413")}, false
		}
		return nil, nil, false
	}
}
