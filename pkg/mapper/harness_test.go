package mapper_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mappertest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var boiler = twin.DeviceID{Namespace: "default", Name: "boiler"}

// harness is a mapper on fakes, inside a synctest bubble.
type harness struct {
	t      *testing.T
	driver *mappertest.Driver
	source *mappertest.Source
	bus    *mappertest.Bus
	twins  *mappertest.Twins
	store  *mappertest.Store
	m      *mapper.Mapper
}

// inBubble runs test on a harness whose source knows device; change, if not nil, changes
// the configuration. The mapper is not started.
func inBubble(t *testing.T, device twin.Device, change func(*harness, *mapper.Config), test func(t *testing.T, h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, driver: &mappertest.Driver{}, source: mappertest.NewSource(device), bus: &mappertest.Bus{}, twins: &mappertest.Twins{}, store: &mappertest.Store{}}
		for _, p := range device.Properties {
			v, _ := mappertest.Values(p)
			h.driver.Set(device.ID, p.Name, v)
		}
		c := mapper.Config{Driver: h.driver, Source: h.source, Bus: h.bus, Twins: h.twins, Store: h.store}
		if change != nil {
			change(h, &c)
		}
		h.build(c)
		defer func() { h.m.Stop() }()
		test(t, h)
	})
}

func (h *harness) build(c mapper.Config) {
	m, err := mapper.New(c)
	require.NoError(h.t, err)
	h.m = m
}

func (h *harness) start() {
	h.t.Helper()
	require.NoError(h.t, h.m.Start(h.t.Context()))
	synctest.Wait()
}

// restart makes a new mapper on the same fakes, as a new process does.
func (h *harness) restart() {
	h.t.Helper()
	h.m.Stop()
	h.build(mapper.Config{Driver: h.driver, Source: h.source, Bus: h.bus, Twins: h.twins, Store: h.store})
	h.start()
}

func (h *harness) pass(d time.Duration) {
	time.Sleep(d) // inside the bubble: no time passes outside
	synctest.Wait()
}

func (h *harness) samples(id twin.DeviceID) []twin.Sample {
	h.t.Helper()
	var out []twin.Sample
	for _, m := range h.bus.Messages(twin.TelemetryTopic(id)) {
		var s twin.Sample
		require.NoError(h.t, s.UnmarshalJSON(m.Payload))
		out = append(out, s)
	}
	return out
}

func (h *harness) results() []twin.Result {
	h.t.Helper()
	var out []twin.Result
	for _, m := range h.bus.Messages(twin.AllResults) {
		var r twin.Result
		require.NoError(h.t, json.Unmarshal(m.Payload, &r))
		out = append(out, r)
	}
	return out
}

// story returns the results as "id state", for short assertions.
func (h *harness) story() []string {
	var out []string
	for _, r := range h.results() {
		out = append(out, r.ID+" "+string(r.State))
	}
	return out
}

func (h *harness) command(id twin.DeviceID, c twin.Command) {
	h.t.Helper()
	b, err := json.Marshal(c)
	require.NoError(h.t, err)
	require.NoError(h.t, h.bus.Publish(h.t.Context(), twin.CommandTopic(id), b))
	synctest.Wait()
}

func (h *harness) ack(acks map[twin.DeviceID]twin.Position) {
	h.t.Helper()
	b, err := json.Marshal(twin.Ack{Acks: acks})
	require.NoError(h.t, err)
	require.NoError(h.t, h.bus.Publish(h.t.Context(), twin.AckTopic("uplink"), b))
	synctest.Wait()
}

// written returns the values written to a property of boiler.
func (h *harness) written(property string) []string {
	var out []string
	for _, w := range h.driver.Writes(boiler) {
		if w.Property == property {
			out = append(out, w.Value.Text())
		}
	}
	return out
}

func property(name string, typ twin.Type, cycle time.Duration) twin.Property {
	return twin.Property{Name: name, Type: typ, CollectCycle: cycle, ReportCycle: cycle, ReportToCloud: true, Visitor: map[string]any{"key": name}}
}

func setpoint() twin.Property {
	p := property("setpoint", twin.TypeDouble, time.Second)
	p.Writable, p.Minimum, p.Maximum = true, twin.IntValue(0), twin.IntValue(100)
	return p
}

func device(props ...twin.Property) twin.Device {
	return twin.Device{ID: boiler, Protocol: mappertest.Protocol, Properties: props}
}

// desired returns the device with a desired value of its setpoint.
func desired(d twin.Device, text string) twin.Device {
	props := append([]twin.Property(nil), d.Properties...)
	for i := range props {
		if props[i].Name == "setpoint" {
			props[i].Desired = &text
		}
	}
	d.Properties = props
	return d
}

// asService gives the mapper's ErrRunning the identity that the service contract asks for.
type asService struct{ *mapper.Mapper }

func (s asService) Start(ctx context.Context) error {
	err := s.Mapper.Start(ctx)
	if errors.Is(err, mapper.ErrRunning) {
		return fmt.Errorf("%w: %w", service.ErrRunning, err)
	}
	return err
}

func TestMapperKeepsTheServiceContract(t *testing.T) {
	driver := &mappertest.Driver{}
	driver.Set(boiler, "setpoint", twin.FloatValue(1))
	m, err := mapper.New(mapper.Config{Driver: driver, Source: mappertest.NewSource(device(setpoint())), Bus: &mappertest.Bus{}, Twins: &mappertest.Twins{}, Store: &mappertest.Store{}})
	require.NoError(t, err)
	servicetest.Stress(t, asService{m})
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	_, err := mapper.New(mapper.Config{})
	require.ErrorContains(t, err, "is missing")
}
