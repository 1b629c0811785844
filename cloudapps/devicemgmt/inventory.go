package devicemgmt

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/pkg/twin"
)

// inventory holds all devices of the cluster: their objects, and the views made
// of them. One inventory lives as long as one Cluster.Watch.
type inventory struct {
	text     TwinText
	patience patience
	now      func() time.Time
	feed     *feed

	mu      sync.RWMutex
	synced  bool
	devices map[twin.DeviceID]*entry
	models  map[twin.DeviceID]*v1beta1.DeviceModel
	// statuses holds those that came before their Device.
	statuses map[twin.DeviceID]*v1beta1.DeviceStatus
	sorted   []twin.DeviceID // of devices; nil when it must be made anew
}

type entry struct {
	facts
	view *View
	next time.Time // when the view changes by itself; zero: never
}

func newInventory(text TwinText, p patience) *inventory {
	return &inventory{
		text: text, patience: p, now: time.Now, feed: newFeed(),
		devices: map[twin.DeviceID]*entry{}, models: map[twin.DeviceID]*v1beta1.DeviceModel{}, statuses: map[twin.DeviceID]*v1beta1.DeviceStatus{},
	}
}

func idOf(o metav1.Object) twin.DeviceID {
	return twin.DeviceID{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// apply takes one object from the cluster.
func (in *inventory) apply(object metav1.Object, gone bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	id := idOf(object)
	switch o := object.(type) {
	case *v1beta1.Device:
		if gone {
			in.removeDevice(id)
			return
		}
		in.putDevice(id, o)
	case *v1beta1.DeviceModel:
		if gone {
			delete(in.models, id)
		} else {
			in.models[id] = o
		}
		for _, e := range in.devices {
			if in.modelOf(e.object) == id {
				in.declare(e)
			}
		}
	case *v1beta1.DeviceStatus:
		if gone {
			o = nil
		}
		in.putStatus(id, o)
	}
}

func (in *inventory) removeDevice(id twin.DeviceID) {
	e, ok := in.devices[id]
	if !ok {
		return
	}
	if e.status != nil { // Kubernetes removes it next; until then it may belong to a new Device
		in.statuses[id] = e.status
	}
	delete(in.devices, id)
	in.sorted = nil
	in.put(id, nil)
}

// putDevice takes a Device, unless a newer one of the same life is known already
// from SetDesired: generation rises with each change of the object.
func (in *inventory) putDevice(id twin.DeviceID, o *v1beta1.Device) {
	e, ok := in.devices[id]
	if ok && e.object.UID == o.UID && o.Generation < e.object.Generation {
		return
	}
	if !ok {
		e = &entry{facts: facts{heard: map[string]heard{}, pending: map[string]pending{}, status: in.statuses[id]}}
		delete(in.statuses, id)
		in.devices[id] = e
		in.sorted = nil
	}
	e.object = o
	in.declare(e)
}

func (in *inventory) putStatus(id twin.DeviceID, s *v1beta1.DeviceStatus) {
	e, ok := in.devices[id]
	switch {
	case ok:
		e.status = s
		in.join(e)
	case s == nil:
		delete(in.statuses, id)
	default:
		in.statuses[id] = s
	}
}

func (in *inventory) modelOf(o *v1beta1.Device) twin.DeviceID {
	if o.Spec.DeviceModelRef == nil {
		return twin.DeviceID{}
	}
	return twin.DeviceID{Namespace: o.Namespace, Name: o.Spec.DeviceModelRef.Name}
}

// declare resolves a device with its model and joins it.
func (in *inventory) declare(e *entry) {
	e.declared, e.problems = in.resolve(e.object)
	in.join(e)
}

// resolve returns what a Device object declares; nil if it cannot be used at all.
func (in *inventory) resolve(object *v1beta1.Device) (*twin.Device, []twin.Problem) {
	var models []declare.Model
	if m, ok := in.models[in.modelOf(object)]; ok {
		models = append(models, declare.Model{Object: *m})
	}
	devices, problems := declare.Resolve([]declare.Device{{Object: *object}}, models)
	if len(devices) != 1 {
		return nil, problems
	}
	return &devices[0], problems
}

func (in *inventory) join(e *entry) {
	e.view, e.next = e.facts.join(in.now(), in.text, in.patience)
	in.put(e.view.ID, e.view)
}

// put tells the readers, once the whole is known: before that half a picture would go out.
func (in *inventory) put(id twin.DeviceID, v *View) {
	if in.synced {
		in.feed.put(id, v)
	}
}

// sync opens the feed: everything is known.
func (in *inventory) sync() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.synced {
		return
	}
	in.synced = true
	for _, id := range in.ids() {
		e := in.devices[id]
		in.declare(e) // the model may have come after the device
	}
}

// age renews the views that time has changed.
func (in *inventory) age() {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := in.now()
	for _, e := range in.devices {
		if !e.next.IsZero() && now.After(e.next) {
			in.join(e)
		}
	}
}

// view returns a device's view; the caller must not change it.
func (in *inventory) view(id twin.DeviceID) (*View, bool) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	e, ok := in.devices[id]
	if !ok {
		return nil, false
	}
	return e.view, true
}

