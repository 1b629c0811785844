package declare

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kubeedge/api/apis/devices/v1beta1"

	"github.com/twinline/twinline/internal/number"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// addModel checks a model and makes it known.
func (r *resolver) addModel(source *Model) {
	obj := &source.Object
	id := twin.DeviceID{Namespace: namespaceOf(obj.Namespace), Name: obj.Name}
	rep := &report{object: objectName(kindModel, id.Namespace, id.Name)}
	defer func() { r.problems = append(r.problems, rep.list()...) }()
	if _, twice := r.models[id]; twice {
		rep.problem("metadata.name", "declared twice", "keep one of them; the first holds")
		return
	}
	m := &model{spec: &obj.Spec, unusable: source.refused.whole, properties: map[string]*modelProperty{}}
	r.models[id] = m
	if len(obj.Spec.Properties) > MaxProperties {
		rep.problem("spec.properties", fmt.Sprintf("%d properties", len(obj.Spec.Properties)), fmt.Sprintf("declare at most %d", MaxProperties))
		m.unusable = true
		return
	}
	for i := range obj.Spec.Properties {
		p := &obj.Spec.Properties[i]
		path := fmt.Sprintf("spec.properties[%d]", i)
		if source.refused.properties[i] {
			if p.Name != "" && m.properties[p.Name] == nil {
				m.properties[p.Name] = &modelProperty{index: i, unusable: true}
			}
			continue
		}
		if !propertyName(rep, path, p.Name) {
			continue
		}
		if first, twice := m.properties[p.Name]; twice {
			rep.problem(path+".name", fmt.Sprintf("%q is also the name of spec.properties[%d]", p.Name, first.index), "use another name, or remove it; neither is served")
			first.unusable = true
			continue
		}
		mp := &modelProperty{index: i, visitors: p.Visitors}
		mp.unusable = !mp.check(rep, path, p)
		m.properties[p.Name] = mp
	}
}

// propertyName checks a name against what EdgeCore takes as the name of a twin
// (edge/pkg/devicetwin/dtcommon/util.go): ^[a-zA-Z0-9-_.,:/@#]{1,128}$.
func propertyName(rep *report, path, name string) bool {
	const alphabet = "letters, digits and - _ . , : / @ #"
	switch {
	case name == "":
		rep.problem(path+".name", "missing", "write the property's name")
	case len(name) > twin.MaxPropertyLength:
		rep.problem(path+".name", fmt.Sprintf("%.40q… has %d characters", name, len(name)), fmt.Sprintf("use at most %d", twin.MaxPropertyLength))
	case strings.ContainsFunc(name, func(c rune) bool { return !edgeCoreAllows(c) }):
		rep.problem(path+".name", fmt.Sprintf("EdgeCore does not take %q as a property's name", name), "use only "+alphabet)
	default:
		return true
	}
	return false
}

func edgeCoreAllows(c rune) bool {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strings.ContainsRune("-_.,:/@#", c)
}

// check fills mp.property; false if the model's property cannot be used.
func (mp *modelProperty) check(rep *report, path string, p *v1beta1.ModelProperty) bool {
	ok := true
	switch t := twin.Type(p.Type); t {
	case twin.TypeInt, twin.TypeFloat, twin.TypeDouble, twin.TypeBoolean, twin.TypeString, twin.TypeBytes:
	case "STREAM":
		rep.problem(path+".type", "a STREAM carries no values", "leave video to KubeEdge's stream mapper, and declare what is measured as a property of another type")
		return false
	default:
		rep.problem(path+".type", fmt.Sprintf("%.40q is not a type", p.Type), "write INT, FLOAT, DOUBLE, BOOLEAN, STRING or BYTES")
		return false
	}
	if p.AccessMode != v1beta1.ReadOnly && p.AccessMode != v1beta1.ReadWrite {
		rep.problem(path+".accessMode", fmt.Sprintf("%.40q is not an access mode", p.AccessMode), "write ReadOnly or ReadWrite")
		ok = false
	}
	mp.property = twin.Property{Name: p.Name, Type: twin.Type(p.Type), Writable: p.AccessMode == v1beta1.ReadWrite, Unit: p.Unit}
	var okMin, okMax bool
	mp.property.Minimum, okMin = limit(rep, path+".minimum", p, p.Minimum)
	mp.property.Maximum, okMax = limit(rep, path+".maximum", p, p.Maximum)
	if lo, isMin := mp.property.Minimum.AsFloat(); isMin {
		if hi, isMax := mp.property.Maximum.AsFloat(); isMax && lo > hi {
			rep.problem(path+".minimum", fmt.Sprintf("the minimum %s is above the maximum %s", p.Minimum, p.Maximum), "swap them")
			ok = false
		}
	}
	return ok && okMin && okMax
}

// limit reads minimum or maximum; the zero Value is no bound.
func limit(rep *report, path string, p *v1beta1.ModelProperty, text string) (twin.Value, bool) {
	if text == "" {
		return twin.Value{}, true
	}
	switch t := twin.Type(p.Type); t {
	case twin.TypeInt, twin.TypeFloat, twin.TypeDouble:
		v, err := twin.ParseValue(t, text)
		if err != nil {
			rep.problem(path, err.Error(), fmt.Sprintf("write a number of the type %s in quotes, or leave it out", t))
			return twin.Value{}, false
		}
		return v, true
	}
	rep.problem(path, fmt.Sprintf("a %s has no bounds", p.Type), "remove it")
	return twin.Value{}, false
}

