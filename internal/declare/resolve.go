package declare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// Resolve merges each device with its model, as KubeEdge's DMI does: keys of
// the model's protocolConfigData and visitors hold unless the device gives them
// too. A device has the properties that its own object lists, in the model's order.
//
// Every mistake is one problem. A property with one is left out; a
// device-wide one leaves out the device; nothing else is touched. These are said without leaving
// anything out: methods, pushMethod, a stateReport or status that is not
// honoured, a nodeName that is missing, and a desired value that cannot be
// applied (it is kept if the property is writable, so that writing it is refused for all to see).
func Resolve(devices []Device, models []Model) ([]twin.Device, []twin.Problem) {
	r := resolver{models: map[twin.DeviceID]*model{}}
	for i := range models {
		r.addModel(&models[i])
	}
	seen := map[twin.DeviceID]string{}
	var resolved []twin.Device
	for i := range devices {
		dev := &devices[i]
		id := twin.DeviceID{Namespace: namespaceOf(dev.Object.Namespace), Name: dev.Object.Name}
		rep := &report{object: objectName(kindDevice, id.Namespace, id.Name)}
		if first, twice := seen[id]; twice {
			rep.problem("metadata.name", "declared twice"+where(first, dev.Source), "keep one of them; the first holds")
		} else {
			seen[id] = dev.Source
			if d, ok := r.device(rep, id, dev); ok {
				resolved = append(resolved, d)
			}
		}
		r.problems = append(r.problems, rep.list()...)
	}
	return resolved, r.problems
}

func where(first, second string) string {
	if first == "" || second == "" {
		return ""
	}
	return fmt.Sprintf(": in %s and in %s", first, second)
}

func namespaceOf(ns string) string {
	if ns == "" {
		return "default"
	}
	return ns
}

type resolver struct {
	models   map[twin.DeviceID]*model
	problems []twin.Problem
}

// model is a checked DeviceModel.
type model struct {
	spec       *v1beta1.DeviceModelSpec
	unusable   bool
	properties map[string]*modelProperty
}

// modelProperty is a checked property of a model; the Property has what a model says.
type modelProperty struct {
	index    int
	unusable bool
	property twin.Property
	visitors *v1beta1.VisitorConfig
}

// device resolves one device; false leaves it out.
func (r *resolver) device(rep *report, id twin.DeviceID, dev *Device) (twin.Device, bool) {
	spec := &dev.Object.Spec
	usable := !dev.refused.whole && checkName(rep, id)
	m := r.modelOf(rep, id, spec)
	protocol := strings.ToLower(spec.Protocol.ProtocolName)
	if protocol == "" && !dev.refused.whole {
		rep.problem("spec.protocol.protocolName", "missing", "write the protocol's name, such as modbus")
		usable = false
	}
	if m != nil && m.spec.Protocol != "" && protocol != "" && !strings.EqualFold(m.spec.Protocol, protocol) {
		rep.problem("spec.protocol.protocolName", fmt.Sprintf("%q, but the model is for %q", spec.Protocol.ProtocolName, m.spec.Protocol), "use a model of the same protocol")
		usable, protocol = false, ""
	}
	if len(spec.Properties) > MaxProperties {
		rep.problem("spec.properties", fmt.Sprintf("%d properties", len(spec.Properties)), fmt.Sprintf("declare at most %d; split the device in two", MaxProperties))
		return twin.Device{}, false
	}
	if spec.NodeName == "" {
		rep.problem("spec.nodeName", "missing: no node serves the device", "write the name of the edge node that the device is wired to")
	}
	refuseUnserved(rep, &dev.Object)
	if m == nil || m.unusable {
		return twin.Device{}, false
	}
	d := twin.Device{
		ID: id, Node: spec.NodeName, Model: spec.DeviceModelRef.Name, Protocol: protocol,
		Config:           merge(m.spec.ProtocolConfigData, spec.Protocol.ConfigData),
		StateReportCycle: stateReport(rep, spec.StateReport),
	}
	d.Properties = deviceProperties(rep, dev, m, protocol)
	if len(spec.Properties) == 0 && !dev.refused.whole {
		rep.problem("spec.properties", "empty: nothing of the device is read", "list the properties of the model that the device has, by name")
	}
	return d, usable
}

