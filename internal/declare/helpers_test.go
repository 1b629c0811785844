package declare

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

func refTo(name string) *corev1.LocalObjectReference { return &corev1.LocalObjectReference{Name: name} }

func namedPaths(fields []schema.Field, refusals []Refusal) map[string]bool {
	named := map[string]bool{}
	for i := range fields {
		named[fields[i].Key] = true
	}
	for _, r := range refusals {
		named[r.Path] = true
	}
	return named
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(modelYAML + "---" + deviceYAML))
	f.Add([]byte(`{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"DeviceList","items":[{"metadata":{"name":"a"},"spec":{"deviceModelRef":null,"properties":[null,{"name":"p","pushMethod":{"anomalyDetection":{"a":1}}}],"protocol":{"protocolName":"modbus","configData":null}}}]}`))
	f.Add([]byte("a: &a [*a]\n---\nx: {y: 1e400}\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, problems := Decode("f", data)
		devices, more := Resolve(objects.Devices, objects.Models)
		for _, p := range append(problems, more...) {
			require.NotEmpty(t, p.Object)
			require.NotEmpty(t, p.What)
			require.NotEmpty(t, p.Remedy)
		}
		for _, d := range devices {
			_, err := twin.ParseDeviceID(d.ID.String())
			require.NoError(t, err)
			seen := map[string]bool{}
			for _, p := range d.Properties {
				require.False(t, seen[p.Name] || p.Name == "")
				seen[p.Name] = true
				require.True(t, p.CollectCycle >= MinCycle && p.CollectCycle <= MaxCycle && p.ReportCycle >= MinCycle && p.ReportCycle <= MaxCycle)
				require.NotEmpty(t, p.Visitor)
			}
		}
	})
}
