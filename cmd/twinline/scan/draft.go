package scan

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/serialport"
)

type object = map[string]any

// maxDraft bounds the properties of a draft: more is not what anybody wants to read.
const maxDraft = 64

// draft writes a DeviceModel and a Device that read what was found.
func (f *find) draft(o *options) ([]byte, error) {
	var ofModel, ofDevice []object
	taken := map[string]bool{}
	for i := range f.candidate.Fields {
		field := &f.candidate.Fields[i]
		name := propertyName(field.Name)
		if field.Visitor == nil || field.Type == "" || taken[name] || len(ofModel) == maxDraft {
			continue
		}
		taken[name] = true
		p := object{"name": name, "type": string(field.Type), "accessMode": "ReadOnly", "visitors": object{"protocolName": serial.Protocol, "configData": field.Visitor}}
		if field.Unit != "" {
			p["unit"] = field.Unit
		}
		ofModel = append(ofModel, p)
		ofDevice = append(ofDevice, object{"name": name, "collectCycle": 1000, "reportCycle": 5000, "reportToCloud": true})
	}
	config := maps.Clone(f.candidate.Config)
	config["url"] = f.url()
	head := func(kind string) object {
		return object{"apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind, "metadata": object{"name": o.name, "namespace": o.space}}
	}
	model, device := head("DeviceModel"), head("Device")
	model["spec"] = object{"protocol": serial.Protocol, "properties": ofModel}
	device["spec"] = object{
		"deviceModelRef": object{"name": o.name}, "nodeName": o.node,
		"protocol": object{"protocolName": serial.Protocol, "configData": config}, "properties": ofDevice,
	}
	first, err := yaml.Marshal(model)
	if err != nil {
		return nil, fmt.Errorf("draft a DeviceModel: %w", err)
	}
	second, err := yaml.Marshal(device)
	if err != nil {
		return nil, fmt.Errorf("draft a Device: %w", err)
	}
	return append(append(first, "---\n"...), second...), nil
}

// propertyName makes a name that EdgeCore takes.
func propertyName(field string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.,:/@#", r) {
			return r
		}
		return '-'
	}, field)
	return name[:min(len(name), 128)]
}

// url is the line as a Device should name it: by what survives replugging, and with 7 bits where they were seen.
func (f *find) url() string {
	e := f.endpoint
	if f.candidate.SevenBits != "" && e.Scheme != serial.TCP {
		e.Settings.DataBits, e.Settings.Parity = 7, serialport.Parity(f.candidate.SevenBits)
	}
	if e.Scheme == serial.TTY {
		e.Settings.Path = lasting(e.Settings.Path)
	}
	return e.String()
}

// lasting returns the name below /dev/serial/by-id of a port, or the port's own.
func lasting(path string) string {
	const byID = "/dev/serial/by-id"
	port, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path
	}
	entries, _ := os.ReadDir(byID) // without adapters there is none
	for _, entry := range entries {
		name := filepath.Join(byID, entry.Name())
		if to, err := filepath.EvalSymlinks(name); err == nil && to == port {
			return name
		}
	}
	return path
}
