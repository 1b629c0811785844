// Command stack brings the real components up and down on this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/twinline/twinline/test/e2e/stack"
)

const usage = `usage: stack [flags] up|down|build|status|env

  up      bring everything up; does nothing when it is up and healthy
  down    stop everything and clean up; logs stay in the run folder
  build   install packages and fill the cache, start nothing
  status  show each component
  env     print export lines, for: eval "$(stack env)"

flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "stack:", err)
		os.Exit(1)
	}
}

// errUsage is a wrong command line; what is wrong has been printed.
var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	opts := stack.Options{Out: progress}
	flags := flag.NewFlagSet("stack", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.Usage = func() { fmt.Fprint(progress, usage); flags.PrintDefaults() }
	flags.StringVar(&opts.Dir, "dir", "", "run folder (default $TWINLINE_STACK_DIR or "+stack.DefaultDir+")")
	flags.StringVar(&opts.CacheDir, "cache", "", "cache folder (default twinline below the user's cache folder)")
	flags.BoolVar(&opts.DatabaseOnly, "database-only", false, "only TimescaleDB; give it a -dir of its own, with each command")
	flags.IntVar(&opts.MessageQPS, "message-qps", 0, "EdgeHub's uplink budget (default 30)")
	flags.IntVar(&opts.Heartbeat, "heartbeat", 0, "EdgeHub's keepalive in seconds (default 5)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return errUsage
	}
	s, err := stack.New(opts)
	if err != nil {
		return err
	}
	switch flags.Arg(0) {
	case "up":
		return s.Up(ctx)
	case "down":
		return s.Down(ctx)
	case "build":
		return s.Build(ctx)
	case "status":
		return status(ctx, s, out)
	case "env":
		_, err := io.WriteString(out, s.Env())
		return err
	}
	flags.Usage()
	return errUsage
}

// status prints a line per component and fails when one does not serve.
func status(ctx context.Context, s *stack.Stack, out io.Writer) error {
	down := 0
	for _, h := range s.Status(ctx) {
		state := "serves"
		if h.Err != nil {
			state = h.Err.Error()
			down++
		}
		fmt.Fprintf(out, "%-24s %7d  %s\n", h.Component, h.PID, state)
	}
	if down > 0 {
		return fmt.Errorf("%d components do not serve", down)
	}
	return nil
}
