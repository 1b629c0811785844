// Package simulate is the command `twinline simulate`.
package simulate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/internal/simulator"
	"github.com/twinline/twinline/pkg/twin"
)

const example = `  twinline simulate -f examples/demo
  twinline simulate -f devices.yaml -f faults.yaml

  # faults.yaml: every tenth reply of the boiler is late
  apiVersion: twinline.io/v1alpha1
  kind: Simulation
  metadata: {name: faults}
  spec:
    devices:
      default/boiler:
        properties:
          temperature: {wave: sine, min: 60, max: 95, period: 2m}
        faults:
        - {do: late, every: 10, delay: 3s}
      default/board-1: # of protocol serial
        replies: {status: "${address} T=${temperature:%.1f} SP=${setpoint}"}
        stream:
        - {every: 1s, send: "TEMP=${temperature} HUM=${humidity}"}`

// NewCommand returns the command.
func NewCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "simulate -f FILE…",
		Short: "play Modbus and serial devices from their Device and DeviceModel manifests",
		Long: "Simulate listens where the Devices' URLs say (tcp, rtuovertcp), makes pseudo terminals for serial ones (rtu, serial),\n" +
			"and answers as the devices would. Simulation objects in the same files script waves and faults.\n" +
			"What a device of protocol serial answers, and says by itself, follows from its declaration. Where that does not tell,\n" +
			"a warning says so, and the Simulation gives it: replies by request, and stream. Faults count its requests and the frames\n" +
			"that it sends by itself alike.\n" +
			"Waves: constant, sine, square, triangle, ramp, random, counter, hold. Faults: " + strings.Join(simulator.FaultNames(), ", ") + ".",
		Example: example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd, files)
		},
	}
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "file or folder of manifests; may be given several times")
	return cmd
}

func run(cmd *cobra.Command, files []string) error {
	if len(files) == 0 {
		return app.ConfigError(errors.New("name the manifests with -f FILE"))
	}
	devices, script, problems, err := Load(files)
	if err != nil {
		return app.ConfigError(err)
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	sim, more := simulator.New(devices, script, log)
	for _, p := range append(problems, more...) {
		log.Warn(p.Error())
	}
	if len(sim.Endpoints()) == 0 {
		return app.ConfigError(errors.New("no device can be simulated"))
	}
	if err := sim.Start(cmd.Context()); err != nil {
		return err
	}
	defer sim.Stop()
	for _, e := range sim.Endpoints() {
		fmt.Fprintln(cmd.OutOrStdout(), "simulating", e)
	}
	select {
	case <-cmd.Context().Done():
		return nil
	case <-sim.Done():
		return sim.Err()
	}
}

// Load reads the devices and the Simulation objects of files and folders.
func Load(paths []string) ([]twin.Device, simulator.Script, []twin.Problem, error) {
	var objects declare.Objects
	var script simulator.Script
	var problems []twin.Problem
	names, err := list(paths)
	if err != nil {
		return nil, script, nil, err
	}
	for _, name := range names {
		data, err := read(name)
		if err != nil {
			return nil, script, nil, err
		}
		found, wrong := declare.Decode(name, data)
		objects.Devices = append(objects.Devices, found.Devices...)
		objects.Models = append(objects.Models, found.Models...)
		problems = append(append(problems, wrong...), simulator.DecodeScript(name, data, &script)...)
	}
	devices, wrong := declare.Resolve(objects.Devices, objects.Models)
	return devices, script, append(problems, wrong...), nil
}

// list returns the files, and the YAML and JSON files below the folders, in order.
func list(paths []string) ([]string, error) {
	var names []string
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !d.IsDir() && (name == path || slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))) {
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
	}
	return names, nil
}

// read reads at most one byte more than may be decoded: the decoder then says so.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, declare.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	return data, nil
}
