package edgecore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/kubeedge/kubeedge/edge/pkg/devicetwin/dtcommon"
	"github.com/kubeedge/kubeedge/edge/pkg/devicetwin/dttype"

	"github.com/twinline/twinline/internal/bus/bustest"
	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/pkg/twin"
)

// edge is EdgeCore and CloudCore as a reporter meets them, with the faults of
// KubeEdge v1.23: messages overtake each other, a message is refused as a whole, a property
// keeps the type of its first report, the first report of a property is lost in
// the cloud, and what is reported while the link is down never arrives there.
type edge struct {
	bus *bustest.Memory
	ctx context.Context
	wg  sync.WaitGroup

	mu       sync.Mutex
	rng      *rand.Rand
	members  map[string]bool
	twins    map[string]map[string]shown
	states   map[string]string
	cloud    map[string]map[string]string
	cloudSt  map[string]string
	seen     []request
	open     map[string]int // messages of a device under way: EdgeCore could mix them up
	mixed    int            // times there were two
	broken   []string       // messages that would have crashed EdgeCore
	link     bool
	away     bool          // EdgeCore does not run
	deaf     float64       // share of messages that are lost before EdgeCore has them
	mute     float64       // share of answers that are lost
	slowness time.Duration // bound of each of EdgeCore's delays
	fail     map[string]int
}

type shown struct{ value, typ string }

type request struct {
	at    time.Time
	id    string
	names []string
	state string
}

func newEdge(ctx context.Context, b *bustest.Memory, seed uint64) *edge {
	e := &edge{
		bus: b, ctx: ctx, rng: rand.New(rand.NewPCG(seed, 1)), link: true,
		members: map[string]bool{}, twins: map[string]map[string]shown{}, states: map[string]string{},
		cloud: map[string]map[string]string{}, cloudSt: map[string]string{}, open: map[string]int{}, fail: map[string]int{},
	}
	for filter, handle := range map[string]func(string, []byte){
		"$hw/events/device/+/+/twin/update":  e.twinUpdate,
		"$hw/events/device/+/+/state/update": e.stateUpdate,
	} {
		if _, err := b.Subscribe(filter, handle); err != nil {
			panic(err)
		}
	}
	return e
}

func (e *edge) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func deviceOf(topic string) string {
	parts := strings.Split(topic, "/")
	return parts[3] + "/" + parts[4]
}

func (e *edge) delay() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.slowness <= 0 {
		return 0
	}
	return time.Duration(e.rng.Int64N(int64(e.slowness)))
}

func (e *edge) chance(p float64) bool { return e.rng.Float64() < p }

// later runs f in its own time, as EdgeCore's `go send()` does.
func (e *edge) later(f func()) {
	e.wg.Go(func() {
		select {
		case <-time.After(e.delay()):
			f()
		case <-e.ctx.Done():
		}
	})
}

func (e *edge) publish(topic string, payload []byte) {
	_ = e.bus.Publish(e.ctx, topic, payload) // fails at the end of the test only
}

func (e *edge) twinUpdate(topic string, payload []byte) {
	id := deviceOf(topic)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away || e.chance(e.deaf) {
		return
	}
	if e.open[id]++; e.open[id] > 1 {
		e.mixed++
	}
	e.later(func() {
		code, reason, result, eventID := e.deal(id, payload)
		e.later(func() {
			e.mu.Lock()
			e.open[id]--
			silent := e.chance(e.mute) || e.away
			e.mu.Unlock()
			if silent {
				return
			}
			if eventID == "" {
				id = ""
			}
			answer, err := dttype.BuildDeviceTwinResult(dttype.BaseMessage{EventID: eventID}, result, 0)
			if code != 0 {
				answer, err = dttype.BuildErrorResult(dttype.Parameter{EventID: eventID, Code: code, Reason: reason})
			}
			if err != nil {
				panic(err)
			}
			e.publish("$hw/events/device/"+id+"/twin/update/result", answer)
		})
	})
}

