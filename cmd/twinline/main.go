// Command twinline is the tool for people: a demo, a simulator, checks.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/cmd/twinline/demo"
	"github.com/twinline/twinline/cmd/twinline/docs"
	"github.com/twinline/twinline/cmd/twinline/probe"
	"github.com/twinline/twinline/cmd/twinline/scan"
	"github.com/twinline/twinline/cmd/twinline/simulate"
	"github.com/twinline/twinline/cmd/twinline/validate"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/internal/serial"
	modbusdriver "github.com/twinline/twinline/mappers/modbus"
	serialdriver "github.com/twinline/twinline/mappers/serial"
	"github.com/twinline/twinline/pkg/mapper"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "twinline",
		Short:         "KubeEdge's device plane made trustworthy",
		Version:       app.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return app.ConfigError(fmt.Errorf("unknown command %q; see twinline --help", args[0]))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return app.ConfigError(err) })
	root.AddCommand(demo.NewCommand(), simulate.NewCommand(), validate.NewCommand(drivers()), docs.NewCommand(pages()), newPrepareCommand(),
		probe.NewCommand(drivers(), serialdriver.Dial), scan.NewCommand(serialdriver.Dial))
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return app.ExitCode(root.ExecuteContext(ctx), stderr)
}

// drivers are the protocols whose declarations can be checked.
func drivers() map[string]func() mapper.Driver {
	return map[string]func() mapper.Driver{
		modbus.Protocol: func() mapper.Driver { return modbusdriver.New() },
		serial.Protocol: func() mapper.Driver { return serialdriver.New() },
	}
}

// pages are the reference pages with the tables of all protocols.
func pages() []docs.Page {
	return docs.Pages(
		docs.Protocol{Name: modbus.Protocol, Tables: []*schema.Table{modbus.DeviceTable(), modbus.VisitorTable()}},
		docs.Protocol{Name: serial.Protocol, Tables: []*schema.Table{serial.DeviceTable(), serial.VisitorTable()}},
	)
}
