package desk

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/twinline/twinline/cloudapps/devicemgmt"
	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The contracts that a desk is made for.
var (
	_ devicemgmt.Cluster = (*Desk)(nil)
	_ mapper.Source      = (*Source)(nil)
)

const manifests = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: thermostat}
spec:
  protocol: modbus
  properties:
  - {name: temperature, type: FLOAT, accessMode: ReadOnly, visitors: {protocolName: modbus, configData: {address: 1, serial: 9007199254740993}}}
  - {name: setpoint, type: FLOAT, accessMode: ReadWrite, visitors: {protocolName: modbus, configData: {address: 2}}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: boiler}
spec:
  deviceModelRef: {name: thermostat}
  nodeName: edge-a
  protocol: {protocolName: modbus}
  properties:
  - {name: temperature, reportToCloud: true}
  - {name: setpoint, reportToCloud: true, desired: {value: "20"}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: elsewhere}
spec:
  deviceModelRef: {name: thermostat}
  nodeName: edge-b
  protocol: {protocolName: modbus}
  properties:
  - {name: temperature, reportToCloud: true}
`

// testBus hands what is published by the test to the desk, and keeps the answers.
type testBus struct {
	mu       sync.Mutex
	handlers map[string]func(string, []byte)
	answers  []message
}

func (b *testBus) Publish(_ context.Context, topic string, payload []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = append(b.answers, message{topic, payload})
	return nil
}

func (b *testBus) Subscribe(filter string, handle func(string, []byte)) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.handlers == nil {
		b.handlers = map[string]func(string, []byte){}
	}
	b.handlers[filter] = handle
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.handlers, filter)
	}, nil
}

// say publishes as a mapper does and returns the answers.
func (b *testBus) say(topic, payload string) []message {
	b.mu.Lock()
	b.answers = nil
	handlers := b.handlers
	b.mu.Unlock()
	if strings.HasPrefix(topic, nodePrefix) {
		handlers[nodeTopics](topic, []byte(payload))
	} else {
		handlers[deviceTopics](topic, []byte(payload))
	}
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.answers
}

type fixture struct {
	*Desk
	bus *testBus
	dir string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "m"), 0o750))
	write(t, filepath.Join(dir, "m", "all.yaml"), manifests)
	return reopen(t, dir)
}

func reopen(t *testing.T, dir string) *fixture {
	t.Helper()
	f := &fixture{bus: &testBus{}, dir: dir}
	var err error
	f.Desk, err = New(Config{Manifests: filepath.Join(dir, "m"), StateFile: filepath.Join(dir, "state", "desired.json"), Node: "edge-a"},
		Deps{Bus: f.bus, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return f
}

func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

func (f *fixture) run(t *testing.T) *fixture {
	require.NoError(t, f.Start(t.Context()))
	return f
}

func boiler() twin.DeviceID { return twin.DeviceID{Namespace: "default", Name: "boiler"} }

const (
	update = "$hw/events/device/default/boiler/twin/update"
	state  = "$hw/events/device/default/boiler/state/update"
)

func (f *fixture) status() *v1beta1.DeviceStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, _ := f.cloud.objects[key{statusKind, boiler()}].(*v1beta1.DeviceStatus)
	return s
}

func (f *fixture) reported(name string) string {
	if s := f.status(); s != nil {
		for _, t := range s.Status.Twins {
			if t.PropertyName == name {
				return t.Reported.Value
			}
		}
	}
	return "none"
}

func set(text string) *string { return &text }

func TestDeskKeepsTheServiceContract(t *testing.T) { servicetest.Stress(t, newFixture(t).Desk) }

func TestAnUpdateIsAnsweredAndReachesTheCloud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t).run(t)
		defer f.Stop()
		report := `{"event_id":"e1","twin":{"temperature":{"actual":{"value":"20.5","metadata":{"timestamp":1}},"metadata":{"type":"float"}}}}`
		answers := f.bus.say(update, report)
		require.Len(t, answers, 2)
		require.Equal(t, update+"/result", answers[0].topic)
		now := time.Now().UnixMilli()
		want, err := json.Marshal(map[string]any{"event_id": "e1", "timestamp": now, "twin": map[string]any{"temperature": map[string]any{
			"actual": map[string]any{"value": "20.5", "metadata": map[string]any{"timestamp": now}}, "optional": true, "metadata": map[string]any{"type": "float"},
		}}})
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(answers[0].payload), "EdgeCore's clock takes the place of the mapper's")
		require.Equal(t, update+"/document", answers[1].topic)
		var doc twinDocument
		require.NoError(t, json.Unmarshal(answers[1].payload, &doc))
		require.Nil(t, doc.Twin["temperature"].Last)

		require.Empty(t, f.reported("temperature"), "CloudCore loses the first report")
		f.bus.say(update, report)
		require.Equal(t, "20.5", f.reported("temperature"))
		f.bus.say(update, `{"twin":{"unlisted":{"actual":{"value":"1"}}}}`)
		require.Equal(t, "none", f.reported("unlisted"))
	})
}

func TestWhatEdgeCoreRefuses(t *testing.T) {
	for _, c := range []struct {
		name, topic, payload, answerOn, says string
		code                                 int
	}{
		{"no JSON", update, `x`, "$hw/events/device//twin/update/result", "Unmarshal", 400},
		{"a value with a space", update, `{"event_id":"e","twin":{"a":{"actual":{"value":"a b"}}}}`, "$hw/events/device//twin/update/result", "value of twin", 400},
		{"a type of its own", update, `{"event_id":"e","twin":{"a":{"actual":{"value":"1"},"metadata":{"type":"double"}}}}`, update + "/result", "not allowed", 400},
		{"a value of another type", update, `{"event_id":"e","twin":{"good":{"actual":{"value":"1"}},"temperature":{"actual":{"value":"warm"}}}}`, update + "/result", "not float", 400},
		{"deleting what is not there", update, `{"event_id":"e","twin":{"a":null}}`, update + "/result", "body is wrong", 400},
		{"unknown device", "$hw/events/device/default/none/twin/update", `{"event_id":"e","twin":{"a":{"actual":{"value":"1"}}}}`, "$hw/events/device/default/none/twin/update/result", "not existed", 404},
		{"of another node", "$hw/events/device/default/elsewhere/twin/update", `{"event_id":"e","twin":{"a":{"actual":{"value":"1"}}}}`, "$hw/events/device/default/elsewhere/twin/update/result", "not existed", 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t).run(t)
				defer f.Stop()
				f.bus.say(update, `{"twin":{"temperature":{"actual":{"value":"20.5"},"metadata":{"type":"float"}}}}`)
				answers := f.bus.say(c.topic, c.payload)
				require.Len(t, answers, 1)
				require.Equal(t, c.answerOn, answers[0].topic)
				var result errorResult
				require.NoError(t, json.Unmarshal(answers[0].payload, &result))
				require.Equal(t, c.code, result.Code)
				require.Contains(t, result.Reason, c.says)
				f.mu.Lock()
				defer f.mu.Unlock()
				require.Len(t, f.edge.twins[boiler()].twins, 1, "a message is taken whole or not at all")
			})
		})
	}
}

func TestAMessageThatKillsEdgeCoreIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t).run(t)
		defer f.Stop()
		require.Empty(t, f.bus.say(update, `{"twin":{"a":{"actual":{}}}}`))
		require.Equal(t, []twin.DeviceID{boiler()}, f.Jammed())
		require.Empty(t, f.bus.say(update, `{"twin":{"a":{"actual":{"value":"1"}}}}`), "no answer ever again")
	})
}

func TestExpectedGivesADeltaUntilActualIsTheSameText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t).run(t)
		defer f.Stop()
		answers := f.bus.say(update, `{"twin":{"setpoint":{"expected":{"value":"22"},"actual":{"value":"21"}}}}`)
		require.Len(t, answers, 3)
		var delta twinDelta
		require.NoError(t, json.Unmarshal(answers[2].payload, &delta))
		require.Equal(t, map[string]string{"setpoint": "22"}, delta.Delta)
		require.Len(t, f.bus.say(update, `{"twin":{"setpoint":{"actual":{"value":"22"}}}}`), 2)
	})
}

func TestStateGetAndMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t).run(t)
		defer f.Stop()
		answers := f.bus.say(state, `{"state":"Online"}`)
		require.Equal(t, state+"/result", answers[0].topic)
		require.Equal(t, "Online", f.status().Status.State, "kept verbatim")
		require.NotEmpty(t, f.status().Status.LastOnlineTime)
		f.bus.say(state, `{"state":"offline"}`)
		require.Empty(t, f.status().Status.LastOnlineTime, "EdgeCore forgets when it was")
		require.Empty(t, f.bus.say(state, `{"state":"broken"}`))

		f.bus.say(update, `{"twin":{"temperature":{"actual":{"value":"1"}}}}`)
		get := f.bus.say("$hw/events/device/default/boiler/twin/get", `{"event_id":"g"}`)
		require.Equal(t, "$hw/events/device/default/boiler/twin/get/result", get[0].topic)
		require.Contains(t, string(get[0].payload), `"value":"1"`)

		members := f.bus.say("$hw/events/node/edge-a/membership/get", `{}`)
		require.Equal(t, "$hw/events/node/edge-a/membership/get/result", members[0].topic)
		require.Contains(t, string(members[0].payload), `"default/boiler"`)
		require.NotContains(t, string(members[0].payload), `elsewhere`)
	})
}

// watchSource gives the desired setpoint whenever a mapper would learn of it.
func watchSource(t *testing.T, f *fixture) (latest func() string, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var desired string
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = f.Source("Modbus").Run(ctx, func(devices []twin.Device, problems []twin.Problem) {
			mu.Lock()
			defer mu.Unlock()
			desired = "no device"
			if len(devices) == 1 && len(problems) == 0 {
				if p, ok := devices[0].Property("setpoint"); ok && p.Desired != nil {
					desired = *p.Desired
				} else {
					desired = "none"
				}
			}
		})
	})
	return func() string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return desired
		}, func() {
			cancel()
			wg.Wait()
		}
}

func TestACutLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t).run(t)
		defer f.Stop()
		desired, stop := watchSource(t, f)
		defer stop()
		report := func(v string) {
			f.bus.say(update, `{"twin":{"temperature":{"actual":{"value":"`+v+`"}}}}`)
		}
		report("1")
		report("1")
		f.bus.say(state, `{"state":"online"}`)
		require.Equal(t, "20", desired())

		f.SetLink(false)
		require.False(t, f.Link().Up)
		require.Len(t, f.bus.say(update, `{"twin":{"temperature":{"actual":{"value":"2"}}}}`), 2, "the edge goes on")
		f.bus.say(state, `{"state":"offline"}`)
		require.Equal(t, "1", f.reported("temperature"))
		require.Equal(t, "online", f.status().Status.State)
		_, err := f.SetDesired(t.Context(), boiler(), map[string]*string{"setpoint": set("23")})
		require.NoError(t, err)
		require.Equal(t, "20", desired())

		f.SetLink(true)
		require.Equal(t, "23", desired())
		require.Equal(t, "1", f.reported("temperature"), "what was reported meanwhile is lost")
		report("3")
		require.Equal(t, "3", f.reported("temperature"))
	})
}

func TestDesiredValuesSurviveARestartUntilTheManifestSaysOtherwise(t *testing.T) {
	f := newFixture(t)
	device, err := f.SetDesired(t.Context(), boiler(), map[string]*string{"setpoint": set("23")})
	require.NoError(t, err)
	require.Equal(t, "23", device.Spec.Properties[1].Desired.Value)
	generation := device.Generation
	again, err := f.SetDesired(t.Context(), boiler(), map[string]*string{"setpoint": set("23"), "temperature": nil})
	require.NoError(t, err)
	require.Equal(t, generation, again.Generation, "nothing to change, nothing changed")
	_, err = f.SetDesired(t.Context(), twin.DeviceID{Namespace: "default", Name: "none"}, nil)
	require.ErrorIs(t, err, twin.ErrNoDevice)

	desired := func(f *fixture) string {
		o, ok := f.cloud.device(boiler())
		require.True(t, ok)
		return o.Spec.Properties[1].Desired.Value
	}
	f = reopen(t, f.dir)
	require.Equal(t, "23", desired(f))
	_, err = f.SetDesired(t.Context(), boiler(), map[string]*string{"setpoint": nil})
	require.NoError(t, err)
	f = reopen(t, f.dir)
	require.Empty(t, desired(f), "removed for good")
	write(t, filepath.Join(f.dir, "m", "all.yaml"), strings.Replace(manifests, `"20"`, `"25"`, 1))
	f = reopen(t, f.dir)
	require.Equal(t, "25", desired(f), "the edited manifest holds")

	write(t, filepath.Join(f.dir, "state", "desired.json"), "{")
	_, err = New(Config{Manifests: filepath.Join(f.dir, "m"), StateFile: filepath.Join(f.dir, "state", "desired.json")}, Deps{Log: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "delete it")
}

func TestLargeNumbersOfADeclarationStayExact(t *testing.T) {
	f := newFixture(t)
	_, err := f.SetDesired(t.Context(), boiler(), map[string]*string{"setpoint": set("23")})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, f.Source("modbus").Run(ctx, func(devices []twin.Device, _ []twin.Problem) {
		defer cancel()
		require.Len(t, devices, 1)
		require.EqualValues(t, int64(9007199254740993), devices[0].Properties[0].Visitor["serial"])
	}))
}

func TestAChangedFolderIsAChangedCluster(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.reload())
	o, _ := f.cloud.device(boiler())
	before := o.ResourceVersion
	require.NoError(t, f.reload())
	o, _ = f.cloud.device(boiler())
	require.Equal(t, before, o.ResourceVersion, "nothing changed")

	type change struct {
		name string
		gone bool
	}
	seen := make(chan change, 16)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	synced := make(chan struct{})
	wg.Go(func() {
		_ = f.Watch(ctx, func(o metav1.Object, gone bool) { seen <- change{o.GetName(), gone} }, func() { close(synced) })
	})
	<-synced
	for _, want := range []string{"thermostat", "boiler", "elsewhere"} {
		require.Equal(t, change{want, false}, <-seen, "models before devices")
	}
	write(t, filepath.Join(f.dir, "m", "all.yaml"), strings.ReplaceAll(manifests, "boiler", "furnace"))
	require.NoError(t, f.reload())
	got := map[change]bool{}
	for !got[change{"boiler", true}] || !got[change{"furnace", false}] {
		got[<-seen] = true
	}
	require.NotContains(t, f.edge.twins, boiler())
	cancel()
	wg.Wait()
}

func TestFoldersAreBounded(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Truncate(touch(t, dir, "big.yaml"), maxManifest+1))
	_, err := markFolder(dir)
	require.ErrorContains(t, err, "at most 4194304")
	require.NoError(t, os.Truncate(filepath.Join(dir, "big.yaml"), maxManifest))
	_, err = markFolder(dir)
	require.NoError(t, err)
	_, err = markFolder(filepath.Join(dir, "none"))
	require.Error(t, err)
}

func touch(t *testing.T, dir, name string) string {
	write(t, filepath.Join(dir, name), "")
	return filepath.Join(dir, name)
}

func TestAnInboxThatIsFullDropsAndCounts(t *testing.T) {
	f := newFixture(t)
	inbox := make(chan message, maxInbox)
	for range maxInbox + 10 {
		f.put(inbox, message{topic: update})
	}
	require.Equal(t, 10, f.Dropped())
	require.Len(t, inbox, maxInbox)
}
