package devicemgmt

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"

	"github.com/twinline/twinline/pkg/twin"
)

// facts is all that is known of one device; join makes a View of it.
type facts struct {
	object   *v1beta1.Device
	declared *twin.Device // nil if the declaration cannot be resolved at all
	problems []twin.Problem
	status   *v1beta1.DeviceStatus // nil before the first report

	heard   map[string]heard   // of a property, or of the state under ""
	pending map[string]pending // of a property that is not as desired
}

// heard is when a timestamp of the edge was first seen here. Silence is measured
// by this clock, because that of an edge node may be wrong.
type heard struct {
	stamp string
	at    time.Time
}

// pending is since when a desired text waits to be seen on the device, or, if
// synced, since when it is.
type pending struct {
	text   string
	since  time.Time
	synced bool
}

// patience says how long silence is normal.
type patience struct {
	report time.Duration // a twin is reported again at least this often
	state  time.Duration // a state is reported again at least this often
	write  time.Duration // a write is confirmed within this
}

// Silence of less than this many report cycles is normal: one report may be lost.
const cyclesToStale = 3

// silence returns how long a property with that report cycle may say nothing.
func (p patience) silence(reportCycle time.Duration) time.Duration {
	return max(p.report, cyclesToStale*reportCycle)
}

// join makes the view of a device as of now, and the next time at which it
// changes though nothing is heard; zero if never.
func (f *facts) join(now time.Time, text TwinText, p patience) (*View, time.Time) {
	v := &View{
		Namespace: f.object.Namespace, Name: f.object.Name, Node: f.object.Spec.NodeName,
		Protocol: f.object.Spec.Protocol.ProtocolName, Properties: []PropertyView{}, Problems: problemViews(f.problems),
	}
	v.ID = twin.DeviceID{Namespace: v.Namespace, Name: v.Name}
	if ref := f.object.Spec.DeviceModelRef; ref != nil {
		v.Model = ref.Name
	}
	var next nextChange
	device := f.declared
	if device == nil {
		device = &twin.Device{}
	} else {
		v.Protocol = device.Protocol
	}
	longest := p.report
	for i := range device.Properties {
		property := &device.Properties[i]
		view := PropertyView{
			Name: property.Name, Type: property.Type, Unit: property.Unit,
			Writable: property.Writable, Minimum: property.Minimum, Maximum: property.Maximum,
		}
		longest = max(longest, p.silence(property.ReportCycle))
		view.Reported = f.reported(property, now, text, p, &next)
		view.Desired = f.desired(property)
		view.Sync = f.sync(property, &view, now, p, &next)
		f.settle(&view, now)
		if view.Reported != nil {
			v.seen(f.heard[property.Name].at)
		}
		v.Properties = append(v.Properties, view)
	}
	if f.status != nil && f.status.Status.State != "" {
		longest = max(p.state, cyclesToStale*device.StateReportCycle)
	}
	f.state(v, now, longest, &next)
	return v, next.at
}

// nextChange keeps the earliest of the times it is told of.
type nextChange struct{ at time.Time }

func (n *nextChange) add(t time.Time) {
	if n.at.IsZero() || t.Before(n.at) {
		n.at = t
	}
}

func (v *View) seen(t time.Time) {
	if v.LastSeen == nil || t.After(*v.LastSeen) {
		v.LastSeen = &t
	}
}

// twin returns what CloudCore stores of a property.
func (f *facts) twin(name string) *v1beta1.Twin {
	if f.status == nil {
		return nil
	}
	for i := range f.status.Status.Twins {
		if f.status.Status.Twins[i].PropertyName == name {
			return &f.status.Status.Twins[i]
		}
	}
	return nil
}

// reported reads a property's twin. CloudCore loses the first report of each
// property and leaves an empty one without a timestamp: that is no report.
func (f *facts) reported(property *twin.Property, now time.Time, text TwinText, p patience, next *nextChange) *ReportedView {
	t := f.twin(property.Name)
	if t == nil {
		return nil
	}
	at, ok := milliseconds(t.Reported.Metadata["timestamp"])
	if !ok {
		return nil
	}
	heardAt := f.hear(property.Name, t.Reported.Metadata["timestamp"], at, now)
	r := &ReportedView{Time: at}
	r.Value, r.Quality = text.Decode(property.Type, t.Reported.Value)
	if r.Quality.IsGood() {
		r.Quality = twin.Good
	}
	if property.ReportToCloud {
		deadline := heardAt.Add(p.silence(property.ReportCycle))
		if r.Stale = now.After(deadline); !r.Stale {
			next.add(deadline)
		}
	}
	return r
}

// hear returns when a stamp was first seen. The first stamp of a property may
// be old already, so it is taken at its word unless it lies in the future.
func (f *facts) hear(name, stamp string, at, now time.Time) time.Time {
	last, known := f.heard[name]
	switch {
	case !known && at.Before(now):
		last = heard{stamp, at.UTC()}
	case last.stamp != stamp:
		last = heard{stamp, now.UTC()}
	}
	f.heard[name] = last
	return last.at
}

