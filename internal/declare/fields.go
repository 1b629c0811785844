package declare

import (
	"fmt"
	"io"
	"strings"

	"github.com/twinline/twinline/internal/schema"
)

// Refusal is a field that is not honoured, and what to do instead.
type Refusal struct {
	Path   string // from the object's root; what is below it is refused with it
	What   string
	Remedy string
}

// refusalOf returns the refusal of a path of Refusals.
func refusalOf(path string) Refusal {
	for _, r := range Refusals() {
		if r.Path == path {
			return r
		}
	}
	panic("no refusal of " + path)
}

// Refusals lists the fields of Device that are refused.
func Refusals() []Refusal {
	const push = "spec.properties[].pushMethod."
	const noPush = "the mapper does not push; the property is read and reported all the same"
	return []Refusal{
		{
			"spec.methods", "methods are not served",
			"remove methods, and set the desired values of the properties: by spec.properties[].desired, by PATCH /api/v1/devices/{namespace}/{name}, or by a Reaction",
		},
		{push + "http", noPush, "remove http, and run uplink on the node: it delivers every sample to the telemetry service and so to Kafka"},
		{push + "mqtt", noPush, "remove mqtt, and subscribe to twinline/telemetry/{namespace}/{device} on the node's own broker, where every sample is"},
		{push + "otel", noPush, "remove otel, and consume the Kafka topic iot-telemetry with an OpenTelemetry collector"},
		{push + "dbMethod", noPush, "remove dbMethod, and run storage in the cloud: it keeps every sample in TimescaleDB or PostgreSQL exactly once"},
		{push + "anomalyDetection", noPush, "remove anomalyDetection, and look for anomalies in a consumer of the Kafka topic iot-telemetry"},
		{"status", "a status declares nothing", "remove it, and write spec.stateReport"},
	}
}

// DeviceTable documents the fields of Device that are honoured.
func DeviceTable() *schema.Table {
	cycle := func(key, doc, def string) schema.Field {
		f := schema.Field{Key: key, Kind: schema.Int, Min: int(MinCycle.Milliseconds()), Max: int(MaxCycle.Milliseconds()), Unit: "ms", Doc: doc}
		if def != "" {
			f.Default = def
		}
		return f
	}
	return &schema.Table{Title: "Device", Doc: "`devices.kubeedge.io/v1beta1`. Labels, annotations and what else Kubernetes keeps in `metadata` are left to their owners.", Fields: []schema.Field{
		{Key: "metadata.name", Required: true, Doc: "The device's name. With the namespace it is the device's id everywhere: `default/boiler`."},
		{Key: "metadata.namespace", Default: "default", Doc: "Any but a part of the text `$hw/events/device/`, such as `dev`, `device` or `event`: KubeEdge loses the twins of those."},
		{Key: "spec.deviceModelRef.name", Required: true, Doc: "The DeviceModel, in the same namespace. CloudCore crashes on a Device without one."},
		{Key: "spec.nodeName", Required: true, Doc: "The edge node whose mapper serves the device."},
		{Key: "spec.protocol.protocolName", Required: true, Doc: "The mapper that serves the device: `modbus`, `serial`, or your own. Case does not matter."},
		{Key: "spec.protocol.configData", Kind: schema.Map, Item: anyItem(), Doc: "How to reach the device; the protocol says which keys there are. Its keys go before those of the model's `protocolConfigData`; a null takes the model's key away."},
		{Key: "spec.stateReport.reportToCloud", Kind: schema.Bool, Doc: "Must be true where `stateReport` is given: the state of a device is always reported."},
		cycle("spec.stateReport.reportCycle", "How often the device's state is reported again though it did not change.", ""),
		{Key: "spec.properties[].name", Required: true, Doc: "A property of the model. Only those listed here are read. Letters, digits and `- _ . , : / @ #`, at most 128: what EdgeCore takes."},
		cycle("spec.properties[].collectCycle", "How often the property is read.", fmt.Sprint(DefaultCollectCycle.Milliseconds())),
		cycle("spec.properties[].reportCycle", "How often its twin is reported at most. Telemetry has every reading, however long this is.", fmt.Sprintf("%d, or collectCycle if that is longer", DefaultReportCycle.Milliseconds())),
		{Key: "spec.properties[].reportToCloud", Kind: schema.Bool, Default: false, Doc: "Whether the twin is reported. Telemetry is sent in any case."},
		{Key: "spec.properties[].desired.value", Doc: "The value that the property is set to whenever this changes; of a ReadWrite property, as text. Empty: none.", Example: `"60"`},
		{Key: "spec.properties[].desired.metadata", Kind: schema.Map, Item: &schema.Field{Kind: schema.String}, Doc: "Notes for people and for KubeEdge; a mapper has no use for them."},
		{Key: "spec.properties[].visitors.protocolName", Doc: "The same as `spec.protocol.protocolName`, or left out."},
		{Key: "spec.properties[].visitors.configData", Kind: schema.Map, Item: anyItem(), Doc: "How to read and write the property; the protocol says which keys there are. Its keys go before those of the model's visitor; a null takes the model's key away."},
	}}
}

