package declare

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/twinline/twinline/pkg/twin"
)

const modelYAML = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: boiler}
spec:
  protocol: modbus
  protocolConfigData: {unitId: 1, timeout: 1s, serial: 9007199254740993}
  properties:
  - {name: temperature, type: FLOAT, accessMode: ReadOnly, minimum: "-40", maximum: "120.5", unit: "°C", description: water,
     visitors: {protocolName: modbus, configData: {register: input, address: 1, scale: 0.1}}}
  - {name: setpoint, type: INT, accessMode: ReadWrite, minimum: "20", maximum: "90",
     visitors: {configData: {register: holding, address: 2}}}
  - {name: label, type: STRING, accessMode: ReadWrite}
`

const deviceYAML = `
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: b1, namespace: default, labels: {line: a}}
spec:
  deviceModelRef: {name: boiler}
  nodeName: edge-a
  protocol: {protocolName: Modbus, configData: {url: "tcp://10.0.0.7:502", unitId: 17, timeout: null}}
  stateReport: {reportToCloud: true, reportCycle: 60000}
  properties:
  - {name: setpoint, desired: {value: "60", metadata: {type: int}}, reportToCloud: true, collectCycle: 500, reportCycle: 2000, visitors: {configData: {address: 3}}}
  - {name: temperature, collectCycle: 5000}
