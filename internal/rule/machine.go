package rule

import (
	"fmt"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Reading is what is known of one input.
type Reading struct {
	Value    twin.Value
	Quality  twin.Quality
	Sampled  time.Time // by the mapper's clock
	Received time.Time // by ours; the older of the two ages counts
}

// age is how old the reading is. A clock that was set back must not make it younger than
// it is known to be.
func (r *Reading) age(now time.Time) time.Duration {
	return max(now.Sub(r.Sampled), now.Sub(r.Received))
}

// Lookup gives the last reading of a property.
type Lookup func(device twin.DeviceID, property string) (Reading, bool)

// Phase is where a rule stands.
type Phase string

// The phases of a rule.
const (
	Idle    Phase = "idle"    // it does not hold
	Waiting Phase = "waiting" // when is true, but not yet for as long as it must
	Holding Phase = "holding" // its actions are claimed
)

// Status is what a Step found.
type Status struct {
	Phase     Phase
	Since     time.Time    // of the phase
	Undecided string       // why the rule cannot be decided now; "" if it can
	Values    []twin.Value // while Holding, one for each action; a zero Value is not known yet
	Faults    []string     // why a valueExpr gives no value; the last one it gave stays
	Wake      time.Time    // when to step again though nothing comes; zero: never
}

// Machine decides over time whether a rule holds. It is not safe for concurrent use.
type Machine struct {
	rule   *Rule
	status Status
}

// NewMachine returns the machine of a rule. holding says that it held when it was last
// seen, since then: before a restart, or as the rule that it replaces.
func NewMachine(r *Rule, holding bool, since time.Time) *Machine {
	m := &Machine{rule: r, status: Status{Phase: Idle, Since: since}}
	if holding {
		m.status.Phase = Holding
	}
	return m
}

// Rule returns the machine's rule.
func (m *Machine) Rule() *Rule { return m.rule }

// Status returns what the last Step found.
func (m *Machine) Status() Status { return m.status }

// Step decides the rule at a time from readings. Time must not go back between
// steps, by the monotonic clock.
func (m *Machine) Step(now time.Time, lookup Lookup) Status {
	s := &m.status
	s.Undecided, s.Faults, s.Wake = "", nil, time.Time{}
	inputs, stale, why := m.gather(now, lookup)
	s.Wake = stale
	if why == "" {
		why = m.decide(now, inputs)
	}
	if why != "" {
		s.Undecided = why
		if s.Phase == Waiting || (s.Phase == Holding && m.rule.ReleaseUndecided) {
			m.enter(Idle, now)
		}
	}
	if s.Phase != Holding {
		s.Values = nil
		return *s
	}
	m.values(inputs, why == "")
	return *s
}

func (m *Machine) enter(p Phase, now time.Time) {
	if m.status.Phase != p {
		m.status.Phase, m.status.Since = p, now
	}
}

// gather collects the inputs; why says what is missing of them. stale is when
// the first of them becomes too old.
func (m *Machine) gather(now time.Time, lookup Lookup) (inputs map[string]any, stale time.Time, why string) {
	inputs = make(map[string]any, len(m.rule.Inputs))
	for i := range m.rule.Inputs {
		in := &m.rule.Inputs[i]
		r, ok := lookup(in.Device, in.Property)
		age := r.age(now)
		v, fits := in.Type.native(r.Value)
		switch {
		case !ok:
			return nil, stale, fmt.Sprintf("%s: no reading of %s %s yet", in.Name, in.Device, in.Property)
		case r.Quality.IsBad():
			return nil, stale, fmt.Sprintf("%s is %s", in.Name, r.Quality)
		case age > in.MaxAge:
			return nil, stale, fmt.Sprintf("%s is older than %s", in.Name, in.MaxAge)
		case !fits:
			return nil, stale, fmt.Sprintf("%s is %.40q, which is no %s", in.Name, r.Value, in.Type)
		}
		inputs[in.Name] = v
		if end := now.Add(in.MaxAge - age + time.Millisecond); stale.IsZero() || end.Before(stale) {
			stale = end
		}
	}
	return inputs, stale, ""
}

// decide moves the phase on; it returns why it cannot.
func (m *Machine) decide(now time.Time, inputs map[string]any) string {
	s := &m.status
	when, err := m.rule.when.condition(inputs)
	if err != nil {
		return "when: " + err.Error()
	}
	if s.Phase == Holding {
		over := !when
		if over && m.rule.until != nil {
			if over, err = m.rule.until.condition(inputs); err != nil {
				return "until: " + err.Error()
			}
		}
		if over {
			m.enter(Idle, now)
		}
		return ""
	}
	if !when {
		m.enter(Idle, now)
		return ""
	}
	if s.Phase == Idle {
		m.enter(Waiting, now)
	}
	if due := s.Since.Add(m.rule.For); !now.Before(due) {
		m.enter(Holding, now)
	} else if s.Wake.IsZero() || due.Before(s.Wake) {
		s.Wake = due
	}
	return ""
}

// values gives each action its value; those of expressions change only while decided.
func (m *Machine) values(inputs map[string]any, decided bool) {
	s := &m.status
	values := make([]twin.Value, len(m.rule.Actions))
	copy(values, s.Values)
	for i := range m.rule.Actions {
		a := &m.rule.Actions[i]
		if a.expr == nil {
			values[i] = a.value
			continue
		}
		if !decided {
			continue
		}
		v, err := a.expr.value(inputs)
		if err != nil {
			s.Faults = append(s.Faults, fmt.Sprintf("spec.then[%d].valueExpr: %v", i, err))
			continue
		}
		values[i] = v
	}
	s.Values = values
}