// deal is dtmanager.Updated and what it calls.
func (e *edge) deal(id string, payload []byte) (code int, reason string, result map[string]*dttype.MsgTwin, eventID string) {
	msg, err := dttype.UnmarshalDeviceTwinUpdate(payload)
	if err != nil {
		return 400, err.Error(), nil, ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	req := request{at: time.Now(), id: id}
	for name := range msg.Twin {
		req.names = append(req.names, name)
	}
	e.seen = append(e.seen, req)
	if code := e.fail[id]; code != 0 {
		return code, "as the test wants", nil, msg.EventID
	}
	if !e.members[id] {
		return 404, "update rejected due to the device is not existed", nil, msg.EventID
	}
	next := map[string]shown{}
	for name, p := range msg.Twin {
		if p == nil {
			next[name] = shown{"", dtcommon.TypeDeleted}
			continue
		}
		if (p.Actual != nil && p.Actual.Value == nil) || (p.Expected != nil && p.Expected.Value == nil) || p.Metadata == nil {
			e.broken = append(e.broken, string(payload))
			return 500, "crash", nil, msg.EventID
		}
		typ := p.Metadata.Type
		if was, ok := e.twins[id][name]; ok && was.typ != dtcommon.TypeDeleted {
			typ = was.typ
		}
		if err := dtcommon.ValidateValue(typ, *p.Actual.Value); err != nil {
			return 400, err.Error(), nil, msg.EventID
		}
		next[name] = shown{*p.Actual.Value, typ}
	}
	if e.twins[id] == nil {
		e.twins[id] = map[string]shown{}
	}
	for name, s := range next {
		e.twins[id][name] = s
	}
	if e.link {
		e.later(func() { e.toCloud(id, next) })
	}
	return 0, "", msg.Twin, msg.EventID
}

// toCloud is CloudCore's upstream controller.
func (e *edge) toCloud(id string, reported map[string]shown) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.link {
		return
	}
	if e.cloud[id] == nil {
		e.cloud[id] = map[string]string{}
	}
	for name, s := range reported {
		if _, ok := e.cloud[id][name]; !ok {
			e.cloud[id][name] = "" // the first report is lost
		} else if s.typ != dtcommon.TypeDeleted {
			e.cloud[id][name] = s.value
		}
	}
}

func (e *edge) stateUpdate(topic string, payload []byte) {
	id := deviceOf(topic)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away || e.chance(e.deaf) {
		return
	}
	e.later(func() {
		var msg dttype.DeviceUpdate
		if err := json.Unmarshal(payload, &msg); err != nil {
			panic(err)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.seen = append(e.seen, request{at: time.Now(), id: id, state: msg.State})
		if !e.members[id] {
			return // in silence
		}
		e.states[id] = msg.State
		if e.link {
			e.cloudSt[id] = msg.State
		}
		if e.chance(e.mute) {
			return
		}
		answer, err := dttype.BuildDeviceCloudMsgState(dttype.BuildBaseMessage(), dttype.Device{Name: id, State: msg.State})
		if err != nil {
			panic(err)
		}
		e.later(func() { e.publish("$hw/events/device/"+id+"/state/update/result", answer) })
	})
}

func (e *edge) addMember(id twin.DeviceID, tell bool) {
	e.set(func() { e.members[id.String()] = true })
	if tell {
		e.publish(edgecore.MembershipUpdatedTopic("n1"),
			fmt.Appendf(nil, `{"event_id":"m","added_devices":[{"id":%q}],"removed_devices":null}`, id))
	}
}

func (e *edge) dropMember(id twin.DeviceID) {
	e.set(func() { delete(e.members, id.String()); delete(e.twins, id.String()) })
}

func (e *edge) value(id twin.DeviceID, name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.twins[id.String()][name].value
}

func (e *edge) cloudValue(id twin.DeviceID, name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cloud[id.String()][name]
}

func (e *edge) requests(id twin.DeviceID) (twins, states []request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.seen {
		switch {
		case r.id != id.String():
		case r.state != "":
			states = append(states, r)
		default:
			twins = append(twins, r)
		}
	}
	return twins, states
}
