package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/twin"
)

// addDevice puts one declared device on its line.
func (s *Simulator) addDevice(d twin.Device, script DeviceScript, start time.Time) []twin.Problem {
	object := "Device " + d.ID.String()
	switch {
	case strings.EqualFold(d.Protocol, serial.Protocol):
		return s.addInstrument(&d, script, start)
	case !strings.EqualFold(d.Protocol, modbus.Protocol):
		return []twin.Problem{{Object: object, Field: "spec.protocol.protocolName", What: fmt.Sprintf("%q cannot be simulated", d.Protocol), Remedy: "only modbus and serial can"}}
	}
	declared, problems := modbus.Parse(&d)
	if declared == nil {
		return problems
	}
	scheme := declared.Config.Endpoint.Scheme
	if scheme != modbus.TCP && scheme != modbus.RTU && scheme != modbus.RTUOverTCP {
		return append(problems, twin.Problem{Object: object, Field: "spec.protocol.configData.url", What: fmt.Sprintf("the scheme %s cannot be simulated", scheme), Remedy: "use tcp, rtu or rtuovertcp"})
	}
	u := newUnit(d.ID, script, start)
	for i := range declared.Fields {
		f := &declared.Fields[i]
		p, _ := d.Property(f.Property)
		w, err := waveOf(script.Properties[f.Property], p)
		if err != nil {
			problems = append(problems, twin.Problem{Object: Kind, Field: "spec.devices[" + d.ID.String() + "].properties." + f.Property, What: err.Error()})
			continue
		}
		u.add(cellOf(f, w))
	}
	problems = append(problems, strangers(&d, script)...)
	if err := s.attach(string(scheme), declared.Config.Endpoint.Address, declared.Config.Unit, u); err != nil {
		problems = append(problems, twin.Problem{Object: object, Field: "spec.protocol.configData.unitId", What: err.Error(), Remedy: "give each device on a line its own unitId"})
	}
	return problems
}

// strangers are what is scripted of properties that the device does not have.
func strangers(d *twin.Device, script DeviceScript) (problems []twin.Problem) {
	for _, name := range slices.Sorted(maps.Keys(script.Properties)) {
		if _, ok := d.Property(name); !ok {
			problems = append(problems, twin.Problem{Object: Kind, Field: "spec.devices[" + d.ID.String() + "].properties." + name, What: "the device has no such property"})
		}
	}
	return problems
}

func cellOf(f *modbus.Field, w wave) cell {
	mask, _ := f.Mask()
	return cell{
		property: f.Property, space: spaceOf(f.Table), address: f.Address, count: f.Count, mask: mask, wave: w,
		encode: func(v twin.Value) ([]uint16, error) {
			words, _, err := f.Encode(v)
			return words, err
		},
	}
}

func spaceOf(t modbus.Table) space {
	switch t {
	case modbus.Coils:
		return coils
	case modbus.Discretes:
		return discretes
	case modbus.Inputs:
		return inputs
	}
	return holdings
}