`

func TestResolve(t *testing.T) {
	objects, problems := Decode("plant.yaml", []byte(modelYAML+"---"+deviceYAML+"--- \n# nothing\n---\napiVersion: v1\nkind: ConfigMap\n"))
	require.Empty(t, problems)
	require.Equal(t, 1, objects.Skipped)
	devices, problems := Resolve(objects.Devices, objects.Models)
	require.Empty(t, problems)
	require.Equal(t, []twin.Device{{
		ID: twin.DeviceID{Namespace: "default", Name: "b1"}, Node: "edge-a", Model: "boiler", Protocol: "modbus",
		Config:           map[string]any{"url": "tcp://10.0.0.7:502", "unitId": int64(17), "serial": int64(9007199254740993)},
		StateReportCycle: time.Minute,
		Properties: []twin.Property{
			{
				Name: "temperature", Type: twin.TypeFloat, Unit: "°C", Minimum: twin.FloatValue(-40), Maximum: twin.FloatValue(120.5),
				CollectCycle: 5 * time.Second, ReportCycle: 5 * time.Second,
				Visitor: map[string]any{"register": "input", "address": int64(1), "scale": 0.1},
			},
			{
				Name: "setpoint", Type: twin.TypeInt, Writable: true, Minimum: twin.IntValue(20), Maximum: twin.IntValue(90),
				CollectCycle: 500 * time.Millisecond, ReportCycle: 2 * time.Second, ReportToCloud: true, Desired: new("60"),
				Visitor: map[string]any{"register": "holding", "address": int64(3)},
			},
		},
	}}, devices)
}

func TestDefaultCycles(t *testing.T) {
	objects, _ := Decode("x", []byte(modelYAML+"---"+strings.Replace(deviceYAML, ", collectCycle: 5000", "", 1)))
	devices, problems := Resolve(objects.Devices, objects.Models)
	require.Empty(t, problems)
	require.Equal(t, DefaultCollectCycle, devices[0].Properties[0].CollectCycle)
	require.Equal(t, DefaultReportCycle, devices[0].Properties[0].ReportCycle)
}

func TestDevicesDoNotShareMaps(t *testing.T) {
	objects, _ := Decode("x", []byte(modelYAML+"---"+deviceYAML+"---"+strings.ReplaceAll(deviceYAML, "b1", "b2")))
	devices, problems := Resolve(objects.Devices, objects.Models)
	require.Empty(t, problems)
	devices[0].Config["serial"] = 0
	devices[0].Properties[0].Visitor["address"] = 0
	require.Equal(t, int64(9007199254740993), devices[1].Config["serial"])
	require.Equal(t, int64(1), devices[1].Properties[0].Visitor["address"])
}

// TestMistakes changes one text in the model or the device and expects one
// problem, and of the device what is left.
func TestMistakes(t *testing.T) {
	all, noSetpoint, noTemperature := "temperature setpoint", "temperature", "setpoint"
	const gone = "gone"
	for name, test := range map[string]struct{ from, to, want, left string }{
		"no model reference":     {"deviceModelRef: {name: boiler}\n", "properties: []\n", "", ""},
		"unknown model":          {"deviceModelRef: {name: boiler}", "deviceModelRef: {name: boilr}", `Device default/b1: spec.deviceModelRef.name: there is no DeviceModel "boilr" in the namespace default; declare the DeviceModel default/boilr, or: did you mean boiler?`, gone},
		"empty model reference":  {"deviceModelRef: {name: boiler}", "deviceModelRef: {}", `Device default/b1: spec.deviceModelRef.name: missing; CloudCore of KubeEdge 1.23 crashes on such a Device; write the name of a DeviceModel in the same namespace`, gone},
		"no node":                {"  nodeName: edge-a\n", "", `Device default/b1: spec.nodeName: missing: no node serves the device; write the name of the edge node that the device is wired to`, all},
		"no protocol":            {"protocolName: Modbus, ", "", `Device default/b1: spec.protocol.protocolName: missing; write the protocol's name, such as modbus`, gone},
		"another protocol":       {"protocolName: Modbus, ", "protocolName: opcua, ", `Device default/b1: spec.protocol.protocolName: "opcua", but the model is for "modbus"; use a model of the same protocol`, gone},
		"trap namespace":         {"namespace: default", "namespace: dev", `Device dev/b1: metadata.namespace: KubeEdge cannot carry twins of the namespace "dev": it is part of its own topic $hw/events/device/; use another namespace, such as default or dev-1`, gone},
		"odd name":               {"name: b1", "name: B1", `Device default/B1: metadata.name: "default/B1" is not a name that Kubernetes allows; use lower-case letters, digits and hyphens`, gone},
		"no properties":          {"  properties:\n  - {name: setpoint", "  # {", `Device default/b1: spec.properties: empty: nothing of the device is read; list the properties of the model that the device has, by name`, ""},
		"unknown field":          {"nodeName: edge-a", "nodename: edge-a", `Device default/b1: spec.nodename: unknown field; did you mean nodeName?`, gone},
		"wrong kind":             {"nodeName: edge-a", "nodeName: 7", `Device default/b1: spec.nodeName: want a text, not the number 7; write it in quotes: "7"`, gone},
		"wrong kind of map":      {"stateReport: {", "stateReport: x #", `Device default/b1: spec.stateReport: want a map, not the text "x"; write keys and values; known are reportCycle, reportToCloud`, gone},
		"unknown property field": {"collectCycle: 5000", "collectCycles: 5000", `Device default/b1: spec.properties[1].collectCycles: unknown field; did you mean collectCycle?`, noTemperature},
		"desired as a number":    {`desired: {value: "60"`, "desired: {value: 60", `Device default/b1: spec.properties[0].desired.value: want a text, not the number 60; write it in quotes: "60"`, noSetpoint},
		"cycle as a text":        {"collectCycle: 5000", `collectCycle: "5000"`, `Device default/b1: spec.properties[1].collectCycle: want an integer, not the text "5000"; write an integer, without quotes`, noTemperature},
		"flag as a text":         {"reportToCloud: true, collect", `reportToCloud: "yes", collect`, `Device default/b1: spec.properties[0].reportToCloud: want true or false, not the text "yes"; write true or false, without quotes`, noSetpoint},
		"configData as a list":   {"configData: {address: 3}", "configData: [3]", `Device default/b1: spec.properties[0].visitors.configData: want a map, not a list; write keys and values`, noSetpoint},
		"not in the model":       {"{name: temperature, collect", "{name: temperatur, collect", `Device default/b1: spec.properties[1].name: the model has no property "temperatur"; did you mean temperature?`, noTemperature},
		"no visitor":             {"{name: temperature, collect", "{name: label, collect", `Device default/b1: spec.properties[1].visitors: neither the device nor its model says how to read the property; write visitors.configData here or in the model`, noTemperature},
		"twice in the device":    {"{name: temperature, collect", "{name: setpoint, collect", `Device default/b1: spec.properties[1].name: "setpoint" is also the name of spec.properties[0]; use another name, or remove it; neither is served`, ""},
		"a space in a name":      {"{name: temperature, collect", "{name: water temperature, collect", `Device default/b1: spec.properties[1].name: EdgeCore does not take "water temperature" as a property's name; use only letters, digits and - _ . , : / @ #`, noTemperature},
		"no name":                {"{name: temperature, collect", "{collect", `Device default/b1: spec.properties[1].name: missing; write the property's name`, noTemperature},
		"short cycle":            {"collectCycle: 5000", "collectCycle: 9", `Device default/b1: spec.properties[1].collectCycle: 9 ms is out of range; write milliseconds, 10 to 86400000; or leave it out`, noTemperature},
		"long cycle":             {"reportCycle: 2000", "reportCycle: 86400001", `Device default/b1: spec.properties[0].reportCycle: 86400001 ms is out of range; write milliseconds, 10 to 86400000; or leave it out`, noSetpoint},
		"negative cycle":         {"reportCycle: 60000", "reportCycle: -1", `Device default/b1: spec.stateReport.reportCycle: -1 ms is out of range; write milliseconds, 10 to 86400000; or leave it out`, all},
		"state not reported":     {"stateReport: {reportToCloud: true, ", "stateReport: {", `Device default/b1: spec.stateReport.reportToCloud: the state of a device is always reported; write reportToCloud: true, or leave stateReport out`, all},
		"other visitor":          {"visitors: {configData: {address: 3}}", "visitors: {protocolName: opcua, configData: {address: 3}}", `Device default/b1: spec.properties[0].visitors.protocolName: "opcua", but the device speaks "modbus"; write modbus, or leave it out`, noSetpoint},
		"desired out of range":   {`value: "60"`, `value: "95"`, `Device default/b1: spec.properties[0].desired.value: 95 is above the maximum 90; write a value of the type INT, 20 to 90`, all},
		"desired not a number":   {`value: "60"`, `value: "hot"`, `Device default/b1: spec.properties[0].desired.value: "hot" is not an integer of 64 bits; write a value of the type INT, 20 to 90`, all},
		"desired, read only":     {"collectCycle: 5000", `collectCycle: 5000, desired: {value: "1"}`, `Device default/b1: spec.properties[1].desired.value: a desired value for temperature, which is ReadOnly; remove it, or make the property ReadWrite in the model`, all},
		"methods":                {"  nodeName: edge-a", "  methods: [{name: m, description: d, propertyNames: [setpoint]}]\n  nodeName: edge-a", `Device default/b1: spec.methods: methods are not served; remove methods, and set the desired values of the properties: by spec.properties[].desired, by PATCH /api/v1/devices/{namespace}/{name}, or by a Reaction`, all},
		"status":                 {"\nspec:\n  deviceModelRef", "\nstatus: {reportCycle: 5, twins: []}\nspec:\n  deviceModelRef", `Device default/b1: status: a status declares nothing; remove it, and write spec.stateReport`, all},
		"push to a database":     {"collectCycle: 5000", "pushMethod: {dbMethod: {redis: {redisClientConfig: {addr: x}}}}", `Device default/b1: spec.properties[1].pushMethod.dbMethod: the mapper does not push; the property is read and reported all the same; remove dbMethod, and run storage in the cloud: it keeps every sample in TimescaleDB or PostgreSQL exactly once`, all},
		"push nowhere":           {"collectCycle: 5000", "pushMethod: {}", `Device default/b1: spec.properties[1].pushMethod: empty; remove it`, all},
		"stream":                 {"type: INT", "type: STREAM", `DeviceModel default/boiler: spec.properties[1].type: a STREAM carries no values; leave video to KubeEdge's stream mapper, and declare what is measured as a property of another type`, noSetpoint},
		"no type":                {"type: INT, ", "", `DeviceModel default/boiler: spec.properties[1].type: "" is not a type; write INT, FLOAT, DOUBLE, BOOLEAN, STRING or BYTES`, noSetpoint},
		"access mode":            {"type: INT, accessMode: ReadWrite", "type: INT, accessMode: readwrite", `DeviceModel default/boiler: spec.properties[1].accessMode: "readwrite" is not an access mode; write ReadOnly or ReadWrite`, noSetpoint},
		"minimum over maximum":   {`minimum: "20"`, `minimum: "91"`, `DeviceModel default/boiler: spec.properties[1].minimum: the minimum 91 is above the maximum 90; swap them`, noSetpoint},
		"minimum not a number":   {`minimum: "20"`, `minimum: low`, `DeviceModel default/boiler: spec.properties[1].minimum: "low" is not an integer of 64 bits; write a number of the type INT in quotes, or leave it out`, noSetpoint},
		"minimum as a number":    {`minimum: "20"`, `minimum: 20`, `DeviceModel default/boiler: spec.properties[1].minimum: want a text, not the number 20; write it in quotes: "20"`, noSetpoint},
		"bounds of a text":       {"type: STRING, ", "type: STRING, maximum: z, ", `DeviceModel default/boiler: spec.properties[2].maximum: a STRING has no bounds; remove it`, all},
		"unused is unusable":     {"type: STRING, ", "type: TEXT, ", `DeviceModel default/boiler: spec.properties[2].type: "TEXT" is not a type; write INT, FLOAT, DOUBLE, BOOLEAN, STRING or BYTES`, all},
		"twice in the model":     {"name: label, ", "name: temperature, ", `DeviceModel default/boiler: spec.properties[2].name: "temperature" is also the name of spec.properties[0]; use another name, or remove it; neither is served`, noTemperature},
	} {
		if test.want == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			text := modelYAML + "---" + deviceYAML
			require.Contains(t, text, test.from)
			text = strings.Replace(text, test.from, test.to, 1)
			if name == "trap namespace" {
				text = strings.Replace(text, "metadata: {name: boiler}", "metadata: {name: boiler, namespace: dev}", 1)
			}
			if name == "no properties" {
				text = text[:strings.LastIndex(text, "  # {")]
			}
			objects, problems := Decode("x.yaml", []byte(text))
			devices, more := Resolve(objects.Devices, objects.Models)
			var said []string
			for _, p := range append(problems, more...) {
				said = append(said, p.Error())
			}
			if name == "wrong kind" || name == "unknown field" { // nodeName is then also missing
				require.Len(t, said, 2)
				said = said[:1]
			}
			require.Equal(t, []string{test.want}, said)
			left := gone
			for _, d := range devices {
				var names []string
				for _, p := range d.Properties {
					names = append(names, p.Name)
				}
				left = strings.Join(names, " ")
			}
			require.Equal(t, test.left, left)
		})
	}
}

