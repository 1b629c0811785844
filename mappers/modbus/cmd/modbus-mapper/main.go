// Command modbus-mapper serves Modbus devices as KubeEdge devices.
package main

import (
	"fmt"

	"github.com/twinline/twinline/mappers/modbus"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mapperapp"
)

func main() {
	mapperapp.Main(mapperapp.Options{
		Name:    "modbus-mapper",
		Summary: "Serve Modbus devices (TCP, UDP, RTU, ASCII) as KubeEdge devices",
		New:     newDriver,
	})
}

// newDriver makes the driver and shows its lines as metrics.
func newDriver(rt mapperapp.Runtime) (mapper.Driver, error) {
	driver := modbus.New()
	if err := rt.Registry.Register(driver); err != nil {
		return nil, fmt.Errorf("register the metrics of the lines: %w", err)
	}
	return driver, nil
}
