package declare

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kubeedge/api/apis/devices/v1beta1"

	"github.com/twinline/twinline/internal/document"
	"github.com/twinline/twinline/pkg/twin"
)

// Decode reads the objects of a YAML file of one or several documents, or of
// JSON; Lists are read as their items. source names the data in problems. Unknown
// keys, keys given twice and values of a wrong kind are problems: one in
// spec.properties[i] makes that property unusable, one elsewhere the object. Objects of
// other kinds are counted, not read; so is what a Device's status holds beyond
// what v1beta1 declares. An object without a namespace is in "default".
func Decode(source string, data []byte) (Objects, []twin.Problem) {
	d := &decoder{}
	unreadable := document.Read(source, data, d.object)
	return d.objects, append(unreadable, d.problems...)
}

// decoder gathers what one Decode finds.
type decoder struct {
	objects  Objects
	problems []twin.Problem
}

func (d *decoder) problem(where, what, remedy string) {
	d.problems = append(d.problems, twin.Problem{Object: where, What: what, Remedy: remedy})
}

func (d *decoder) object(o document.Object) {
	switch {
	case o.Group() != Group || (o.Kind != kindDevice && o.Kind != kindModel):
		d.objects.Skipped++
	case o.APIVersion != APIVersion:
		d.problem(o.Where, fmt.Sprintf("%s %s is of another version", o.APIVersion, o.Kind), fmt.Sprintf("write it as %s, whose fields differ", APIVersion))
	case o.Name == "":
		d.problem(o.Where, "a "+o.Kind+" without a name", "write metadata.name")
	case o.Kind == kindDevice:
		forgetStatus(o.Tree)
		dev := Device{Source: o.Where}
		dev.refused = d.typed(o, &dev.Object)
		exactDevice(&dev.Object, o.Tree)
		d.objects.Devices = append(d.objects.Devices, dev)
	default:
		m := Model{Source: o.Where}
		m.refused = d.typed(o, &m.Object)
		exactModel(&m.Object, o.Tree)
		d.objects.Models = append(d.objects.Models, m)
	}
}

func objectName(kind, namespace, name string) string {
	return fmt.Sprintf("%s %.63s/%.253s", kind, namespace, name)
}

// forgetStatus leaves of a Device's status what v1beta1 declares: older versions
// of KubeEdge kept twins there, which are no declaration.
func forgetStatus(tree map[string]any) {
	status, ok := tree["status"].(map[string]any)
	if !ok {
		delete(tree, "status")
		return
	}
	for key := range status {
		if key != "reportToCloud" && key != "reportCycle" {
			delete(status, key)
		}
	}
}

// typed checks the object against the type of into, strikes out what does not fit, and fills into.
func (d *decoder) typed(o document.Object, into any) refusals {
	w := &strict{report: report{object: objectName(o.Kind, o.Namespace, o.Name)}}
	w.root(o.Tree, into)
	data, err := json.Marshal(o.Tree)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil { // metadata of a wrong form, such as a creationTimestamp that is no time
		w.report.problem("", strings.TrimPrefix(err.Error(), "json: "), "mend it; the object was not read")
		w.refused.whole = true
		switch into := into.(type) { // its name is still wanted
		case *v1beta1.Device:
			*into = v1beta1.Device{}
			into.Namespace, into.Name = o.Namespace, o.Name
		case *v1beta1.DeviceModel:
			*into = v1beta1.DeviceModel{}
			into.Namespace, into.Name = o.Namespace, o.Name
		}
	}
	d.problems = append(d.problems, w.report.list()...)
	return w.refused
}