// declaredWith returns what a device's properties may be set to; nil if its
// declaration cannot be used. A property that only the model lists counts as if
// the Device listed it too: SetDesired adds it.
func (in *inventory) declaredWith(id twin.DeviceID, desired map[string]*twin.Value) (*twin.Device, bool) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	e, ok := in.devices[id]
	if !ok {
		return nil, false
	}
	model, ok := in.models[in.modelOf(e.object)]
	if e.facts.declared == nil || !ok {
		return nil, true
	}
	object := *e.object
	object.Spec.Properties = slices.Clone(object.Spec.Properties)
	for _, p := range model.Spec.Properties {
		if _, wanted := desired[p.Name]; wanted && !slices.ContainsFunc(object.Spec.Properties, func(q v1beta1.DeviceProperty) bool { return q.Name == p.Name }) {
			object.Spec.Properties = append(object.Spec.Properties, v1beta1.DeviceProperty{Name: p.Name, ReportToCloud: true})
		}
	}
	if len(object.Spec.Properties) == len(e.object.Spec.Properties) {
		return e.facts.declared, true
	}
	device, _ := in.resolve(&object)
	return device, true
}

func (in *inventory) isSynced() bool {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.synced
}

// ids returns the ids in order. in.mu is held.
func (in *inventory) ids() []twin.DeviceID {
	if in.sorted == nil {
		in.sorted = make([]twin.DeviceID, 0, len(in.devices))
		for id := range in.devices {
			in.sorted = append(in.sorted, id)
		}
		slices.SortFunc(in.sorted, compareIDs)
	}
	return in.sorted
}

// compareIDs orders by namespace, then name.
func compareIDs(a, b twin.DeviceID) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// filter says which devices a list has.
type filter struct {
	namespace, node, query string
	state                  State
}

func (f *filter) matches(v *View) bool {
	return (f.namespace == "" || v.Namespace == f.namespace) && (f.node == "" || v.Node == f.node) &&
		(f.state == "" || v.State == f.state) &&
		(f.query == "" || strings.Contains(v.ID.String(), f.query) || strings.Contains(v.Model, f.query) || strings.Contains(v.Node, f.query))
}

// list returns up to limit views after the id, in order, and whether there are more.
func (in *inventory) list(f filter, after twin.DeviceID, limit int) (views []*View, more bool) {
	in.mu.Lock() // ids may be made anew
	defer in.mu.Unlock()
	ids := in.ids()
	start, found := slices.BinarySearchFunc(ids, after, compareIDs)
	if found {
		start++
	}
	for _, id := range ids[start:] {
		v := in.devices[id].view
		if !f.matches(v) {
			continue
		}
		if len(views) == limit {
			return views, true
		}
		views = append(views, v)
	}
	return views, false
}

// count adds up the devices by state.
func (in *inventory) count(counts map[State]int) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	for _, e := range in.devices {
		counts[e.view.State]++
	}
}
