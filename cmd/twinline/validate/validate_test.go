package validate

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/mappers/modbus"
	"github.com/twinline/twinline/mappers/serial"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// fussy is a driver that refuses every property whose visitor has no address.
type fussy struct{}

func (fussy) Protocol() string { return "modbus" }

func (fussy) Open(d twin.Device) (mapper.Conn, []twin.Problem) {
	var problems []twin.Problem
	for _, p := range d.Properties {
		if p.Visitor["address"] == nil {
			problems = append(problems, twin.Problem{Object: "Device " + d.ID.String(), Field: p.Name, What: "no address", Remedy: "write one"})
		}
	}
	return nil, problems
}

const good = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: m}
spec:
  properties:
  - {name: p, type: INT, accessMode: ReadOnly, visitors: {configData: {address: 1}}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: d}
spec:
  deviceModelRef: {name: m}
  nodeName: edge-a
  protocol: {protocolName: modbus}
  properties: [{name: p}]
`

func validate(t *testing.T, stdin string, args ...string) (out string, code int) {
	t.Helper()
	cmd := NewCommand(map[string]func() mapper.Driver{"modbus": func() mapper.Driver { return fussy{} }})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var stdout, stderr bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&stdout)
	code = app.ExitCode(cmd.Execute(), &stderr)
	return stdout.String(), code
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		stdin string
		want  string
		code  int
	}{
		"good":           {good, "1 device, 1 model, 0 problems\n", app.ExitOK},
		"nothing":        {"", "0 devices, 0 models, 0 problems\n", app.ExitOK},
		"others":         {"apiVersion: v1\nkind: Pod\n", "0 devices, 0 models, 0 problems\n", app.ExitOK},
		"the driver's":   {strings.Replace(good, "address", "place", 1), "stdin: Device default/d: p: no address; write one\n1 device, 1 model, 1 problem\n", app.ExitConfig},
		"declared wrong": {strings.Replace(good, "type: INT", "type: INTEGER", 1), "stdin: DeviceModel default/m: spec.properties[0].type: \"INTEGER\" is not a type; write INT, FLOAT, DOUBLE, BOOLEAN, STRING or BYTES\n1 device, 1 model, 1 problem\n", app.ExitConfig},
		"not YAML":       {"a: [", "stdin: yaml: line 1: did not find expected node content; mend it there; the rest of this document was not read\n0 devices, 0 models, 1 problem\n", app.ExitConfig},
		"a protocol that is not known": {
			strings.Replace(good, "modbus", "modbuss", 1),
			"note: 1 device of the protocol \"modbuss\": its configData was not checked (did you mean modbus?)\n1 device, 1 model, 0 problems\n", app.ExitOK,
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := validate(t, test.stdin, "-")
			require.Equal(t, test.want, out)
			require.Equal(t, test.code, code)
		})
	}
}

const reaction = `---
apiVersion: twinline.io/v1alpha1
kind: Reaction
metadata: {name: r}
spec:
  inputs: {x: {device: d, property: p}}
  when: x > 1
  then: [{device: other, property: q, value: true}]
`

func TestReactions(t *testing.T) {
	note := "note: Reaction default/r: the Device default/other is not among the files, so its properties were not checked\n"
	out, code := validate(t, good+reaction, "-")
	require.Equal(t, note+"1 device, 1 model, 1 reaction, 0 problems\n", out)
	require.Equal(t, app.ExitOK, code)
	out, code = validate(t, good+strings.Replace(reaction, "x > 1", "y > 1", 1), "-")
	require.Equal(t, "stdin: Reaction default/r: spec.when: \"y > 1\", column 1: undeclared reference to 'y'; declare it under inputs, or: did you mean x?\n1 device, 1 model, 1 reaction, 1 problem\n", out)
	require.Equal(t, app.ExitConfig, code)
	out, _ = validate(t, good+strings.Replace(reaction, "other, property: q", "d, property: p", 1), "-")
	require.Equal(t, "stdin: Reaction default/r: spec.then[0].property: \"p\" is ReadOnly; set a property that is ReadWrite\n1 device, 1 model, 1 reaction, 1 problem\n", strings.ReplaceAll(out, "stdin, document 3: ", "stdin: "))
	out, _ = validate(t, strings.Replace(good, "name: p,", "name: o,", 1)+reaction, "-")
	require.Contains(t, out, "1 problem\n", "what a rule misses may be there when the device is mended")
	out, _ = validate(t, good+reaction+reaction, "-")
	require.Contains(t, out, "stdin, document 4: Reaction default/r: metadata.name: also declared in stdin, document 3; keep one of them\n")
	out, _ = validate(t, "a: [", "-")
	require.Contains(t, out, "1 problem\n")
}

func TestExamplesHaveNoProblems(t *testing.T) {
	r, err := Check([]string{"../../../examples"}, nil, map[string]func() mapper.Driver{
		"modbus": func() mapper.Driver { return modbus.New() }, "serial": func() mapper.Driver { return serial.New() },
	})
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.Empty(t, r.Notes)
	require.GreaterOrEqual(t, r.Devices, 3)
	require.GreaterOrEqual(t, r.Reactions, 1)
}

func TestFoldersAndFiles(t *testing.T) {
	dir := t.TempDir()
	model, device, _ := strings.Cut(good, "---")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "models"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "models", "m.yml"), []byte(model), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "d.yaml"), []byte(strings.Replace(device, "nodeName: edge-a", "", 1)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte("resources: [d.yaml]\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README.md"), []byte("not: [yaml"), 0o600))
	out, code := validate(t, "", dir)
	require.Equal(t, app.ExitConfig, code)
	require.Equal(t, filepath.Join(dir, "d.yaml")+": Device default/d: spec.nodeName: missing: no node serves the device; write the name of the edge node that the device is wired to\n1 device, 1 model, 1 problem\n", out)
}

func TestJSON(t *testing.T) {
	out, code := validate(t, strings.Replace(good, "address", "place", 1), "-", "-o", "json")
	require.Equal(t, app.ExitConfig, code)
	var r Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, Report{
		Devices: 1, Models: 1, Notes: []string{},
		Problems: []Problem{{Source: "stdin", Object: "Device default/d", Field: "p", What: "no address", Remedy: "write one"}},
	}, r)
	out, _ = validate(t, good, "-", "-o", "json")
	require.Contains(t, out, `"problems": []`)
}

func TestUse(t *testing.T) {
	_, code := validate(t, "")
	require.Equal(t, app.ExitConfig, code)
	_, code = validate(t, "", "-", "--output", "xml")
	require.Equal(t, app.ExitConfig, code)
	_, code = validate(t, "", filepath.Join(t.TempDir(), "gone.yaml"))
	require.Equal(t, app.ExitFailed, code)
	out, code := validate(t, "", "--help")
	require.Equal(t, app.ExitOK, code)
	require.Contains(t, out, example)
}