func TestDesiredThatCannotBeAppliedIsKeptForTheMapperToRefuse(t *testing.T) {
	objects, _ := Decode("x", []byte(modelYAML+"---"+strings.Replace(deviceYAML, `value: "60"`, `value: "95"`, 1)))
	devices, problems := Resolve(objects.Devices, objects.Models)
	require.Len(t, problems, 1)
	require.Equal(t, new("95"), devices[0].Properties[1].Desired)
}

func TestBrokenModelIsSaidOfItsDevices(t *testing.T) {
	objects, problems := Decode("x", []byte(strings.Replace(modelYAML, "protocol: modbus", "protocols: modbus", 1)+"---"+deviceYAML))
	require.Len(t, problems, 1)
	devices, problems := Resolve(objects.Devices, objects.Models)
	require.Empty(t, devices)
	require.Len(t, problems, 1)
	require.Equal(t, `the DeviceModel "boiler" is declared wrongly`, problems[0].What)
}

func TestObjectsDeclaredTwice(t *testing.T) {
	objects, problems := Decode("x.yaml", []byte(modelYAML+"---"+modelYAML+"---"+deviceYAML+"---"+strings.Replace(deviceYAML, "edge-a", "edge-b", 1)))
	require.Empty(t, problems)
	devices, problems := Resolve(objects.Devices, objects.Models)
	require.Len(t, problems, 2)
	require.Equal(t, "declared twice: in x.yaml, document 3 and in x.yaml, document 4", problems[1].What)
	require.Len(t, devices, 1)
	require.Equal(t, "edge-a", devices[0].Node)
}

