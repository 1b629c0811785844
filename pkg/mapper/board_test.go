package mapper

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

// boardModel says what a board must do in the plainest way: a list of claims
// and a device.
type boardModel struct {
	b       *board
	spec    twin.Device
	now     time.Time
	claims  map[string]modelClaim // by source
	order   int
	desired string
	device  twin.Value
	ids     int
	answers map[string][]twin.WriteState
}

type modelClaim struct {
	value    int64
	priority int
	order    int
	expires  time.Time
}

func newBoardModel() *boardModel {
	m := &boardModel{now: time.Unix(1_000_000, 0), claims: map[string]modelClaim{}, answers: map[string][]twin.WriteState{}}
	m.spec = twin.Device{ID: twin.DeviceID{Namespace: "n", Name: "d"}, Properties: []twin.Property{{Name: "p", Type: twin.TypeInt, Writable: true}}}
	m.b = newBoard(m.spec.ID, nil, true)
	m.b.declare(&m.spec, m.now)
	return m
}

// wanted is what the model says the property is to be; ok is false where nobody wants anything.
func (m *boardModel) wanted() (v string, ok bool) {
	best := modelClaim{priority: 99}
	for _, c := range m.claims {
		if c.priority < best.priority || (c.priority == best.priority && c.order > best.order) {
			best = c
		}
	}
	if best.priority < 99 {
		return fmt.Sprint(best.value), true
	}
	return m.desired, m.desired != ""
}

func (m *boardModel) expire() {
	maps.DeleteFunc(m.claims, func(_ string, c modelClaim) bool { return !c.expires.IsZero() && !c.expires.After(m.now) })
}

func (m *boardModel) collect() {
	for _, r := range m.b.take() {
		if r.ID != cloudCommand {
			m.answers[r.ID] = append(m.answers[r.ID], r.State)
		}
	}
}

// step takes the next write, if any, and ends it in one of the ways there are;
// lands: the device got it, whatever is said of it.
func (m *boardModel) step(how outcome, lands bool) bool {
	m.expire()
	t, ok, _ := m.b.next(m.now)
	if ok {
		if lands {
			m.device = t.value
			m.b.observe([]twin.Reading{{Property: "p", Value: t.value}})
		}
		m.b.ended(t, how, t.value, "because", m.now)
	}
	m.collect()
	return ok
}

func TestABoardDoesWhatItsModelSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newBoardModel()
		t.Repeat(map[string]func(*rapid.T){
			"claim": func(t *rapid.T) {
				m.ids++
				m.order++
				source := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "source")
				c := modelClaim{value: rapid.Int64Range(0, 3).Draw(t, "value"), priority: rapid.IntRange(1, 3).Draw(t, "priority"), order: m.order}
				ttl := time.Duration(rapid.IntRange(0, 5).Draw(t, "ttl")) * time.Second
				if ttl > 0 {
					c.expires = m.now.Add(ttl)
				}
				m.expire()
				m.claims[source] = c
				m.b.command(twin.Command{ID: fmt.Sprint(m.ids), Property: "p", Value: twin.IntValue(c.value), Source: source, Priority: c.priority, TTL: ttl}, m.now)
			},
			"release": func(t *rapid.T) {
				m.ids++
				source := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "source")
				delete(m.claims, source)
				m.b.command(twin.Command{ID: fmt.Sprint(m.ids), Property: "p", Source: source}, m.now)
			},
			"desire": func(t *rapid.T) {
				m.desired = rapid.SampledFrom([]string{"", "0", "1", "2"}).Draw(t, "desired")
				next := m.spec
				next.Properties = slices.Clone(m.spec.Properties)
				next.Properties[0].Desired = nil
				if m.desired != "" {
					text := m.desired
					next.Properties[0].Desired = &text
				}
				m.b.declare(&next, m.now)
			},
			"time": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(1, 40_000).Draw(t, "ms")) * time.Millisecond)
			},
			"write":  func(*rapid.T) { m.step(applied, true) },
			"fail":   func(t *rapid.T) { m.step(failed, rapid.Bool().Draw(t, "lands")) },
			"cut":    func(t *rapid.T) { m.step(cut, rapid.Bool().Draw(t, "lands")) },
			"record": func(*rapid.T) { m.b.record, _ = m.b.dealt() },
			"":       m.check,
		})
		m.finish(t)
	})
}

