package reactor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/pkg/mappertest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const coolBoiler = `
apiVersion: twinline.io/v1alpha1
kind: Reaction
metadata: {name: cool}
spec:
  inputs: {temp: {device: boiler, property: temperature, maxAge: 1h}}
  when: temp > 80
  until: temp < 70
  then:
  - {device: pump, property: run, value: true, priority: 4, ttl: 30s}
`

func boiler() twin.DeviceID { return twin.DeviceID{Namespace: "default", Name: "boiler"} }
func pump() twin.DeviceID   { return twin.DeviceID{Namespace: "default", Name: "pump"} }

// memory is a Store and a Source in memory.
type memory struct {
	mu      sync.Mutex
	state   State
	failing bool
	rules   []*rule.Rule
	changed chan struct{}
}

func newMemory(t *testing.T, text string) *memory {
	m := &memory{changed: make(chan struct{}, 1)}
	m.set(t, text)
	return m
}

func (m *memory) set(t *testing.T, text string) {
	set, problems := rule.Decode("f", []byte(text))
	require.Empty(t, problems)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules = set.Rules
	signal(m.changed)
}

func (m *memory) Run(ctx context.Context, set func([]*rule.Rule, []twin.Problem)) error {
	for {
		m.mu.Lock()
		rules := m.rules
		m.mu.Unlock()
		set(rules, nil)
		select {
		case <-ctx.Done():
			return nil
		case <-m.changed:
		}
	}
}

func (m *memory) Load() (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, nil
}

func (m *memory) saved() State {
	state, _ := m.Load()
	return state
}

func (m *memory) Save(s State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing {
		return errors.New("disk full")
	}
	m.state = s
	return nil
}

// plant is a broker with a boiler that is measured and a mapper that answers for the pump.
type plant struct {
	*mappertest.Bus
	t     *testing.T
	mute  atomic.Bool // the mapper does not answer
	seq   uint64
	epoch uint64
}

func newPlant(t *testing.T) *plant {
	p := &plant{Bus: &mappertest.Bus{}, t: t, epoch: 1}
	_, err := p.Subscribe(twin.CommandTopic(pump()), func(_ string, payload []byte) {
		var c twin.Command
		require.NoError(t, json.Unmarshal(payload, &c))
		if p.mute.Load() {
			return
		}
		state := twin.Applied
		if c.Value.IsZero() {
			state = twin.Released
		}
		p.publish(twin.ResultTopic(pump()), twin.Result{ID: c.ID, Property: c.Property, Source: c.Source, State: state, Value: c.Value, Time: time.Now()})
	})
	require.NoError(t, err)
	return p
}

func (p *plant) publish(topic string, v any) {
	b, err := json.Marshal(v)
	require.NoError(p.t, err)
	require.NoError(p.t, p.Publish(p.t.Context(), topic, b))
}

func (p *plant) sample(id twin.DeviceID, property string, v twin.Value) {
	p.seq++
	p.publish(twin.TelemetryTopic(id), twin.Sample{Device: id, Epoch: p.epoch, Seq: p.seq, Time: time.Now(), Readings: []twin.Reading{{Property: property, Value: v}}})
}

// temp measures the boiler, and waits until that has had its effect.
func (p *plant) temp(f float64) {
	p.sample(boiler(), "temperature", twin.FloatValue(f))
	synctest.Wait()
}

// commands returns what was sent to the pump: "true" or "null", with the ids' order of first appearance.
func (p *plant) commands() (list []twin.Command) {
	for _, m := range p.Messages(twin.CommandTopic(pump())) {
		var c twin.Command
		require.NoError(p.t, json.Unmarshal(m.Payload, &c))
		list = append(list, c)
	}
	return list
}

func (p *plant) said() string {
	var words []string
	for _, c := range p.commands() {
		words = append(words, c.Value.String())
	}
	return strings.Join(words, " ")
}

func start(t *testing.T, p *plant, m *memory) *Reactor {
	r := New(Deps{Bus: p, Rules: m, Store: m})
	require.NoError(t, r.Start(t.Context()))
	synctest.Wait()
	return r
}

func TestClaimsRenewsAndReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		r := start(t, p, m)
		defer r.Stop()
		p.temp(79)
		require.Empty(t, p.commands())
		p.temp(81)
		require.Len(t, p.commands(), 1)
		first := p.commands()[0]
		require.Equal(t, twin.Command{ID: first.ID, Property: "run", Value: twin.BoolValue(true), Source: "reactor/default/cool", Priority: 4, TTL: 30 * time.Second}, first)
		time.Sleep(15*time.Second - time.Millisecond)
		require.Len(t, p.commands(), 1)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.Len(t, p.commands(), 2, "renewed at half its ttl")
		require.NotEqual(t, first.ID, p.commands()[1].ID)
		p.temp(75)
		require.Equal(t, "true true", p.said())
		p.temp(69)
		require.Equal(t, "true true <none>", p.said())
		time.Sleep(time.Hour)
		require.Len(t, p.commands(), 3, "a release that was answered is not repeated")
		require.Empty(t, m.saved().Claims)
		require.Empty(t, m.saved().Holding)
	})
}

func TestResendsTheSameCommandUntilItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, strings.Replace(coolBoiler, "ttl: 30s", "ttl: 10m", 1))
		p.mute.Store(true)
		r := start(t, p, m)
		defer r.Stop()
		p.temp(81)
		time.Sleep(4 * time.Minute)
		require.Len(t, p.commands(), maxTries)
		for _, c := range p.commands() {
			require.Equal(t, p.commands()[0], c)
		}
		require.Equal(t, float64(1), testutil.ToFloat64(r.metrics.unanswered))
		p.mute.Store(false)
		time.Sleep(2 * time.Minute)
		require.Len(t, p.commands(), maxTries+1, "the renewal tries again")
		require.NotEqual(t, p.commands()[0].ID, p.commands()[maxTries].ID)
	})
}

func TestUnansweredReleaseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		r := start(t, p, m)
		defer r.Stop()
		p.temp(81)
		p.mute.Store(true)
		p.temp(60)
		time.Sleep(time.Hour)
		require.Len(t, p.commands(), 1+maxTries)
		require.Empty(t, m.saved().Claims)
	})
}

func TestRestartTakesUpOrReleases(t *testing.T) {
	for name, test := range map[string]struct {
		after string // the rules at the second start
		want  string // what is sent then, before anything is measured
		temp  float64
		later string // what is sent after the measurement
	}{
		"the same rule goes on":         {coolBoiler, "true", 75, "true"},
		"the same rule ends":            {coolBoiler, "true", 60, "true <none>"},
		"the rule is gone":              {"", "<none>", 90, "<none>"},
		"the rule sets something else":  {strings.Replace(coolBoiler, "property: run", "property: speed", 1), "true <none>", 75, "true <none>"},
		"a rule that says another time": {strings.Replace(coolBoiler, "temp > 80", "temp > 85", 1), "true", 80, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, m := newPlant(t), newMemory(t, coolBoiler)
				r := start(t, p, m)
				p.temp(81)
				r.Stop()
				require.Equal(t, "true", p.said(), "a stop releases nothing")
				require.Len(t, m.saved().Claims, 1)

				m.set(t, test.after)
				q := newPlant(t)
				r = start(t, q, m)
				defer r.Stop()
				require.ElementsMatch(t, strings.Fields(test.want), strings.Fields(q.said()))
				q.temp(test.temp)
				require.ElementsMatch(t, strings.Fields(test.later), strings.Fields(q.said()))
			})
		})
	}
}

func TestChangedRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		r := start(t, p, m)
		defer r.Stop()
		p.temp(81)
		m.set(t, strings.Replace(coolBoiler, "until: temp < 70", "until: temp < 72", 1))
		synctest.Wait()
		require.Equal(t, "true", p.said(), "a changed rule goes on to hold, and claims no more than it did")
		p.temp(71)
		require.Equal(t, "true <none>", p.said())
		p.temp(81)
		m.set(t, "")
		synctest.Wait()
		require.Equal(t, "true <none> true <none>", p.said(), "a rule that is gone releases")
		p.temp(90)
		require.Len(t, p.commands(), 4)
	})
}

func TestStateIsSavedBeforeTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		p.PublishFn = func(_ context.Context, topic string, _ []byte) error {
			if topic == twin.CommandTopic(pump()) {
				require.Equal(t, []SavedClaim{{"default/cool", pump(), "run"}}, m.saved().Claims)
			}
			return nil
		}
		r := start(t, p, m)
		defer r.Stop()
		p.temp(81)
		require.Equal(t, "true", p.said())
	})
}

func TestReactsThoughTheStateCannotBeSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		m.failing = true
		r := start(t, p, m)
		defer r.Stop()
		p.temp(81)
		require.Equal(t, "true", p.said())
		m.mu.Lock()
		m.failing = false
		m.mu.Unlock()
		time.Sleep(2 * retryPause)
		synctest.Wait()
		require.Len(t, m.saved().Claims, 1, "saved as soon as it can be")
		require.Positive(t, testutil.ToFloat64(r.metrics.saveErrors))
	})
}

func TestBrokerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		r := start(t, p, m)
		defer r.Stop()
		var away atomic.Bool
		away.Store(true)
		p.PublishFn = func(_ context.Context, topic string, _ []byte) error {
			if strings.HasPrefix(topic, "twinline/command/") && away.Load() {
				return errors.New("away")
			}
			return nil
		}
		p.temp(81)
		time.Sleep(time.Minute)
		p.temp(60)
		p.temp(81)
		time.Sleep(time.Minute)
		require.Empty(t, p.commands())
		away.Store(false)
		time.Sleep(2 * retryPause)
		synctest.Wait()
		require.Equal(t, "true", p.said(), "only what is wanted by now")
	})
}

func TestMapperRestartIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		r := start(t, p, m)
		defer r.Stop()
		p.sample(pump(), "run", twin.BoolValue(false))
		p.temp(81)
		require.Equal(t, "true", p.said())
		p.epoch = 2
		p.sample(pump(), "run", twin.BoolValue(false))
		synctest.Wait()
		require.Equal(t, "true true", p.said())
	})
}

func TestOldAndRepeatedSamplesAreNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		r := start(t, p, m)
		defer r.Stop()
		p.temp(60)
		at := time.Now()
		time.Sleep(time.Second)
		p.temp(61)
		p.publish(twin.TelemetryTopic(boiler()), twin.Sample{Device: boiler(), Epoch: 1, Seq: 1, Time: at, Readings: []twin.Reading{{Property: "temperature", Value: twin.FloatValue(99)}}})
		synctest.Wait()
		require.Empty(t, p.commands())
		// A mapper that lost its count is still heard: its samples are later.
		time.Sleep(time.Second)
		p.publish(twin.TelemetryTopic(boiler()), twin.Sample{Device: boiler(), Epoch: 1, Seq: 1, Time: time.Now(), Readings: []twin.Reading{{Property: "temperature", Value: twin.FloatValue(99)}}})
		synctest.Wait()
		require.Equal(t, "true", p.said())
	})
}

func TestValueExpressionsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, strings.Replace(coolBoiler, "value: true", "valueExpr: temp - 80.0", 1))
		r := start(t, p, m)
		defer r.Stop()
		for i := range 10 {
			p.temp(81 + float64(i))
			time.Sleep(minInterval / 10)
		}
		synctest.Wait()
		require.Equal(t, "1 10", p.said())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, twin.FloatValue(10), p.commands()[len(p.commands())-1].Value)
	})
}

func TestEverySampleIsDecidedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, strings.Replace(coolBoiler, "  until: temp < 70\n", "", 1))
		r := start(t, p, m)
		defer r.Stop()
		p.sample(boiler(), "temperature", twin.FloatValue(81)) // a pulse, with no pause
		p.sample(boiler(), "temperature", twin.FloatValue(60))
		synctest.Wait()
		require.Equal(t, float64(1), testutil.ToFloat64(r.metrics.turns.WithLabelValues("holding")))
		require.Equal(t, "<none>", p.said()[max(0, len(p.said())-6):])
	})
}

