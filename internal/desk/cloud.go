package desk

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/pkg/twin"
)

// cloud holds the objects. None is changed in place: a change is a new object.
// It is guarded by Desk.mu.
type cloud struct {
	objects  map[key]metav1.Object
	watches  map[*watch]struct{}
	revision int64
	devices  map[twin.DeviceID]declare.Device    // as the manifests declare them
	models   []declare.Model                     // as the manifests declare them
	declared map[twin.DeviceID]map[string]string // desired as the manifests say
	state    savedState
}

type kind uint8

const (
	modelKind kind = iota // in the order in which they make sense
	deviceKind
	statusKind
)

type key struct {
	kind kind
	id   twin.DeviceID
}

func newCloud() *cloud {
	return &cloud{objects: map[key]metav1.Object{}, watches: map[*watch]struct{}{}, devices: map[twin.DeviceID]declare.Device{}, declared: map[twin.DeviceID]map[string]string{}}
}

// watch is one Watch under way: the keys it has to look at again.
type watch struct {
	dirty map[key]struct{}
	wake  chan struct{} // one slot
}

// put stores an object, or with nil removes it, and wakes the watches.
func (c *cloud) put(k key, o metav1.Object) {
	if o == nil {
		delete(c.objects, k)
	} else {
		c.revision++
		o.SetResourceVersion(strconv.FormatInt(c.revision, 10))
		if o.GetUID() == "" {
			o.SetUID(types.UID(k.id.String()))
		}
		if old, ok := c.objects[k]; ok {
			o.SetGeneration(old.GetGeneration() + 1)
		} else {
			o.SetGeneration(1)
		}
		c.objects[k] = o
	}
	for w := range c.watches {
		w.dirty[k] = struct{}{}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (c *cloud) device(id twin.DeviceID) (*v1beta1.Device, bool) {
	o, ok := c.objects[key{deviceKind, id}].(*v1beta1.Device)
	return o, ok
}

// of returns the devices of a node with their desired values as they are now, and all models.
func (c *cloud) of(node string) (devices []declare.Device, models []declare.Model) {
	for _, id := range slices.SortedFunc(maps.Keys(c.devices), compareIDs) {
		o, ok := c.device(id)
		if !ok || o.Spec.NodeName != node {
			continue
		}
		device := c.devices[id]
		device.Object = *o
		devices = append(devices, device)
	}
	return devices, c.models
}

func compareIDs(a, b twin.DeviceID) int { return strings.Compare(a.String(), b.String()) }

func compareKeys(a, b key) int {
	if a.kind != b.kind {
		return int(a.kind) - int(b.kind)
	}
	return compareIDs(a.id, b.id)
}

// Watch implements the cluster of device management.
func (d *Desk) Watch(ctx context.Context, changed func(object metav1.Object, gone bool), synced func()) error {
	w := &watch{dirty: map[key]struct{}{}, wake: make(chan struct{}, 1)}
	d.mu.Lock()
	for k := range d.cloud.objects {
		w.dirty[k] = struct{}{}
	}
	d.cloud.watches[w] = struct{}{}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.cloud.watches, w)
		d.mu.Unlock()
	}()
	for first := true; ; first = false {
		for _, c := range d.take(w) {
			changed(c.object, c.gone)
		}
		if first {
			synced()
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

type objectChange struct {
	object metav1.Object
	gone   bool
}

// take returns the objects that a watch has to look at again, as they are now.
func (d *Desk) take(w *watch) []objectChange {
	d.mu.Lock()
	defer d.mu.Unlock()
	var changes []objectChange
	for _, k := range slices.SortedFunc(maps.Keys(w.dirty), compareKeys) {
		if o, ok := d.cloud.objects[k]; ok {
			changes = append(changes, objectChange{o, false})
			continue
		}
		var o metav1.Object
		switch k.kind {
		case modelKind:
			o = &v1beta1.DeviceModel{}
		case deviceKind:
			o = &v1beta1.Device{}
		default:
			o = &v1beta1.DeviceStatus{}
		}
		o.SetNamespace(k.id.Namespace)
		o.SetName(k.id.Name)
		changes = append(changes, objectChange{o, true})
	}
	clear(w.dirty)
	return changes
}

// Ready implements the cluster of device management: a desk is always ready.
func (d *Desk) Ready() error { return nil }

// SetDesired implements the cluster of device management. The values are in the
// state file when it returns.
func (d *Desk) SetDesired(_ context.Context, id twin.DeviceID, desired map[string]*string) (*v1beta1.Device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, ok := d.cloud.device(id)
	if !ok {
		return nil, fmt.Errorf("set desired of %s: %w", id, twin.ErrNoDevice)
	}
	next := copyDevice(old)
	if !setDesired(next, desired, d.now()) {
		return old, nil
	}
	if err := d.saveDesired(id, desired); err != nil {
		return nil, fmt.Errorf("set desired of %s: %w", id, err)
	}
	d.cloud.put(key{deviceKind, id}, next)
	d.deliver()
	return next, nil
}

// copyDevice returns a copy whose properties' desired values may be changed. The
// rest is shared: a DeepCopy would turn large numbers in configData into float64.
func copyDevice(o *v1beta1.Device) *v1beta1.Device {
	c := *o
	c.Spec.Properties = slices.Clone(o.Spec.Properties)
	return &c
}

// setDesired changes the device and reports whether it did.
func setDesired(device *v1beta1.Device, desired map[string]*string, now time.Time) bool {
	changed := false
	for _, name := range slices.Sorted(maps.Keys(desired)) {
		var want v1beta1.TwinProperty
		if text := desired[name]; text != nil {
			want = v1beta1.TwinProperty{Value: *text, Metadata: map[string]string{"timestamp": strconv.FormatInt(now.UnixMilli(), 10)}}
		}
		i := slices.IndexFunc(device.Spec.Properties, func(p v1beta1.DeviceProperty) bool { return p.Name == name })
		if i < 0 {
			if want.Value == "" {
				continue
			}
			device.Spec.Properties = append(device.Spec.Properties, v1beta1.DeviceProperty{Name: name, ReportToCloud: true})
			i = len(device.Spec.Properties) - 1
		}
		if device.Spec.Properties[i].Desired.Value != want.Value {
			device.Spec.Properties[i].Desired = want
			changed = true
		}
	}
	return changed
}

// status returns a copy of a device's status to change, as CloudCore makes one.
func (c *cloud) status(id twin.DeviceID) *v1beta1.DeviceStatus {
	if s, ok := c.objects[key{statusKind, id}].(*v1beta1.DeviceStatus); ok {
		return s.DeepCopy()
	}
	s := &v1beta1.DeviceStatus{}
	s.Namespace, s.Name = id.Namespace, id.Name
	return s
}

// twinReported is CloudCore's upstream controller: names that the Device does not list
// are left out in silence, and the first report of a property only makes its entry.
func (c *cloud) twinReported(id twin.DeviceID, result map[string]*msgTwin) {
	device, ok := c.device(id)
	if !ok {
		return
	}
	s := c.status(id)
	for _, name := range slices.Sorted(maps.Keys(result)) {
		t := result[name]
		if t == nil || !slices.ContainsFunc(device.Spec.Properties, func(p v1beta1.DeviceProperty) bool { return p.Name == name }) {
			continue
		}
		i := slices.IndexFunc(s.Status.Twins, func(t v1beta1.Twin) bool { return t.PropertyName == name })
		if i < 0 {
			s.Status.Twins = append(s.Status.Twins, v1beta1.Twin{PropertyName: name})
			continue
		}
		if t.Actual != nil {
			s.Status.Twins[i].Reported = twinProperty(t.Actual, t.Metadata)
		}
		if t.Expected != nil {
			s.Status.Twins[i].ObservedDesired = twinProperty(t.Expected, t.Metadata)
		}
	}
	c.put(key{statusKind, id}, s)
}

func twinProperty(v *twinValue, m *typeMetadata) v1beta1.TwinProperty {
	p := v1beta1.TwinProperty{Value: *v.Value, Metadata: map[string]string{}}
	if v.Metadata != nil {
		p.Metadata["timestamp"] = strconv.FormatInt(v.Metadata.Timestamp, 10)
	}
	if m != nil {
		p.Metadata["type"] = m.Type
	}
	return p
}

func (c *cloud) stateReported(id twin.DeviceID, state, lastOnline string) {
	if _, ok := c.device(id); !ok {
		return
	}
	s := c.status(id)
	s.Status.State, s.Status.LastOnlineTime = state, lastOnline
	c.put(key{statusKind, id}, s)
}