// check holds after every action.
func (m *boardModel) check(t *rapid.T) {
	m.collect()
	for id, states := range m.answers {
		final := slices.DeleteFunc(slices.Clone(states), func(s twin.WriteState) bool { return s == twin.Pending })
		require.LessOrEqual(t, len(final), 1, "command %s: %v", id, states)
		if len(final) > 0 {
			require.NotEqual(t, twin.Pending, states[len(states)-1], "nothing after the final answer")
		}
	}
	if record, _ := m.b.dealt(); record["p"] != "" {
		require.Equal(t, m.desired, record["p"], "only the desire of now is recorded")
	}
}

// finish lets the device take everything: it must end on what is wanted.
func (m *boardModel) finish(t *rapid.T) {
	before, wrote := m.device, false
	m.now = m.now.Add(2 * maxRetry)
	for m.step(applied, true) {
		wrote = true
	}
	if want, ok := m.wanted(); ok {
		require.Equal(t, want, m.device.Text())
	} else {
		require.False(t, wrote)
		require.Equal(t, before, m.device)
	}
	for id, states := range m.answers {
		require.NotEqual(t, twin.Pending, states[len(states)-1], "command %s is answered: %v", id, states)
	}
	if record, _ := m.b.dealt(); len(m.claims) == 0 && m.desired != "" {
		require.Equal(t, m.desired, record["p"])
	}
}

func TestATryThatLostItsPlaceHoldsNobodyUp(t *testing.T) {
	m := newBoardModel()
	m.b.command(twin.Command{ID: "1", Property: "p", Value: twin.IntValue(1), Source: "a", Priority: 8}, m.now)
	low, ok, _ := m.b.next(m.now)
	require.True(t, ok)
	m.b.command(twin.Command{ID: "2", Property: "p", Value: twin.IntValue(2), Source: "b", Priority: 1}, m.now)
	require.False(t, m.b.holdsStill(low))
	m.b.ended(low, failed, twin.Value{}, "no answer", m.now)
	high, ok, _ := m.b.next(m.now)
	require.True(t, ok, "the pause after a failure is the failed one's alone")
	require.Equal(t, twin.IntValue(2), high.value)
}

func TestThereIsABoundOnResults(t *testing.T) {
	q := newResults()
	for range maxResults {
		q.add("topic", nil)
	}
	require.Zero(t, q.dropped)
	q.add("newest", nil)
	require.Equal(t, uint64(1), q.dropped)
	require.Len(t, q.queue, maxResults)
	require.Equal(t, "newest", q.queue[maxResults-1].topic)
}

func TestThereIsABoundOnWhatIsRemembered(t *testing.T) {
	var o once
	for i := range maxOnce {
		require.True(t, o.first(fmt.Sprint(i)))
	}
	require.False(t, o.first("one more"))
	require.Len(t, o.seen, maxOnce)
}

func TestAPlanCoversEveryCycleOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := twin.Device{ID: twin.DeviceID{Namespace: "n", Name: rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "name")}}
		for i := range rapid.IntRange(1, 4).Draw(t, "properties") {
			d.Properties = append(d.Properties, twin.Property{Name: fmt.Sprint("p", i), CollectCycle: time.Duration(rapid.IntRange(1, 50).Draw(t, "cycle")) * 100 * time.Millisecond})
		}
		now := time.Unix(1_000_000, 0)
		begin := now
		p := newPlan(&d, now, now, 0)
		polled := map[string]int{}
		var missed uint64
		for now.Sub(begin) < time.Minute {
			if p.next().After(now) {
				now = p.next()
			}
			due := p.due(now)
			require.NotEmpty(t, due)
			for _, x := range due {
				polled[x.Name]++
			}
			after := now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "took")) * time.Millisecond)
			missed += p.advance(now, after)
			require.Empty(t, p.due(now), "what was polled is not due again")
			now = after
		}
		for _, it := range p.items {
			cycles := int(it.due.Sub(p.base) / it.cycle)
			require.LessOrEqual(t, polled[it.property.Name], cycles, "no burst")
			require.GreaterOrEqual(t, polled[it.property.Name]+int(missed), cycles, "and what is left out is counted")
		}
	})
}

func TestAWriteThatFailedMayHaveLanded(t *testing.T) {
	m := newBoardModel()
	m.b.command(twin.Command{ID: "1", Property: "p", Value: twin.IntValue(1), Source: "a", Priority: 8}, m.now)
	require.True(t, m.step(applied, true))
	m.b.command(twin.Command{ID: "2", Property: "p", Value: twin.IntValue(2), Source: "b", Priority: 1}, m.now)
	require.True(t, m.step(failed, true))
	m.b.command(twin.Command{ID: "3", Property: "p", Source: "b"}, m.now)
	require.True(t, m.step(applied, true), "the claim beneath is written again")
	require.Equal(t, twin.IntValue(1), m.device)
}