func TestResolveTakesObjectsMadeByHand(t *testing.T) {
	model := v1beta1.DeviceModel{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Spec: v1beta1.DeviceModelSpec{
		Properties: []v1beta1.ModelProperty{{Name: "p", Type: v1beta1.INT, AccessMode: v1beta1.ReadOnly, Visitors: &v1beta1.VisitorConfig{ConfigData: &v1beta1.CustomizedValue{Data: map[string]any{"address": 1.0}}}}},
	}}
	dev := v1beta1.Device{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: v1beta1.DeviceSpec{
		NodeName: "n", Protocol: v1beta1.ProtocolConfig{ProtocolName: "modbus"},
		Properties: []v1beta1.DeviceProperty{{Name: "p"}},
	}}
	devices, problems := Resolve([]Device{{Object: dev}}, []Model{{Object: model}})
	require.Empty(t, devices)
	require.Len(t, problems, 1, "a nil deviceModelRef is a problem, no panic")
	dev.Spec.DeviceModelRef = refTo("m")
	devices, problems = Resolve([]Device{{Object: dev}}, []Model{{Object: model}})
	require.Empty(t, problems)
	require.Equal(t, twin.DeviceID{Namespace: "default", Name: "d"}, devices[0].ID)
}

func TestDecode(t *testing.T) {
	for name, test := range map[string]struct {
		data                     string
		devices, models, skipped int
		problems                 []string
	}{
		"empty":              {"", 0, 0, 0, nil},
		"comments":           {"# a\n---\n# b\n", 0, 0, 0, nil},
		"CRLF":               {strings.ReplaceAll(modelYAML+"---"+deviceYAML, "\n", "\r\n"), 1, 1, 0, nil},
		"end of document":    {modelYAML + "...\n---" + deviceYAML + "...\n", 1, 1, 0, nil},
		"JSON":               {`{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device","metadata":{"name":"a","note":1}}`, 1, 0, 0, []string{"Device default/a: metadata.note: unknown field; did you mean name?"}},
		"JSON key twice":     {`{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device","metadata":{"name":"a"},"metadata":{"name":"b"}}`, 0, 0, 0, []string{`f: duplicate field "metadata"; keep one of the two; the rest of this document was not read`}},
		"typed list":         {`{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"DeviceList","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"a","namespace":"x"}},{"metadata":{"name":"b"}}]}`, 2, 0, 0, nil},
		"list":               {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: devices.kubeedge.io/v1beta1, kind: DeviceModel, metadata: {name: m}}\n- {apiVersion: v1, kind: Pod}\n", 0, 1, 1, nil},
		"status is another":  {"apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceStatus\nmetadata: {name: a}\n", 0, 0, 1, nil},
		"of others":          {"apiVersion: example.com/v1\nkind: Device\n", 0, 0, 1, nil},
		"old version":        {"apiVersion: devices.kubeedge.io/v1alpha2\nkind: Device\nmetadata: {name: a}\n", 0, 0, 0, []string{"f: devices.kubeedge.io/v1alpha2 Device is of another version; write it as devices.kubeedge.io/v1beta1, whose fields differ"}},
		"no kind":            {"metadata: {name: a}\n", 0, 0, 0, []string{"f: no apiVersion and kind; write both, such as apiVersion: devices.kubeedge.io/v1beta1 and kind: Device"}},
		"no name":            {"apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\n", 0, 0, 0, []string{"f: a Device without a name; write metadata.name"}},
		"a text":             {"hello", 0, 0, 0, []string{"f: not an object; write apiVersion, kind, metadata and spec"}},
		"items":              {"apiVersion: v1\nkind: List\nitems: 3\n", 0, 0, 0, []string{"f: items is not a list; write a list of objects"}},
		"YAML key twice":     {"a: 1\na: 2\n", 0, 0, 0, []string{`f: yaml: unmarshal errors: line 2: key "a" already set in map; mend it there; the rest of this document was not read`}},
		"the line is right":  {"# one\n---\n# three\nb: [\n---\n" + modelYAML, 0, 1, 0, []string{"f, document 2: yaml: line 4: did not find expected node content; mend it there; the rest of this document was not read"}},
		"metadata, no time":  {"apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: a, creationTimestamp: soon}\n", 1, 0, 0, []string{`Device default/a: parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006"; mend it; the object was not read`}},
		"spec is not a map":  {"apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: a}\nspec: [1]\n", 1, 0, 0, []string{"Device default/a: spec: want a map, not a list; write keys and values; known are deviceModelRef, methods, nodeName, properties, protocol, stateReport"}},
		"status of old":      {"apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: a}\nstatus: {twins: [{propertyName: p}]}\n", 1, 0, 0, nil},
		"not a property map": {"apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: a}\nspec: {properties: [p, {name: q}]}\n", 1, 0, 0, []string{`Device default/a: spec.properties[0]: want a map, not the text "p"; write keys and values; known are collectCycle, desired, name, pushMethod, reportCycle, reportToCloud, visitors`}},
	} {
		t.Run(name, func(t *testing.T) {
			objects, problems := Decode("f", []byte(test.data))
			var said []string
			for _, p := range problems {
				said = append(said, p.Error())
			}
			require.Equal(t, test.problems, said)
			require.Len(t, objects.Devices, test.devices)
			require.Len(t, objects.Models, test.models)
			require.Equal(t, test.skipped, objects.Skipped)
		})
	}
}