func TestMalformedMessagesAndFullInboxAreCounted(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry(), &Reactor{})
	b := &inbox{signal: make(chan struct{}, 1), metrics: m, log: New(Deps{}).deps.Log}
	b.reset()
	for _, topic := range []string{"twinline/telemetry/default/boiler", "twinline/command/default/boiler/result", "elsewhere"} {
		b.message(topic, []byte("{"))
	}
	require.Equal(t, float64(3), testutil.ToFloat64(m.malformed))
	for i := range maxInbox + 10 {
		b.message(twin.ResultTopic(pump()), fmt.Appendf(nil, `{"id":"%d","property":"p","source":"s","state":"applied","value":null}`, i))
	}
	require.Equal(t, float64(10), testutil.ToFloat64(m.dropped))
	taken := b.take().messages
	require.Len(t, taken, maxInbox)
	require.Equal(t, "10", taken[0].result.ID, "the oldest give way")
	for i := range maxComplaints + 10 {
		b.message(fmt.Sprintf("twinline/telemetry/default/d%d", i), []byte("{"))
	}
	require.Len(t, b.complained, maxComplaints)
}

func TestMaxRules(t *testing.T) {
	e := newEngine(New(Deps{}).deps.Log, New(Deps{}).metrics, func() string { return "x" }, State{})
	set, _ := rule.Decode("f", []byte(coolBoiler))
	var many []*rule.Rule
	for i := range MaxRules + 1 {
		r := *set.Rules[0]
		r.Name = fmt.Sprintf("default/r%d", i)
		many = append(many, &r)
	}
	e.setRules(many, nil, time.Now())
	require.Len(t, e.machines, MaxRules)
	require.Len(t, e.problems, 1)
}

func TestAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := newPlant(t), newMemory(t, coolBoiler)
		unstarted := New(Deps{Bus: p, Rules: m, Store: m})
		require.Error(t, unstarted.Ready())
		require.Empty(t, unstarted.View().Rules)
		r := start(t, p, m)
		defer r.Stop()
		require.NoError(t, r.Ready())
		require.Equal(t, "temp: no reading of default/boiler temperature yet", r.View().Rules[0].Undecided)
		p.temp(81)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/rules", nil))
		var v View
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
		require.Len(t, v.Rules, 1)
		require.Equal(t, rule.Holding, v.Rules[0].Phase)
		require.Equal(t, twin.FloatValue(81), v.Rules[0].Inputs[0].Value)
		require.Equal(t, twin.Good, v.Rules[0].Inputs[0].Quality)
		require.Equal(t, []ClaimView{{Device: pump(), Property: "run", Value: twin.BoolValue(true), Priority: 4, State: twin.Applied, Shown: twin.BoolValue(true)}}, v.Rules[0].Claims)
	})
}

func TestMetricsAreRegistered(t *testing.T) {
	reg := prometheus.NewRegistry()
	New(Deps{Registry: reg})
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		require.True(t, strings.HasPrefix(f.GetName(), "twinline_reactor_"), f.GetName())
	}
	require.GreaterOrEqual(t, len(families), 8)
}

func TestStress(t *testing.T) {
	servicetest.Stress(t, New(Deps{Bus: &mappertest.Bus{}, Rules: newMemory(t, coolBoiler), Store: NoStore{}}))
}

func TestFailingSourceEndsTheReactor(t *testing.T) {
	boom := errors.New("boom")
	r := New(Deps{Bus: &mappertest.Bus{}, Rules: failing{boom}, Store: NoStore{}})
	require.ErrorIs(t, r.Start(t.Context()), boom)
}

type failing struct{ err error }

func (f failing) Run(context.Context, func([]*rule.Rule, []twin.Problem)) error { return f.err }

func TestFileStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := NewFileStore(dir, New(Deps{}).deps.Log)
	require.NoError(t, err)
	state, err := s.Load()
	require.NoError(t, err)
	require.Equal(t, State{}, state)
	want := State{Holding: map[string]time.Time{"default/cool": time.Unix(7, 0).UTC()}, Claims: []SavedClaim{{"default/cool", pump(), "run"}}}
	require.NoError(t, s.Save(want))
	state, err = s.Load()
	require.NoError(t, err)
	require.Equal(t, want, state)

	require.NoError(t, os.WriteFile(s.path, []byte(`{"claims":[{"device":"?`), 0o600))
	state, err = s.Load()
	require.NoError(t, err)
	require.Equal(t, State{}, state)
	require.FileExists(t, s.path+".bad")
	require.NoError(t, os.Truncate(s.path+".bad", maxStateSize+1))
	require.NoError(t, os.Rename(s.path+".bad", s.path))
	_, err = s.Load()
	require.NoError(t, err)
	require.FileExists(t, s.path+".bad")
}
