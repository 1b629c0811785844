package desk

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/pkg/twin"
)

// What EdgeCore listens to (eventbus/mqtt/client.go), and its prefixes.
const (
	devicePrefix = "$hw/events/device/"
	nodePrefix   = "$hw/events/node/"
	deviceTopics = devicePrefix + "#"
	nodeTopics   = nodePrefix + "+/membership/get"
)

type message struct {
	topic   string
	payload []byte
}

// edge holds what EdgeCore holds. It is guarded by Desk.mu.
type edge struct {
	check   checker
	now     func() time.Time
	twins   map[twin.DeviceID]*deviceTwin
	devices []declare.Device // as MetaServer gives them
	models  []declare.Model
	changed chan struct{} // closed when devices or models change
}

func newEdge(now func() time.Time) *edge {
	return &edge{check: newChecker(), now: now, twins: map[twin.DeviceID]*deviceTwin{}, changed: make(chan struct{})}
}

// deliver takes the node's objects from the cloud.
func (e *edge) deliver(devices []declare.Device, models []declare.Model) {
	e.devices, e.models = devices, models
	have := map[twin.DeviceID]bool{}
	for i := range devices {
		id := twin.DeviceID{Namespace: devices[i].Object.Namespace, Name: devices[i].Object.Name}
		have[id] = true
		if e.twins[id] == nil {
			e.twins[id] = &deviceTwin{name: id.Name, state: "unknown", twins: map[string]*msgTwin{}}
		}
	}
	maps.DeleteFunc(e.twins, func(id twin.DeviceID, _ *deviceTwin) bool { return !have[id] })
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *edge) jammed() []twin.DeviceID {
	var ids []twin.DeviceID
	for id, t := range e.twins {
		if t.jammed {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// handle answers one message as EdgeCore does, and carries to the cloud what it carries.
func (d *Desk) handle(m message) []message {
	d.mu.Lock()
	defer d.mu.Unlock()
	if rest, ok := strings.CutPrefix(m.topic, nodePrefix); ok {
		node, _, _ := strings.Cut(rest, "/")
		return d.edge.membership(node)
	}
	parts := strings.Split(strings.TrimPrefix(m.topic, devicePrefix), "/")
	if len(parts) != 4 {
		return nil // an answer of ours, or nothing EdgeCore listens to
	}
	id := twin.DeviceID{Namespace: parts[0], Name: parts[1]}
	switch parts[2] + "/" + parts[3] {
	case "twin/update":
		return d.twinUpdate(id, m.payload)
	case "twin/get":
		return d.edge.twinGet(id, m.payload)
	case "state/update":
		return d.stateUpdate(id, m.payload)
	}
	return nil
}

func (d *Desk) twinUpdate(id twin.DeviceID, payload []byte) []message {
	e, now := d.edge, d.edge.now()
	prefix := devicePrefix + id.String()
	refuse := func(prefix, event string, code int, err error) []message {
		return []message{{prefix + "/twin/update/result", mustJSON(errorResult{event, now.UnixMilli(), code, err.Error()})}}
	}
	u, err := e.check.parse(payload)
	if err != nil {
		return refuse(devicePrefix, "", codeBadRequest, err) // EdgeCore forgets whose it was
	}
	t, ok := e.twins[id]
	if !ok {
		return refuse(prefix, u.EventID, codeNotFound, errNoDevice)
	}
	if t.jammed {
		return nil
	}
	o := t.update(u.Twin, now)
	if errors.Is(o.err, errJam) {
		t.jammed = true
		d.deps.Log.Error("EdgeCore would not survive this message", "device", id, "error", o.err)
		return nil
	}
	if o.err != nil {
		return refuse(prefix, u.EventID, o.code, o.err)
	}
	answers := []message{{prefix + "/twin/update/result", mustJSON(twinUpdate{u.EventID, now.UnixMilli(), o.result})}}
	if len(o.document) > 0 {
		answers = append(answers, message{prefix + "/twin/update/document", mustJSON(twinDocument{newEventID(), now.UnixMilli(), o.document})})
	}
	if twins, delta, ok := t.delta(); ok {
		answers = append(answers, message{prefix + "/twin/update/delta", mustJSON(twinDelta{newEventID(), now.UnixMilli(), twins, delta})})
	}
	if d.link.Up {
		d.cloud.twinReported(id, o.result)
	}
	return answers
}

func (e *edge) twinGet(id twin.DeviceID, payload []byte) []message {
	topic := devicePrefix + id.String() + "/twin/get/result"
	now := e.now().UnixMilli()
	var request struct {
		EventID string `json:"event_id"`
	}
	if err := json.Unmarshal(payload, &request); err != nil {
		return []message{{topic, mustJSON(errorResult{"", now, codeBadRequest, errUnmarshal.Error()})}}
	}
	t, ok := e.twins[id]
	if !ok {
		return []message{{topic, mustJSON(errorResult{request.EventID, now, codeNotFound, "twins Not Found"})}}
	}
	return []message{{topic, mustJSON(twinUpdate{request.EventID, now, t.twins})}}
}

func (d *Desk) stateUpdate(id twin.DeviceID, payload []byte) []message {
	var u stateUpdate
	if err := json.Unmarshal(payload, &u); err != nil {
		return nil
	}
	t, ok := d.edge.twins[id]
	if !ok || !slices.Contains([]string{"online", "offline", "ok", "unknown", "unhealthy"}, strings.ToLower(u.State)) {
		return nil
	}
	now := d.edge.now()
	t.state, t.lastOnline = u.State, ""
	if s := strings.ToLower(u.State); s == "online" || s == "ok" {
		t.lastOnline = now.UTC().Format(time.RFC3339)
	}
	if d.link.Up {
		d.cloud.stateReported(id, t.state, t.lastOnline)
	}
	return []message{{
		devicePrefix + id.String() + "/state/update/result",
		mustJSON(stateResult{newEventID(), now.UnixMilli(), stateDevice{t.name, t.state, t.lastOnline}}),
	}}
}

func (e *edge) membership(node string) []message {
	m := membership{EventID: newEventID(), Timestamp: e.now().UnixMilli(), Devices: []memberDevice{}}
	for _, id := range slices.SortedFunc(maps.Keys(e.twins), compareIDs) {
		t := e.twins[id]
		m.Devices = append(m.Devices, memberDevice{id.String(), t.name, t.state, t.lastOnline})
	}
	return []message{{nodePrefix + node + "/membership/get/result", mustJSON(m)}}
}

// Source is what a mapper of one protocol learns from MetaServer. It is a mapper.Source.
type Source struct {
	desk     *Desk
	protocol string
}

// Source returns the source of the node's devices of a protocol.
func (d *Desk) Source(protocol string) *Source { return &Source{d, protocol} }

// Run calls set with the whole set of devices, now and after every change that
// reached the edge, until ctx ends.
func (s *Source) Run(ctx context.Context, set func([]twin.Device, []twin.Problem)) error {
	for {
		s.desk.mu.Lock()
		e := s.desk.edge
		devices, models, changed := e.devices, e.models, e.changed
		s.desk.mu.Unlock()
		var mine []declare.Device
		for i := range devices {
			if strings.EqualFold(devices[i].Object.Spec.Protocol.ProtocolName, s.protocol) {
				mine = append(mine, devices[i])
			}
		}
		set(declare.Resolve(mine, models))
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
