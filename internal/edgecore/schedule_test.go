package edgecore_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/pkg/twin"
)

// schedule is a run of a small plant with faults of every kind, and the
// check after it: within one re-report cycle all twins are those of the devices.
type schedule struct {
	*bench
	rng     *rand.Rand
	devices []*twin.Device
	last    map[twin.DeviceID]map[string]string // what each device shows; none: bad
	states  map[twin.DeviceID]twin.DeviceState
}

const reannounce = 2 * time.Minute

func (s *schedule) n(most int) int { return s.rng.IntN(most) }

func newSchedule(seed uint64, devices, properties int) (*schedule, func()) {
	b, end := newBench(seed, edgecore.Config{Reannounce: reannounce})
	s := &schedule{
		bench: b, rng: rand.New(rand.NewPCG(seed, 2)),
		last: map[twin.DeviceID]map[string]string{}, states: map[twin.DeviceID]twin.DeviceState{},
	}
	for i := range devices {
		d := &twin.Device{ID: twin.DeviceID{Namespace: "plant", Name: fmt.Sprint("d", i)}}
		for j := range properties {
			d.Properties = append(d.Properties, twin.Property{
				Name: fmt.Sprint("p", j), ReportToCloud: true,
				Type:        []twin.Type{twin.TypeInt, twin.TypeString, twin.TypeDouble, twin.TypeBoolean}[s.n(4)],
				ReportCycle: time.Duration(1+s.n(5000)) * time.Millisecond,
			})
		}
		s.devices = append(s.devices, d)
		s.last[d.ID] = map[string]string{}
		if s.n(4) > 0 {
			b.addMember(d.ID, false)
		}
		if s.n(3) == 0 { // EdgeCore knows a property of another type from before
			b.twins[d.ID.String()] = map[string]shown{"p0": {"1", []string{"int", "boolean", "string"}[s.n(3)]}}
		}
	}
	b.slowness = time.Duration(s.n(2000)) * time.Millisecond
	return s, end
}

// step does one thing to the plant.
func (s *schedule) step() {
	d := s.devices[s.n(len(s.devices))]
	switch k := s.n(100); {
	case k < 70:
		s.report(d)
	case k < 78:
		s.states[d.ID] = []twin.DeviceState{twin.Online, twin.Offline, twin.Unhealthy}[s.n(3)]
		s.State(d, s.states[d.ID])
	case k < 81:
		s.set(func() { s.away = !s.away })
	case k < 84:
		s.set(func() { s.link = false })
	case k < 87:
		s.linkUp()
	case k < 90:
		s.bus.SetUp(!s.bus.Connected())
	case k < 92:
		s.dropMember(d.ID)
	case k < 94 && s.bus.Connected():
		s.addMember(d.ID, s.n(2) == 0)
	case k < 96:
		s.set(func() { s.deaf, s.mute = s.rng.Float64()/2, s.rng.Float64()/2 })
	case k < 97:
		s.set(func() { s.slowness = 15 * time.Second }) // longer than the reporter waits
	case k < 98:
		s.set(func() { s.slowness = 100 * time.Millisecond })
	case k < 99:
		s.Forget(d.ID)
		s.last[d.ID] = map[string]string{}
		delete(s.states, d.ID)
	}
}

func (s *schedule) report(d *twin.Device) {
	var readings []twin.Reading
	for i := range d.Properties {
		p := &d.Properties[i]
		if s.n(3) == 0 {
			continue
		}
		r := twin.Reading{Property: p.Name}
		switch p.Type {
		case twin.TypeInt:
			r.Value = twin.IntValue(int64(s.n(3)))
		case twin.TypeDouble:
			r.Value = twin.FloatValue(float64(s.n(3)) / 3)
		case twin.TypeBoolean:
			r.Value = twin.BoolValue(s.n(2) == 0)
		default:
			r.Value = twin.StringValue([]string{"a", "a b", "温度", ""}[s.n(3)])
		}
		if s.n(10) == 0 {
			r = twin.BadReading(p.Name, "timeout")
			delete(s.last[d.ID], p.Name)
		} else {
			text, err := edgecore.EncodeValue(p.Type, r.Value)
			if err != nil {
				panic(err)
			}
			s.last[d.ID][p.Name] = text
		}
		readings = append(readings, r)
	}
	s.Report(d, readings)
}

func (s *schedule) linkUp() {
	s.set(func() { s.link = true })
	s.LinkUp()
}

// mend ends all faults.
func (s *schedule) mend() {
	s.set(func() {
		s.away, s.deaf, s.mute, s.slowness = false, 0, 0, 20*time.Millisecond
		for _, d := range s.devices {
			s.members[d.ID.String()] = true
		}
	})
	s.bus.SetUp(true)
	time.Sleep(20 * time.Second) // what was slow is done: it was a fault too
	s.linkUp()
}

// check compares the devices with both ends.
func (s *schedule) check() error {
	s.edge.mu.Lock()
	defer s.edge.mu.Unlock()
	var wrong []error
	for id, properties := range s.last {
		for name, want := range properties {
			if got := s.twins[id.String()][name].value; got != want {
				wrong = append(wrong, fmt.Errorf("EdgeCore has %s %s=%q, the device %q", id, name, got, want))
			}
			if got := s.edge.cloud[id.String()][name]; got != want {
				wrong = append(wrong, fmt.Errorf("the cloud has %s %s=%q, the device %q", id, name, got, want))
			}
		}
	}
	for id, want := range s.states {
		if got := s.cloudSt[id.String()]; got != string(want) {
			wrong = append(wrong, fmt.Errorf("the cloud has %s %q, it is %q", id, got, want))
		}
	}
	for _, m := range s.broken {
		wrong = append(wrong, fmt.Errorf("this would have crashed EdgeCore: %s", m))
	}
	return errors.Join(wrong...)
}

// Whatever happens: one re-report cycle after the last fault every twin in the cloud is the device's.
func TestTwinsConvergeAfterAnyFaults(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	was := checks.Value.String()
	n, err := strconv.Atoi(was)
	require.NoError(t, err)
	require.NoError(t, checks.Value.Set(strconv.Itoa(3*n))) // thousands with -rapid.checks=1000
	defer func() { require.NoError(t, checks.Value.Set(was)) }()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		devices := rapid.IntRange(1, 4).Draw(rt, "devices")
		properties := rapid.IntRange(1, 6).Draw(rt, "properties")
		steps := rapid.IntRange(1, 80).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(*testing.T) {
			s, end := newSchedule(seed, devices, properties)
			defer end()
			for range steps {
				s.step()
				time.Sleep(time.Duration(s.n(4000)) * time.Millisecond)
			}
			s.mend()
			time.Sleep(reannounce * 5 / 4)
			synctest.Wait()
			err = s.check()
		})
		require.NoError(rt, err)
	})
}
