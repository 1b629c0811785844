package reactor

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/pkg/twin"
)

// engine holds the rules, what is known of the devices, and the claims. It does
// no I/O, starts no goroutine, and is not safe for concurrent use.
type engine struct {
	log     *slog.Logger
	metrics *metrics
	newID   func() string

	loaded   bool // rules were set at least once
	restored State
	problems []twin.Problem
	machines map[string]*machine
	byDevice map[twin.DeviceID][]*machine // those that read the device
	devices  map[twin.DeviceID]*device
	claims   map[claimKey]*claim
	queue    []*claim // to be published, oldest first
	cleared  int      // of the queue: the state that names them is saved
	unsaved  bool     // the state differs from what is on disk
}

// machine is a rule with when it is to be stepped next.
type machine struct {
	*rule.Machine
	wake time.Time
}

// device is what is known of one device.
type device struct {
	position twin.Position
	time     time.Time // of the newest sample
	readings map[string]rule.Reading
}

func newEngine(log *slog.Logger, m *metrics, newID func() string, restored State) *engine {
	return &engine{
		log: log, metrics: m, newID: newID, restored: restored,
		machines: map[string]*machine{}, byDevice: map[twin.DeviceID][]*machine{},
		devices: map[twin.DeviceID]*device{}, claims: map[claimKey]*claim{},
	}
}

// setRules takes the whole set of rules.
func (e *engine) setRules(rules []*rule.Rule, problems []twin.Problem, now time.Time) {
	if !e.loaded {
		e.restoreClaims()
	}
	e.problems = slices.Clone(problems)
	old := e.machines
	e.machines = make(map[string]*machine, len(rules))
	for _, r := range rules {
		if len(e.machines) == MaxRules {
			e.problems = append(e.problems, twin.Problem{Object: rule.Kind + " " + r.Name, What: fmt.Sprintf("the node has %d rules already", MaxRules), Remedy: "remove some; this one does not run"})
			continue
		}
		if before, ok := old[r.Name]; ok && before.Rule().Same(r) {
			e.machines[r.Name] = before
			continue
		}
		e.machines[r.Name] = &machine{Machine: e.begin(r, old[r.Name], now)}
	}
	e.loaded, e.restored = true, State{}
	e.index()
	for _, c := range e.claims {
		if m, ok := e.machines[c.rule]; !ok || !acts(m.Rule(), c.claimKey) {
			e.release(c, now)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.machines)) {
		e.step(e.machines[name], now)
	}
	e.unsaved = true // names of rules may have gone
}

// begin makes the machine of a new or changed rule, which goes on to hold if it did.
func (e *engine) begin(r *rule.Rule, before *machine, now time.Time) *rule.Machine {
	if before != nil {
		s := before.Status()
		return rule.NewMachine(r, s.Phase == rule.Holding, s.Since)
	}
	since, held := e.restored.Holding[r.Name]
	if !held {
		since = now
	}
	return rule.NewMachine(r, held, since)
}

// restoreClaims takes up what was claimed before a restart.
func (e *engine) restoreClaims() {
	for _, s := range e.restored.Claims {
		k := claimKey{s.Rule, s.Device, s.Property}
		e.claims[k] = &claim{claimKey: k, source: claimant(s.Rule), priority: twin.DefaultPriority, ttl: rule.DefaultTTL, want: twin.BoolValue(true)}
	}
}

func claimant(name string) string { return (&rule.Rule{Name: name}).Claimant() }

func acts(r *rule.Rule, k claimKey) bool {
	return slices.ContainsFunc(r.Actions, func(a rule.Action) bool { return a.Device == k.device && a.Property == k.property })
}

// index rebuilds what follows from the set of rules.
func (e *engine) index() {
	e.byDevice = map[twin.DeviceID][]*machine{}
	wanted := map[twin.DeviceID]bool{}
	for _, name := range slices.Sorted(maps.Keys(e.machines)) {
		m := e.machines[name]
		for _, in := range m.Rule().Inputs {
			wanted[in.Device] = true
			if !slices.Contains(e.byDevice[in.Device], m) {
				e.byDevice[in.Device] = append(e.byDevice[in.Device], m)
			}
		}
		for _, a := range m.Rule().Actions {
			wanted[a.Device] = true
		}
	}
	maps.DeleteFunc(e.devices, func(id twin.DeviceID, _ *device) bool { return !wanted[id] })
	for id := range wanted {
		if e.devices[id] == nil {
			e.devices[id] = &device{readings: map[string]rule.Reading{}}
		}
	}
}

