package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestValidate runs `twinline validate` on manifests with mistakes: it exits
// with 2 and names object, field and remedy of each.
func TestValidate(t *testing.T) {
	twinline := filepath.Join(binaries(t), "twinline")
	good := &plant{Namespace: "plant-a", Node: "edge-1", FurnaceLine: "127.0.0.1:5020", GaugeLine: "127.0.0.1:5021",
		MeterLine: "/dev/rtu0", BathLine: "/dev/bath", Receiver: "127.0.0.1:5023", MeterUnits: []int{1}, Pumps: []pump{{"pump-01", "127.0.0.1:5022", 1}}}
	manifests := string(render(t, "plant.yaml", good))
	if out, code := validate(t, twinline, manifests); code != 0 {
		t.Fatalf("good manifests: exit code %d: %s", code, out)
	}
	const device = "Device plant-a/"
	for _, mistake := range []struct {
		name, from, to string
		words          []string
	}{
		{"unknown field", "nodeName: edge-1", "nodeNam: edge-1", []string{device, "spec.nodeNam", "nodeName"}},
		{"unknown key", "unitId: 9,", "unit: 9,", []string{device + "gauge-1", "spec.protocol.configData.unit", "unitId"}},
		{"register type", "register: discrete, address: 7", "register: discreet, address: 7", []string{device + "gauge-1", "sealed", "register", "discrete"}},
		{"address", "register: input, address: 9", "register: input, address: 70000", []string{device + "gauge-1", "tag", "address", "65535"}},
		{"no model", "deviceModelRef: {name: gauge}", "protocol: {protocolName: modbus}", []string{device + "gauge-1", "spec.deviceModelRef", "DeviceModel"}},
		{"model that is not there", "deviceModelRef: {name: gauge}", "deviceModelRef: {name: gage}", []string{device + "gauge-1", "spec.deviceModelRef.name", "gauge"}},
		{"property type", "name: mass, type: FLOAT", "name: mass, type: REAL", []string{"DeviceModel plant-a/gauge", "spec.properties[0].type", "FLOAT"}},
		{"write to an input", "name: tag, type: STRING, accessMode: ReadOnly", "name: tag, type: STRING, accessMode: ReadWrite", []string{device + "gauge-1", "tag", "ReadOnly"}},
		{"url", "tcp://127.0.0.1:5021", "http://127.0.0.1:5021", []string{device + "gauge-1", "spec.protocol.configData.url", "use one of tcp"}},
		{"serial: unknown key", "values: {address: \"07\"}", "value: {address: \"07\"}", []string{device + "bath-1", "spec.protocol.configData.value", "values"}},
		{"serial: no group", "regex: 'M=([A-Z])'", "regex: 'M=[A-Z]'", []string{device + "bath-1", "mode", "regex", "parentheses"}},
		{"serial: a frame beyond its bound", "after: 2}", "after: 2, max: 70000}", []string{device + "bath-1", "framing.max", "65536"}},
		{"serial: one value twice", "field: GGA.altitude", "field: RMC.speed", []string{device + "receiver-1", "altitude", "speed claims the same value"}},
		{"cycle", "collectCycle: 500}", "collectCycle: 1}", []string{device + "furnace-1", "collectCycle", "10"}},
	} {
		t.Run(mistake.name, func(t *testing.T) {
			wrong := strings.Replace(manifests, mistake.from, mistake.to, 1)
			if mistake.name == "no model" { // the protocol stands there twice otherwise
				wrong = strings.Replace(manifests, "  "+mistake.from+"\n", "", 1)
			}
			if wrong == manifests {
				t.Fatalf("the manifests have no %q", mistake.from)
			}
			out, code := validate(t, twinline, wrong)
			if code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if err := contains("the output", out, mistake.words); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// validate returns the output and the exit code.
func validate(t *testing.T, twinline, manifests string) (string, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "plant.yaml")
	if err := os.WriteFile(file, []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), twinline, "validate", file).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}