func milliseconds(s string) (time.Time, bool) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms <= 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(ms).UTC(), true
}

// desired reads the desired value and, if SetDesired left one, when it was set.
func (f *facts) desired(property *twin.Property) *DesiredView {
	if property.Desired == nil {
		return nil
	}
	d := &DesiredView{Text: *property.Desired}
	if v, err := twin.ParseValue(property.Type, d.Text); err == nil {
		d.Value = v
	}
	for i := range f.object.Spec.Properties {
		p := &f.object.Spec.Properties[i]
		if p.Name != property.Name {
			continue
		}
		if at, ok := milliseconds(p.Desired.Metadata[DesiredTime]); ok {
			d.Since = &at
		}
	}
	return d
}

// DesiredTime is the key in desired.metadata under which SetDesired leaves when
// the value was set: milliseconds since 1970, as EdgeCore writes the time of a report.
const DesiredTime = "timestamp"

func (f *facts) sync(property *twin.Property, view *PropertyView, now time.Time, p patience, next *nextChange) SyncView {
	if view.Desired == nil {
		return SyncView{State: NoDesired}
	}
	want, err := property.Parse(view.Desired.Text)
	if err != nil {
		return SyncView{State: Invalid, Reason: err.Error()}
	}
	if r := view.Reported; r != nil && !r.Quality.IsBad() && same(property.Type, want, r.Value) {
		return SyncView{State: InSync}
	}
	since := f.since(property.Name, view.Desired, now)
	deadline := since.Add(p.write + property.CollectCycle + property.ReportCycle)
	if now.Before(deadline) {
		next.add(deadline)
		return SyncView{State: Pending, Since: &since, Reason: "not seen on the device yet"}
	}
	return SyncView{State: Overdue, Since: &since, Reason: f.overdue(view)}
}

// settle forgets a wait that is over, but not that it is: when the device drifts
// away later, it is from then on that it differs.
func (f *facts) settle(view *PropertyView, now time.Time) {
	switch last := f.pending[view.Name]; {
	case view.Sync.State == InSync && !last.synced:
		f.pending[view.Name] = pending{text: view.Desired.Text, since: now.UTC(), synced: true}
	case view.Sync.State == NoDesired || view.Sync.State == Invalid:
		delete(f.pending, view.Name)
	}
}

// since returns when the desired text was set: as SetDesired noted it, where that
// note can belong to this text, else when it was first seen here.
func (f *facts) since(name string, d *DesiredView, now time.Time) time.Time {
	last, known := f.pending[name]
	if known && last.text == d.Text && !last.synced {
		return last.since
	}
	next := pending{text: d.Text, since: now.UTC()}
	if d.Since != nil && d.Since.Before(now) && (!known || d.Since.After(last.since)) {
		next.since = *d.Since
	}
	f.pending[name] = next
	return next.since
}

// overdue guesses, in words, why a write has not been seen.
func (f *facts) overdue(view *PropertyView) string {
	switch r := view.Reported; {
	case f.status == nil || r == nil:
		return "the property was never reported: is its mapper running?"
	case r.Stale:
		return "nothing is heard of the property: the device or its link to the cloud may be down"
	case r.Quality.IsBad():
		return fmt.Sprintf("the property cannot be read (%s)", r.Quality)
	case f.object.Spec.NodeName == "":
		return "the device has no node"
	}
	return "the device shows another value: it may have refused the write"
}

// same reports whether the device shows what is wanted. A FLOAT goes through
// single precision on the wire.
func same(t twin.Type, want, have twin.Value) bool {
	if want.Equal(have) {
		return true
	}
	a, okA := want.AsFloat()
	b, okB := have.AsFloat()
	return t == twin.TypeFloat && okA && okB && float32(a) == float32(b)
}

// state fills the view's state. A device that is said to be online, but of which
// nothing was heard for the longest silence that is normal, is stale: that of
// states, or that of its slowest twin if its mapper reports no states.
func (f *facts) state(v *View, now time.Time, silence time.Duration, next *nextChange) {
	if f.status != nil {
		v.ReportedState = f.status.Status.State
		if at, err := time.Parse(time.RFC3339, f.status.Status.LastOnlineTime); err == nil {
			at = at.UTC()
			v.LastOnline = &at
			v.seen(f.hear("", f.status.Status.LastOnlineTime, at, now))
		}
	}
	switch strings.ToLower(v.ReportedState) {
	case "online", "ok":
		v.State = Online
	case "offline":
		v.State = Offline
	case "unhealthy":
		v.State = Unhealthy
	default:
		v.State = Unknown
		if v.LastSeen == nil {
			return
		}
		v.State = Online // twins come in: the state report alone was lost
	}
	if v.LastSeen == nil || v.State == Offline {
		return
	}
	deadline := v.LastSeen.Add(silence)
	if now.After(deadline) {
		v.State = Stale
		return
	}
	next.add(deadline)
}
