package inventory_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/internal/inventory"
	"github.com/twinline/twinline/pkg/twin"
)

const model = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: %s, namespace: plant}
spec:
  protocol: modbus
  properties:
  - {name: temperature, type: %s, accessMode: ReadOnly}
`

const device = `
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: %s, namespace: plant}
spec:
  nodeName: %s
  deviceModelRef: {name: %s}
  protocol: {protocolName: %s, configData: {url: "tcp://10.0.0.1:502"}}
  properties:
  - {name: temperature, reportToCloud: true, visitors: {protocolName: modbus, configData: {register: holding, address: 1}}}
`

func part(t *testing.T, documents ...string) inventory.Part {
	t.Helper()
	objects, problems := declare.Decode("test", []byte(strings.Join(documents, "\n---\n")))
	return inventory.Part{Objects: objects, Problems: problems}
}

func names(devices []twin.Device) (names []string) {
	for _, d := range devices {
		names = append(names, d.ID.Name)
	}
	return names
}

func TestOnlyOursAreGiven(t *testing.T) {
	parts := []inventory.Part{
		part(t, fmt.Sprintf(model, "boiler", "INT"), fmt.Sprintf(model, "wrong", "NUMBER")),
		part(t, fmt.Sprintf(device, "a", "n1", "boiler", "modbus"), fmt.Sprintf(device, "b", "n2", "boiler", "modbus"),
			fmt.Sprintf(device, "c", "n1", "boiler", "opcua"), fmt.Sprintf(device, "d", "n1", "boiler", "MODBUS")),
	}
	devices, problems := inventory.Of{Node: "n1", Protocol: "Modbus"}.Devices(parts)
	require.Equal(t, []string{"a", "d"}, names(devices))
	require.Empty(t, problems, "the wrong model is of nobody's concern")

	devices, _ = inventory.Of{Protocol: "modbus"}.Devices(parts)
	require.Equal(t, []string{"a", "b", "d"}, names(devices))
}

func TestProblemsOfOthersAreLeftOut(t *testing.T) {
	parts := []inventory.Part{part(t,
		fmt.Sprintf(model, "wrong", "NUMBER"),
		fmt.Sprintf(device, "a", "n1", "wrong", "modbus"),
		fmt.Sprintf(device, "b", "n2", "missing", "modbus"),
		strings.Replace(fmt.Sprintf(device, "c", "n2", "wrong", "modbus"), "nodeName:", "unknown: 1\n  nodeName:", 1),
		"{ not: [yaml",
	)}
	_, problems := inventory.Of{Node: "n1", Protocol: "modbus"}.Devices(parts)
	var objects []string
	for _, p := range problems {
		objects = append(objects, p.Object)
	}
	text := strings.Join(objects, "; ")
	require.Contains(t, text, "DeviceModel plant/wrong")
	require.Contains(t, text, "test", "what cannot be read concerns all")
	require.NotContains(t, text, "plant/b")
	require.NotContains(t, text, "plant/c")
}