// checkName checks what KubeEdge can carry.
func checkName(rep *report, id twin.DeviceID) bool {
	if _, err := twin.ParseDeviceID(id.String()); err != nil {
		rep.problem("metadata.name", fmt.Sprintf("%.80q is not a name that Kubernetes allows", id), "use lower-case letters, digits and hyphens")
		return false
	}
	// EdgeCore finds the device in a topic by the namespace's first occurrence
	// (edge/pkg/devicetwin/process.go), so these break all twins silently.
	if strings.Contains("$hw/events/device/", id.Namespace) {
		rep.problem("metadata.namespace", fmt.Sprintf("KubeEdge cannot carry twins of the namespace %q: it is part of its own topic $hw/events/device/", id.Namespace), "use another namespace, such as default or "+id.Namespace+"-1")
		return false
	}
	return true
}

// modelOf finds the device's model; nil, with the problem said, if there is none to use.
func (r *resolver) modelOf(rep *report, id twin.DeviceID, spec *v1beta1.DeviceSpec) *model {
	if spec.DeviceModelRef == nil || spec.DeviceModelRef.Name == "" {
		rep.problem("spec.deviceModelRef.name", "missing; CloudCore of KubeEdge 1.23 crashes on such a Device", "write the name of a DeviceModel in the same namespace")
		return nil
	}
	name := spec.DeviceModelRef.Name
	m, ok := r.models[twin.DeviceID{Namespace: id.Namespace, Name: name}]
	switch {
	case !ok:
		var known []string
		for mid := range r.models {
			if mid.Namespace == id.Namespace {
				known = append(known, mid.Name)
			}
		}
		slices.Sort(known)
		remedy := "declare the DeviceModel " + id.Namespace + "/" + name
		if len(known) > 0 {
			remedy += ", or: " + schema.Suggest(name, known)
		}
		rep.problem("spec.deviceModelRef.name", fmt.Sprintf("there is no DeviceModel %.253q in the namespace %s", name, id.Namespace), remedy)
		return nil
	case m.unusable:
		rep.problem("spec.deviceModelRef.name", fmt.Sprintf("the DeviceModel %.253q is declared wrongly", name), "mend the model, whose problems are listed")
	}
	return m
}

// refuseUnserved says what of a device is not honoured.
func refuseUnserved(rep *report, dev *v1beta1.Device) {
	if len(dev.Spec.Methods) > 0 {
		r := refusalOf("spec.methods")
		rep.problem(r.Path, r.What, r.Remedy)
	}
	if dev.Status != (v1beta1.DeviceStatusOld{}) {
		r := refusalOf("status")
		rep.problem(r.Path, r.What, r.Remedy)
	}
}

// stateReport gives how often the state is reported; zero leaves it to the reporter.
func stateReport(rep *report, s *v1beta1.StateReportConfig) time.Duration {
	if s == nil {
		return 0
	}
	if !s.ReportToCloud {
		rep.problem("spec.stateReport.reportToCloud", "the state of a device is always reported", "write reportToCloud: true, or leave stateReport out")
	}
	cycle, _ := cycleOf(rep, "spec.stateReport.reportCycle", s.ReportCycle, 0)
	return cycle
}

// cycleOf turns milliseconds into a duration; zero gives the default.
func cycleOf(rep *report, field string, ms int64, def time.Duration) (time.Duration, bool) {
	if ms == 0 {
		return def, true
	}
	if ms < MinCycle.Milliseconds() || ms > MaxCycle.Milliseconds() {
		rep.problem(field, fmt.Sprintf("%d ms is out of range", ms), fmt.Sprintf("write milliseconds, %d to %d; or leave it out", MinCycle.Milliseconds(), MaxCycle.Milliseconds()))
		return def, false
	}
	return time.Duration(ms) * time.Millisecond, true
}

// merge returns base with the keys of over in place of its own; a null takes a key away.
func merge(base, over *v1beta1.CustomizedValue) map[string]any {
	var merged map[string]any
	for _, v := range []*v1beta1.CustomizedValue{base, over} {
		switch {
		case v == nil:
		case len(merged) == 0:
			merged = exactMap(v.Data) // a copy: devices do not share their model's maps
		default:
			maps.Copy(merged, exactMap(v.Data))
		}
	}
	if merged == nil {
		merged = map[string]any{}
	}
	maps.DeleteFunc(merged, func(_ string, v any) bool { return v == nil })
	return merged
}