// deviceProperties resolves the properties of a device, in the model's order.
func deviceProperties(rep *report, dev *Device, m *model, protocol string) []twin.Property {
	list := dev.Object.Spec.Properties
	first := map[string]int{}
	resolved := make(map[string]twin.Property, len(list))
	for i := range list {
		p := &list[i]
		path := fmt.Sprintf("spec.properties[%d]", i)
		if dev.refused.properties[i] {
			continue
		}
		if !propertyName(rep, path, p.Name) {
			continue
		}
		if j, twice := first[p.Name]; twice {
			rep.problem(path+".name", fmt.Sprintf("%q is also the name of spec.properties[%d]", p.Name, j), "use another name, or remove it; neither is served")
			delete(resolved, p.Name)
			continue
		}
		first[p.Name] = i
		if prop, ok := deviceProperty(rep, path, p, m, protocol); ok {
			resolved[p.Name] = prop
		}
	}
	order := func(a, b twin.Property) int {
		return cmp.Compare(m.properties[a.Name].index, m.properties[b.Name].index)
	}
	return slices.SortedFunc(maps.Values(resolved), order)
}

// deviceProperty merges one property with the model's.
func deviceProperty(rep *report, path string, p *v1beta1.DeviceProperty, m *model, protocol string) (twin.Property, bool) {
	refusePush(rep, path+".pushMethod", p.PushMethod)
	mp, ok := m.properties[p.Name]
	if !ok {
		rep.problem(path+".name", fmt.Sprintf("the model has no property %q", p.Name), schema.Suggest(p.Name, slices.Sorted(maps.Keys(m.properties))))
		return twin.Property{}, false
	}
	prop := mp.property
	var okCollect, okReport bool
	prop.CollectCycle, okCollect = cycleOf(rep, path+".collectCycle", p.CollectCycle, DefaultCollectCycle)
	prop.ReportCycle, okReport = cycleOf(rep, path+".reportCycle", p.ReportCycle, max(DefaultReportCycle, prop.CollectCycle))
	prop.ReportToCloud = p.ReportToCloud
	okVisitor := visitor(rep, path+".visitors", p, mp, protocol, &prop)
	if !mp.unusable {
		desired(rep, path+".desired.value", p.Desired.Value, &prop)
	}
	return prop, okCollect && okReport && okVisitor && !mp.unusable
}

// visitor merges the visitors of the model and the device. protocol is "" where it is not known.
func visitor(rep *report, path string, p *v1beta1.DeviceProperty, mp *modelProperty, protocol string, prop *twin.Property) bool {
	var base *v1beta1.CustomizedValue
	name, whose := p.Visitors.ProtocolName, ""
	if mp.visitors != nil {
		base = mp.visitors.ConfigData
		if name == "" && mp.visitors.ProtocolName != "" {
			name, whose = mp.visitors.ProtocolName, " in the model"
		}
	}
	prop.Visitor = merge(base, p.Visitors.ConfigData)
	prop.Deadband = deadband(prop)
	switch {
	case mp.unusable: // its problem is the model's
	case name != "" && protocol != "" && !strings.EqualFold(name, protocol):
		rep.problem(path+".protocolName", fmt.Sprintf("%.80q%s, but the device speaks %q", name, whose, protocol), "write "+protocol+", or leave it out")
		return false
	case len(prop.Visitor) == 0:
		rep.problem(path, "neither the device nor its model says how to read the property", "write visitors.configData here or in the model")
		return false
	}
	return true
}

// deadband returns the visitor's deadband; 0 where there is none, or none that
// holds: the driver, whose key it is, says the mistakes.
func deadband(prop *twin.Property) float64 {
	switch prop.Type {
	case twin.TypeInt, twin.TypeFloat, twin.TypeDouble:
	default:
		return 0
	}
	var c struct {
		Deadband float64 `key:"deadband"`
	}
	field := number.Deadband()
	table := schema.Table{Title: field.Key, Fields: []schema.Field{field}}
	table.Decode("", "", map[string]any{field.Key: prop.Visitor[field.Key]}, &c) // a mistake leaves the default
	return c.Deadband
}

// desired sets prop.Desired. Text that cannot be applied stays where the
// property is writable: the write is refused then, and its state says why.
func desired(rep *report, path, text string, prop *twin.Property) {
	if text == "" { // KubeEdge writes an absent desired value so
		return
	}
	if !prop.Writable {
		rep.problem(path, fmt.Sprintf("a desired value for %s, which is ReadOnly", prop.Name), "remove it, or make the property ReadWrite in the model")
		return
	}
	prop.Desired = &text
	if _, err := prop.Parse(text); err != nil {
		rep.problem(path, err.Error(), "write "+valueHint(prop))
	}
}

func valueHint(p *twin.Property) string {
	hint := "a value of the type " + string(p.Type)
	lo, hi := p.Minimum, p.Maximum
	switch {
	case !lo.IsZero() && !hi.IsZero():
		hint += fmt.Sprintf(", %s to %s", lo, hi)
	case !lo.IsZero():
		hint += fmt.Sprintf(", at least %s", lo)
	case !hi.IsZero():
		hint += fmt.Sprintf(", at most %s", hi)
	}
	return hint
}

// refusePush says what to use instead of each way of pushing.
func refusePush(rep *report, path string, push *v1beta1.PushMethod) {
	if push == nil {
		return
	}
	for _, way := range []struct {
		key     string
		present bool
	}{
		{"http", push.HTTP != nil},
		{"mqtt", push.MQTT != nil},
		{"otel", push.OTEL != nil},
		{"dbMethod", push.DBMethod != nil},
		{"anomalyDetection", push.AnomalyDetection != nil},
	} {
		if way.present {
			r := refusalOf("spec.properties[].pushMethod." + way.key)
			rep.problem(path+"."+way.key, r.What, r.Remedy)
		}
	}
	if *push == (v1beta1.PushMethod{}) {
		rep.problem(path, "empty", "remove it")
	}
}
