// Command serial-mapper serves instruments on serial lines as KubeEdge devices.
package main

import (
	"fmt"

	"github.com/twinline/twinline/mappers/serial"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mapperapp"
)

func main() {
	mapperapp.Main(mapperapp.Options{
		Name:    "serial-mapper",
		Summary: "Serve instruments on serial lines as KubeEdge devices: meters, scales, receivers, boards",
		New:     newDriver,
	})
}

// newDriver makes the driver and shows its lines as metrics.
func newDriver(rt mapperapp.Runtime) (mapper.Driver, error) {
	driver := serial.New()
	if err := rt.Registry.Register(driver); err != nil {
		return nil, fmt.Errorf("register the metrics of the lines: %w", err)
	}
	return driver, nil
}
