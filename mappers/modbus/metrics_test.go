package modbus

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/internal/modbus/modbustest"
)

func TestMetrics(t *testing.T) {
	driver := New()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(driver))
	conn := open(t, driver, registers("d", serve(t, modbus.TCP, &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}}}), 1, 100))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 18)
	_, err = conn.Read(t.Context(), []string{"r100"})
	require.NoError(t, err)
	families, err = registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "twinline_modbus_line_requests_total" {
			require.InDelta(t, 1, f.GetMetric()[0].GetCounter().GetValue(), 0)
		}
	}
}