func TestNumbersStayExact(t *testing.T) {
	for text, want := range map[string]any{
		"9007199254740993": int64(9007199254740993), "18446744073709551615": uint64(math.MaxUint64), "-9223372036854775808": int64(math.MinInt64),
		"0.1": 0.1, "1.5e3": int64(1500), "1e40": 1e40, `"502"`: "502", "true": true, "[1, {a: 2}]": []any{int64(1), map[string]any{"a": int64(2)}},
	} {
		objects, problems := Decode("x", []byte(strings.Replace(deviceYAML, "unitId: 17", "unitId: "+text, 1)))
		require.Empty(t, problems)
		require.Equal(t, want, objects.Devices[0].Object.Spec.Protocol.ConfigData.Data["unitId"], text)
	}
}

func TestBounds(t *testing.T) {
	_, problems := Decode("x", make([]byte, MaxSize+1))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Remedy, "split it")

	item := `{"apiVersion":"v1","kind":"Pod"},`
	many := func(n int) []byte {
		return []byte(`{"apiVersion":"v1","kind":"List","items":[` + strings.TrimSuffix(strings.Repeat(item, n), ",") + `]}`)
	}
	objects, problems := Decode("x", many(MaxObjects-1)) // the List is one, too
	require.Empty(t, problems)
	require.Equal(t, MaxObjects-1, objects.Skipped)
	objects, problems = Decode("x", many(MaxObjects+5))
	require.Len(t, problems, 1)
	require.Equal(t, MaxObjects-1, objects.Skipped)

	broken := "a: [\n---\n"
	_, problems = Decode("x", []byte(strings.Repeat(broken, MaxObjects+5)))
	require.Len(t, problems, MaxObjects+1)

	var b strings.Builder
	for i := range MaxProblems + 10 {
		fmt.Fprintf(&b, "  - {name: p%d, x: 1}\n", i)
	}
	head, _, _ := strings.Cut(deviceYAML, "  - {name")
	_, problems = Decode("x", []byte(head+b.String()))
	require.Len(t, problems, MaxProblems+1)
	require.Equal(t, "10 further problems", problems[MaxProblems].What)
}

