package simulator

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	yamlsplit "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/twinline/twinline/pkg/twin"
)

// Kind and version of the objects that script a simulation. They may stand in
// the same files as the Device manifests.
const (
	APIVersion = "twinline.io/v1alpha1"
	Kind       = "Simulation"
)

// Script says how simulated devices behave: what their properties show over
// time, and what goes wrong. The zero Script has default waves and no faults.
type Script struct {
	Devices map[string]DeviceScript `json:"devices"` // by "namespace/name"
}

// DeviceScript scripts one device.
type DeviceScript struct {
	Properties map[string]Wave `json:"properties,omitempty"`
	Faults     []Fault         `json:"faults,omitempty"`
	// Strict makes addresses that no property covers answer exception 2, as
	// many devices do. Otherwise they read zero between the lowest and the
	// highest declared address of their table.
	Strict bool `json:"strict,omitempty"`
	// Replies are what a serial instrument answers, by the name of the request, or "write " and that of the
	// property; of the others it follows from the declaration. ${name} stands for a property or one of the device's values.
	Replies map[string]string `json:"replies,omitempty"`
	// Stream is what a serial instrument says by itself, in place of what follows from the declaration.
	Stream []StreamFrame `json:"stream,omitempty"`
}

// StreamFrame is one frame that an instrument sends again and again.
type StreamFrame struct {
	Every Duration `json:"every,omitempty"` // default: the shortest collectCycle of what it says
	Send  string   `json:"send,omitempty"`  // with places as in Replies; "": what follows from the declaration
	Raw   bool     `json:"raw,omitempty"`   // without framing and check
}

// Bounds of StreamFrame.Every.
const (
	minEvery = 20 * time.Millisecond
	maxEvery = time.Hour
)

type simulationObject struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Spec       Script         `json:"spec"`
}

// maxScriptSize bounds one file, in bytes.
const maxScriptSize = 4 << 20

// DecodeScript reads the Simulation objects of a multi-document YAML file and
// merges them into script; other kinds are left alone. Each mistake is one Problem.
func DecodeScript(source string, data []byte, script *Script) []twin.Problem {
	if len(data) > maxScriptSize {
		return []twin.Problem{{Object: source, What: fmt.Sprintf("%d bytes, at most %d are allowed", len(data), maxScriptSize)}}
	}
	var problems []twin.Problem
	docs := yamlsplit.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return problems
		}
		if err != nil {
			return append(problems, twin.Problem{Object: source, What: err.Error()})
		}
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if yaml.Unmarshal(doc, &head) != nil || head.Kind != Kind {
			continue // validate speaks about the other kinds
		}
		var obj simulationObject
		if err := yaml.UnmarshalStrict(bytes.TrimSpace(doc), &obj); err != nil {
			problems = append(problems, twin.Problem{Object: Kind + " in " + source, What: err.Error()})
			continue
		}
		problems = append(problems, obj.Spec.check(Kind+" in "+source)...)
		if script.Devices == nil {
			script.Devices = map[string]DeviceScript{}
		}
		maps.Copy(script.Devices, obj.Spec.Devices)
	}
}

func (s *Script) check(object string) []twin.Problem {
	var problems []twin.Problem
	for _, id := range slices.Sorted(maps.Keys(s.Devices)) {
		d := s.Devices[id]
		path := "spec.devices[" + id + "]"
		if _, err := twin.ParseDeviceID(id); err != nil {
			problems = append(problems, twin.Problem{Object: object, Field: path, What: err.Error(), Remedy: "write namespace/name of a Device"})
		}
		for name, w := range d.Properties {
			if err := w.check(); err != nil {
				problems = append(problems, twin.Problem{Object: object, Field: path + ".properties." + name, What: err.Error()})
			}
		}
		for i, f := range d.Faults {
			if err := f.check(); err != nil {
				problems = append(problems, twin.Problem{Object: object, Field: fmt.Sprintf("%s.faults[%d]", path, i), What: err.Error()})
			}
		}
		for i, f := range d.Stream {
			if every := time.Duration(f.Every); every != 0 && (every < minEvery || every > maxEvery) {
				problems = append(problems, twin.Problem{Object: object, Field: fmt.Sprintf("%s.stream[%d].every", path, i), What: fmt.Sprintf("%s; want %s to %s", every, minEvery, maxEvery)})
			}
		}
	}
	return problems
}

// Duration is a time.Duration that reads "1.5s" in YAML.
type Duration time.Duration

// UnmarshalJSON reads a Go duration.
func (d *Duration) UnmarshalJSON(b []byte) error {
	v, err := time.ParseDuration(string(bytes.Trim(b, `"`)))
	if err != nil {
		return fmt.Errorf("%s is not a duration; write 500ms, 10s or 1h", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON writes a Go duration.
func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Duration(d).String() + `"`), nil
}
