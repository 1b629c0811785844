package declare

import (
	"encoding/json"
	"strconv"

	"github.com/kubeedge/api/apis/devices/v1beta1"
)

// KubeEdge's CustomizedValue reads every number as float64, which is not exact
// beyond 2^53. These functions put the numbers back as they were written.

func exactDevice(dev *v1beta1.Device, tree map[string]any) {
	spec, _ := tree["spec"].(map[string]any)
	protocol, _ := spec["protocol"].(map[string]any)
	exactData(dev.Spec.Protocol.ConfigData, protocol)
	properties, _ := spec["properties"].([]any)
	for i := range min(len(properties), len(dev.Spec.Properties)) {
		p, _ := properties[i].(map[string]any)
		visitors, _ := p["visitors"].(map[string]any)
		exactData(dev.Spec.Properties[i].Visitors.ConfigData, visitors)
	}
}

func exactModel(m *v1beta1.DeviceModel, tree map[string]any) {
	spec, _ := tree["spec"].(map[string]any)
	if data, ok := spec["protocolConfigData"].(map[string]any); ok && m.Spec.ProtocolConfigData != nil {
		m.Spec.ProtocolConfigData.Data = exactMap(data)
	}
	properties, _ := spec["properties"].([]any)
	for i := range min(len(properties), len(m.Spec.Properties)) {
		p, _ := properties[i].(map[string]any)
		visitors, _ := p["visitors"].(map[string]any)
		if m.Spec.Properties[i].Visitors != nil {
			exactData(m.Spec.Properties[i].Visitors.ConfigData, visitors)
		}
	}
}

func exactData(into *v1beta1.CustomizedValue, parent map[string]any) {
	if data, ok := parent["configData"].(map[string]any); ok && into != nil {
		into.Data = exactMap(data)
	}
}

func exactMap(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for key, v := range m {
		out[key] = exactValue(v)
	}
	return out
}

// exactValue turns each json.Number into int64, uint64 or float64, and copies maps and lists.
func exactValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return u
		}
		f, _ := v.Float64() // beyond float64 it is refused by whoever reads it
		return f
	case map[string]any:
		return exactMap(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = exactValue(v[i])
		}
		return out
	}
	return v
}