func TestMaxProperties(t *testing.T) {
	for _, n := range []int{MaxProperties, MaxProperties + 1} {
		model := v1beta1.DeviceModel{ObjectMeta: metav1.ObjectMeta{Name: "m"}}
		dev := v1beta1.Device{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: v1beta1.DeviceSpec{NodeName: "n", DeviceModelRef: refTo("m"), Protocol: v1beta1.ProtocolConfig{ProtocolName: "modbus"}}}
		for i := range n {
			name := fmt.Sprintf("p%d", i)
			if i < MaxProperties {
				model.Spec.Properties = append(model.Spec.Properties, v1beta1.ModelProperty{Name: name, Type: v1beta1.INT, AccessMode: v1beta1.ReadOnly})
			}
			dev.Spec.Properties = append(dev.Spec.Properties, v1beta1.DeviceProperty{Name: name, Visitors: v1beta1.VisitorConfig{ConfigData: &v1beta1.CustomizedValue{Data: map[string]any{"address": i}}}})
		}
		devices, problems := Resolve([]Device{{Object: dev}}, []Model{{Object: model}})
		require.Equal(t, n > MaxProperties, len(problems) > 0)
		require.Equal(t, n > MaxProperties, len(devices) == 0)
	}
}

// TestEveryFieldIsHonouredOrRefused fails when KubeEdge adds a field to Device
// or DeviceModel that neither the reference tables nor the refusals name, and when they name one
// that is not there.
func TestEveryFieldIsHonouredOrRefused(t *testing.T) {
	for _, test := range []struct {
		typ   reflect.Type
		named map[string]bool
	}{
		{reflect.TypeFor[v1beta1.Device](), namedPaths(DeviceTable().Fields, Refusals())},
		{reflect.TypeFor[v1beta1.DeviceModel](), namedPaths(ModelTable().Fields, nil)},
	} {
		used := map[string]bool{"metadata.name": true, "metadata.namespace": true}
		walkType(test.typ, "", func(path string) bool {
			used[path] = used[path] || test.named[path]
			return test.named[path]
		}, func(leaf string) { t.Errorf("%s: %s is neither honoured nor refused", test.typ, leaf) })
		for path := range test.named {
			require.True(t, used[path], "%s has no field %s", test.typ, path)
		}
	}
	var b strings.Builder
	require.NoError(t, WriteReference(&b, 2))
	for path := range namedPaths(DeviceTable().Fields, Refusals()) {
		require.Contains(t, b.String(), "`"+path+"`")
	}
}

// walkType calls named for each path below typ, and leaf for those that end without being named.
func walkType(typ reflect.Type, path string, named func(string) bool, leaf func(string)) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case path == "apiVersion" || path == "kind" || path == "metadata" || (path != "" && named(path)):
	case typ.Kind() == reflect.Slice:
		walkType(typ.Elem(), path+"[]", named, leaf)
	case typ.Kind() == reflect.Struct && !freeForm(typ):
		for name, ft := range fieldsOf(typ) {
			walkType(ft, strings.TrimPrefix(path+"."+name, "."), named, leaf)
		}
	default:
		leaf(path)
	}
}