func anyItem() *schema.Field { return &schema.Field{Kind: schema.Scalar} }

// ModelTable documents the fields of DeviceModel, all of which are honoured.
func ModelTable() *schema.Table {
	return &schema.Table{Title: "DeviceModel", Doc: "`devices.kubeedge.io/v1beta1`. A mistake in a property of a model takes that property from all devices of the model, and nothing else.", Fields: []schema.Field{
		{Key: "metadata.name", Required: true, Doc: "What devices name in `deviceModelRef`."},
		{Key: "metadata.namespace", Default: "default", Doc: "The namespace of the devices that use it."},
		{Key: "spec.protocol", Doc: "The `protocolName` of the devices that may use it. Left out: any."},
		{Key: "spec.protocolConfigData", Kind: schema.Map, Item: anyItem(), Doc: "`spec.protocol.configData` for all devices of the model, which may override it key by key."},
		{Key: "spec.properties[].name", Required: true, Doc: "The property's name, unique in the model."},
		{Key: "spec.properties[].description", Doc: "For people."},
		{Key: "spec.properties[].type", Kind: schema.Enum, Enum: []string{"INT", "FLOAT", "DOUBLE", "BOOLEAN", "STRING", "BYTES"}, Required: true, Doc: "STREAM is refused: it carries no values. BYTES are standard base64."},
		{Key: "spec.properties[].accessMode", Kind: schema.Enum, Enum: []string{"ReadOnly", "ReadWrite"}, Required: true, Doc: "Whether the property may be set."},
		{Key: "spec.properties[].minimum", Doc: "The least value, of an INT, FLOAT or DOUBLE, as text. A desired value or a command below it is refused.", Example: `"0"`},
		{Key: "spec.properties[].maximum", Doc: "The greatest value, as `minimum`.", Example: `"120"`},
		{Key: "spec.properties[].unit", Doc: "Shown beside the value.", Example: "°C"},
		{Key: "spec.properties[].visitors.protocolName", Doc: "The protocol of `visitors.configData`; another than the device's is refused."},
		{Key: "spec.properties[].visitors.configData", Kind: schema.Map, Item: anyItem(), Doc: "How to read and write the property, for all devices of the model."},
	}}
}

// WriteReference writes the reference of Device and DeviceModel, as Markdown,
// under headings of the given level.
func WriteReference(w io.Writer, level int) error {
	for _, t := range []*schema.Table{DeviceTable(), ModelTable()} {
		if err := t.WriteMarkdown(w, level); err != nil {
			return err
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s Refused\n\nThese fields of Device are refused, each with the sentence given here; all else of the device goes on.\n\n", strings.Repeat("#", max(1, level)))
	b.WriteString("| field | why | instead |\n|---|---|---|\n")
	for _, r := range Refusals() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Path, r.What, r.Remedy)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}
