package devicemgmt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// checkDesired turns the values of a request into texts for SetDesired, or says
// what is wrong with each. device is nil if its declaration cannot be resolved.
func checkDesired(id twin.DeviceID, device *twin.Device, values map[string]*twin.Value, text TwinText) (map[string]*string, []twin.Problem) {
	object := "Device " + id.String()
	if device == nil {
		return nil, []twin.Problem{{
			Object: object, What: "its declaration is wrong, so nothing of it can be set",
			Remedy: "mend the problems that the device's view lists",
		}}
	}
	desired := map[string]*string{}
	var problems []twin.Problem
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		refuse := func(what, remedy string) {
			problems = append(problems, twin.Problem{Object: object, Field: "desired." + shorten(name), What: what, Remedy: remedy})
		}
		property, ok := device.Property(name)
		if !ok {
			refuse("the device has no such property", "use one of "+strings.Join(writable(device), ", "))
			continue
		}
		if value == nil || value.IsZero() {
			desired[name] = nil
			continue
		}
		if !property.Writable {
			refuse("the property is read-only", "set accessMode ReadWrite in DeviceModel "+device.Model+", if the device can be written")
			continue
		}
		v, err := property.Coerce(*value)
		if err == nil && text.Check != nil {
			err = text.Check(property.Type, v)
		}
		if err != nil {
			refuse(err.Error(), "write "+wanted(property))
			continue
		}
		t := v.Text()
		if t == "" {
			refuse("an empty text is no desired value in KubeEdge", "write null to remove the desired value")
			continue
		}
		desired[name] = &t
	}
	return desired, problems
}

func shorten(name string) string {
	if len(name) > twin.MaxPropertyLength {
		return name[:twin.MaxPropertyLength] + "…"
	}
	return name
}

// writable names up to ten properties that can be set.
func writable(d *twin.Device) []string {
	var names []string
	for i := range d.Properties {
		if d.Properties[i].Writable {
			names = append(names, d.Properties[i].Name)
		}
	}
	switch {
	case len(names) == 0:
		return []string{"none: all properties are read-only"}
	case len(names) > 10:
		return append(names[:10], "…")
	}
	return names
}

// wanted says in words what a property may be set to.
func wanted(p *twin.Property) string {
	kind := "a text"
	switch p.Type {
	case twin.TypeInt:
		kind = "a whole number"
	case twin.TypeFloat, twin.TypeDouble:
		kind = "a number"
	case twin.TypeBoolean:
		return "true or false"
	case twin.TypeBytes:
		return "base64 text"
	}
	switch lo, hi := p.Minimum, p.Maximum; {
	case !lo.IsZero() && !hi.IsZero():
		return fmt.Sprintf("%s from %s to %s", kind, lo, hi)
	case !lo.IsZero():
		return fmt.Sprintf("%s of %s or more", kind, lo)
	case !hi.IsZero():
		return fmt.Sprintf("%s of %s or less", kind, hi)
	}
	return kind
}