// topics returns the telemetry and results that the engine is to be told of.
func (e *engine) topics() map[string]bool {
	topics := map[string]bool{}
	for id := range e.devices {
		topics[twin.TelemetryTopic(id)] = true
	}
	for _, m := range e.machines {
		for _, a := range m.Rule().Actions {
			topics[twin.ResultTopic(a.Device)] = true
		}
	}
	for k := range e.claims {
		topics[twin.ResultTopic(k.device)] = true
	}
	return topics
}

// sample takes one sample and steps the rules that read its device. A sample
// that is older than the last one, or the same again, is nothing new.
func (e *engine) sample(s *twin.Sample, now time.Time) {
	d := e.devices[s.Device]
	if d == nil {
		return
	}
	position := twin.Position{Epoch: s.Epoch, Seq: s.Seq}
	// A mapper that lost its state may begin with a lower epoch: then time decides.
	if !d.position.Before(position) && !s.Time.After(d.time) {
		return
	}
	restarted := d.position.Epoch != 0 && d.position.Epoch != s.Epoch
	d.position, d.time = position, s.Time
	for _, r := range s.Readings {
		d.readings[r.Property] = rule.Reading{Value: r.Value, Quality: r.Quality, Sampled: s.Time, Received: now}
	}
	if restarted { // the mapper has forgotten the claims
		for _, c := range e.claims {
			if c.device == s.Device && !c.released() && c.id != "" {
				e.send(c, now)
			}
		}
	}
	for _, m := range e.byDevice[s.Device] {
		e.step(m, now)
	}
}

func (e *engine) lookup(id twin.DeviceID, property string) (rule.Reading, bool) {
	d, ok := e.devices[id]
	if !ok {
		return rule.Reading{}, false
	}
	r, ok := d.readings[property]
	return r, ok
}

// step decides one rule and claims or releases what follows.
func (e *engine) step(m *machine, now time.Time) {
	before := m.Status().Phase
	s := m.Step(now, e.lookup)
	m.wake = s.Wake
	e.metrics.evaluations.Inc()
	if s.Phase != before && (s.Phase == rule.Holding || before == rule.Holding) {
		e.unsaved = true
		e.metrics.turns.WithLabelValues(string(s.Phase)).Inc()
		e.log.Info("rule turned", "rule", m.Rule().Name, "phase", s.Phase, "undecided", s.Undecided)
	}
	for i := range m.Rule().Actions {
		a := &m.Rule().Actions[i]
		k := claimKey{m.Rule().Name, a.Device, a.Property}
		c := e.claims[k]
		switch {
		case s.Phase != rule.Holding && c != nil:
			e.release(c, now)
		case s.Phase == rule.Holding && !s.Values[i].IsZero():
			e.want(k, a, s.Values[i], now)
		}
	}
}

// want claims k with a value.
func (e *engine) want(k claimKey, a *rule.Action, v twin.Value, now time.Time) {
	c := e.claims[k]
	if c == nil {
		c = &claim{claimKey: k, source: claimant(k.rule)}
		e.claims[k] = c
		e.unsaved = true
	}
	same := c.id != "" && c.want.Equal(v) && c.priority == a.Priority && c.ttl == a.TTL
	paced := c.id != "" && !c.released() && now.Before(c.begun.Add(minInterval))
	switch {
	case same:
	case paced: // tick asks again
		if m := e.machines[k.rule]; m != nil {
			m.wake = sooner(m.wake, c.begun.Add(minInterval))
		}
	default:
		c.want, c.priority, c.ttl = v, a.Priority, a.TTL
		e.send(c, now)
	}
}

