package declare

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDeadband(t *testing.T) {
	for name, test := range map[string]struct {
		model, device string // configData of temperature in the model, of setpoint in the device
		want          [2]float64
	}{
		"none":             {"", "", [2]float64{0, 0}},
		"of the model":     {", deadband: 0.5", "", [2]float64{0.5, 0}},
		"of the device":    {"", ", deadband: 2", [2]float64{0, 2}},
		"as a text":        {`, deadband: "0.5"`, ", deadband: 0", [2]float64{0.5, 0}},
		"taken away":       {"", ", deadband: null", [2]float64{0, 0}},
		"the driver's say": {", deadband: -1", ", deadband: [wide]", [2]float64{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(modelYAML, "scale: 0.1", "scale: 0.1"+test.model, 1) + "---" + strings.Replace(deviceYAML, "address: 3", "address: 3"+test.device, 1)
			objects, _ := Decode("x", []byte(text))
			devices, problems := Resolve(objects.Devices, objects.Models)
			require.Empty(t, problems)
			require.Equal(t, test.want, [2]float64{devices[0].Properties[0].Deadband, devices[0].Properties[1].Deadband})
		})
	}
}

func TestOnlyNumbersHaveADeadband(t *testing.T) {
	text := strings.Replace(modelYAML, "type: STRING, accessMode: ReadWrite", "type: STRING, accessMode: ReadWrite, visitors: {configData: {deadband: 3}}", 1) +
		"---" + strings.Replace(deviceYAML, "{name: temperature,", "{name: label}\n  - {name: temperature,", 1)
	objects, _ := Decode("x", []byte(text))
	devices, problems := Resolve(objects.Devices, objects.Models)
	require.Empty(t, problems)
	require.Equal(t, "label", devices[0].Properties[2].Name)
	require.Zero(t, devices[0].Properties[2].Deadband)
}
