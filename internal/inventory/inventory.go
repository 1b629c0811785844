// Package inventory says which devices of the objects at hand are a mapper's:
// those of its node and protocol, merged with their models. Where the objects come
// from is for others. It does no I/O.
package inventory

import (
	"strings"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/pkg/twin"
)

// Part is what one file or one answer holds, as declare.Decode gives it.
type Part struct {
	Objects  declare.Objects
	Problems []twin.Problem
}

// Of says whose the devices are.
type Of struct {
	Node     string // Device.spec.nodeName; "" is every node
	Protocol string // Device.spec.protocol.protocolName, without regard to case; "" is every one
}

// Devices returns the devices of the parts, and the problems of these devices,
// of the models they use, and of what could not be read at all. Devices of
// others and their problems are left out. A device of our node without any protocol is
// nobody's; its problems are given to all.
func (of Of) Devices(parts []Part) ([]twin.Device, []twin.Problem) {
	var devices []declare.Device
	var models []declare.Model
	foreign := map[string]bool{} // by the name that problems give
	used := map[string]bool{}
	for i := range parts {
		for _, d := range parts[i].Objects.Devices {
			if !of.ours(&d) {
				foreign[d.Name()] = true
				continue
			}
			devices = append(devices, d)
			if ref := d.Object.Spec.DeviceModelRef; ref != nil {
				m := declare.Model{}
				m.Object.Namespace, m.Object.Name = d.Object.Namespace, ref.Name
				used[m.Name()] = true
			}
		}
	}
	for i := range devices {
		delete(foreign, devices[i].Name())
	}
	for i := range parts {
		for _, m := range parts[i].Objects.Models {
			models = append(models, m) // also the unused: their names are good advice
			foreign[m.Name()] = !used[m.Name()]
		}
	}
	var all []twin.Problem
	for i := range parts {
		all = append(all, parts[i].Problems...)
	}
	resolved, more := declare.Resolve(devices, models)
	var problems []twin.Problem
	for _, p := range append(all, more...) {
		if !foreign[p.Object] {
			problems = append(problems, p)
		}
	}
	return resolved, problems
}

func (of Of) ours(d *declare.Device) bool {
	spec := &d.Object.Spec
	if of.Node != "" && spec.NodeName != of.Node {
		return false
	}
	name := spec.Protocol.ProtocolName
	return of.Protocol == "" || name == "" || strings.EqualFold(name, of.Protocol)
}