// release gives a claim back.
func (e *engine) release(c *claim, now time.Time) {
	if !c.released() {
		c.want = twin.Value{}
		e.send(c, now)
	}
}

// send queues a new command for a claim.
func (e *engine) send(c *claim, now time.Time) {
	c.id, c.tries, c.answered, c.gaveUp, c.begun = e.newID(), 0, false, false, now
	e.enqueue(c)
}

func (e *engine) enqueue(c *claim) {
	if !c.queued {
		c.queued = true
		e.queue = append(e.queue, c)
	}
}

// result takes what a mapper says of a command.
func (e *engine) result(id twin.DeviceID, r *twin.Result) {
	name, ok := strings.CutPrefix(r.Source, "reactor/")
	c := e.claims[claimKey{name, id, r.Property}]
	if !ok || c == nil || c.id != r.ID {
		return // another's, or of a command that a newer one replaced
	}
	again := c.result.State == r.State
	c.answered, c.told, c.result = true, false, *r
	e.metrics.results.WithLabelValues(string(r.State)).Inc()
	if r.State == twin.Rejected && !again {
		e.log.Warn("command rejected", "rule", c.rule, "device", id, "property", r.Property, "reason", r.Reason)
	}
	e.forget(c)
}

// forget drops a claim that is over.
func (e *engine) forget(c *claim) {
	if c.over() {
		delete(e.claims, c.claimKey)
		e.unsaved = true
	}
}

// tick does what is due and returns when it is to be called again; zero: when something comes.
func (e *engine) tick(now time.Time) (next time.Time) {
	for _, m := range e.machines {
		if !m.wake.IsZero() && !now.Before(m.wake) {
			e.step(m, now)
		}
		next = sooner(next, m.wake)
	}
	for _, c := range e.claims {
		due := c.due()
		if due.IsZero() || now.Before(due) {
			next = sooner(next, due)
			continue
		}
		switch {
		case !c.answered && !c.gaveUp && c.tries < maxTries:
			e.metrics.resends.Inc()
			e.enqueue(c)
		case !c.answered && !c.gaveUp:
			c.gaveUp = true
			e.metrics.unanswered.Inc()
			if !c.told {
				e.log.Warn("no mapper answers", "rule", c.rule, "device", c.device, "property", c.property, "tries", c.tries)
			}
			c.told = true
			e.forget(c)
			next = sooner(next, c.due())
		default:
			e.send(c, now)
		}
	}
	return next
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// clear lets what is queued be published.
func (e *engine) clear() { e.cleared = len(e.queue) }

// take returns the next command to publish.
func (e *engine) take() (*claim, twin.Command, bool) {
	if e.cleared == 0 {
		return nil, twin.Command{}, false
	}
	c := e.queue[0]
	e.queue = e.queue[1:]
	e.cleared--
	c.queued, c.inFlight = false, true
	return c, c.command(), true
}

// published takes the end of a try to publish the command id of c.
func (e *engine) published(c *claim, id string, err error, now time.Time) {
	c.inFlight = false
	if err != nil {
		e.enqueue(c) // what it wants by now
		return
	}
	if c.id == id {
		c.sent = now
		if c.tries++; c.tries == 1 {
			c.begun = now // it may have waited long for the broker; the mapper counts the ttl from here
		}
	}
	e.metrics.commands.WithLabelValues(kindOf(c.released())).Inc()
	e.forget(c)
}

func kindOf(release bool) string {
	if release {
		return "release"
	}
	return "claim"
}

// state is what a restart must know.
func (e *engine) state() State {
	s := State{Holding: map[string]time.Time{}, Claims: []SavedClaim{}}
	for name, m := range e.machines {
		if st := m.Status(); st.Phase == rule.Holding {
			s.Holding[name] = st.Since.UTC()
		}
	}
	for k := range e.claims {
		s.Claims = append(s.Claims, SavedClaim{k.rule, k.device, k.property})
	}
	slices.SortFunc(s.Claims, func(a, b SavedClaim) int {
		return strings.Compare(a.Rule+" "+a.Device.String()+" "+a.Property, b.Rule+" "+b.Device.String()+" "+b.Property)
	})
	return s
}
