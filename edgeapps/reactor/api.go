package reactor

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/pkg/twin"
)

// RuleView is one rule as GET /api/v1/rules shows it.
type RuleView struct {
	Name      string      `json:"name"`
	Source    string      `json:"source"` // the file
	Phase     rule.Phase  `json:"phase"`
	Since     time.Time   `json:"since"`
	Undecided string      `json:"undecided,omitempty"`
	Faults    []string    `json:"faults,omitempty"`
	Inputs    []InputView `json:"inputs"`
	Claims    []ClaimView `json:"claims"`
}

// InputView is one input with its last reading.
type InputView struct {
	Name     string        `json:"name"`
	Device   twin.DeviceID `json:"device"`
	Property string        `json:"property"`
	Value    twin.Value    `json:"value"`
	Quality  twin.Quality  `json:"quality"`
	Time     *time.Time    `json:"time,omitempty"` // of the sample; absent before the first
}

// ClaimView is one claim with what the mapper said of it last.
type ClaimView struct {
	Device   twin.DeviceID   `json:"device"`
	Property string          `json:"property"`
	Value    twin.Value      `json:"value"` // null: being released
	Priority int             `json:"priority"`
	State    twin.WriteState `json:"state,omitempty"` // absent before a mapper has answered
	Reason   string          `json:"reason,omitempty"`
	Shown    twin.Value      `json:"shown"` // what the device showed then
}

// ProblemView is one mistake in a rule.
type ProblemView struct {
	Object string `json:"object"`
	Field  string `json:"field"`
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// View is the answer of GET /api/v1/rules.
type View struct {
	Rules    []RuleView    `json:"rules"`
	Problems []ProblemView `json:"problems"`
}

// ServeHTTP answers with the View of now.
func (r *Reactor) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(r.View())
}

// View returns the rules, what they wait for and what they claim.
func (r *Reactor) View() View {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := View{Rules: []RuleView{}, Problems: []ProblemView{}}
	if r.engine == nil {
		return v
	}
	for _, p := range r.engine.problems {
		v.Problems = append(v.Problems, ProblemView(p))
	}
	for _, name := range slices.Sorted(maps.Keys(r.engine.machines)) {
		v.Rules = append(v.Rules, r.engine.view(r.engine.machines[name]))
	}
	return v
}

func (e *engine) view(m *machine) RuleView {
	s, r := m.Status(), m.Rule()
	v := RuleView{Name: r.Name, Source: r.Source, Phase: s.Phase, Since: s.Since.UTC(), Undecided: s.Undecided, Faults: s.Faults, Inputs: []InputView{}, Claims: []ClaimView{}}
	for _, in := range r.Inputs {
		iv := InputView{Name: in.Name, Device: in.Device, Property: in.Property}
		if reading, ok := e.lookup(in.Device, in.Property); ok {
			iv.Value, iv.Quality, iv.Time = reading.Value, reading.Quality, &reading.Sampled
			if iv.Quality.IsGood() {
				iv.Quality = twin.Good
			}
		}
		v.Inputs = append(v.Inputs, iv)
	}
	for _, a := range r.Actions {
		if c := e.claims[claimKey{r.Name, a.Device, a.Property}]; c != nil {
			v.Claims = append(v.Claims, ClaimView{Device: c.device, Property: c.property, Value: c.want, Priority: c.priority, State: c.result.State, Reason: c.result.Reason, Shown: c.result.Value})
		}
	}
	return v
}
