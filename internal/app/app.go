// Package app gives every binary of Twinline the same manners: configuration
// from a file, the environment and flags; logs; metrics; /health and /ready; a
// graceful stop; exit codes.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/twinline/twinline/internal/service"
)

// Exit codes of every binary.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitConfig = 2
)

// StopTimeout bounds a graceful stop; after it the process exits with ExitFailed.
const StopTimeout = 10 * time.Second

// Version is what --version prints; set by -ldflags "-X …/internal/app.Version=v1.2.3".
var Version = "devel" //nolint:gochecknoglobals // the linker sets variables of a package only

// App describes one binary.
type App struct {
	Name    string // of the binary: "uplink"
	Summary string // one line
	Example string // for --help; each line indented by two spaces

	// Config points to a struct that holds the defaults. Its fields are tagged
	// `key:"bus" help:"…"`; Common is embedded. See Bind for the types allowed.
	// If it has a method Validate() error, that is called after loading.
	Config Configured

	// Build makes the service from the loaded Config. An error of it that
	// wraps ErrConfig ends the process with ExitConfig.
	Build func(rt *Runtime) (service.Service, error)
}

// Configured is a configuration struct that embeds Common.
type Configured interface{ common() *Common }

// Common holds the keys that all binaries share. Embed it in the Config struct.
type Common struct {
	Listen    string `key:"listen" help:"address of the API with /health and /ready; empty: none"`
	TLSCert   string `key:"tls-cert" help:"certificate file: the API is served by TLS"`
	TLSKey    string `key:"tls-key" help:"key file of --tls-cert"`
	Metrics   string `key:"metrics" help:"address of Prometheus /metrics; empty: none"`
	LogLevel  string `key:"log-level" help:"debug, info, warn or error"`
	LogFormat string `key:"log-format" help:"text or json"`
}

func (c *Common) common() *Common { return c }

// DefaultCommon returns the defaults of the shared keys.
func DefaultCommon() Common {
	return Common{Listen: ":8080", Metrics: ":9090", LogLevel: "info", LogFormat: "text"}
}

// ErrConfig marks an error as the configuration's fault.
var ErrConfig = errors.New("configuration")

// ConfigError wraps err so that errors.Is(err, ErrConfig).
func ConfigError(err error) error { return fmt.Errorf("%w: %w", ErrConfig, err) }

// Runtime is what Build gets.
type Runtime struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	API      *API // routes and readiness checks
}

// Main runs the binary and exits.
func Main(a App) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := a.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run runs the binary until ctx ends and returns its exit code.
func (a App) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := a.Command()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	return ExitCode(cmd.ExecuteContext(ctx), stderr)
}

// ExitCode prints err, if any, and returns the exit code for it.
func ExitCode(err error, stderr io.Writer) int {
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrConfig):
		fmt.Fprintln(stderr, "error:", err)
		return ExitConfig
	default:
		fmt.Fprintln(stderr, "error:", err)
		return ExitFailed
	}
}

// Command returns the binary as a cobra command.
func (a App) Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:           a.Name,
		Short:         a.Summary,
		Example:       a.Example,
		Version:       Version,
		Args:          func(_ *cobra.Command, args []string) error { return refuseArgs(args) },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return ConfigError(err) })
	load := Bind(cmd.Flags(), a.Config)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(os.LookupEnv); err != nil {
			return ConfigError(err)
		}
		return a.serve(cmd.Context(), cmd.ErrOrStderr())
	}
	return cmd
}

func refuseArgs(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return ConfigError(fmt.Errorf("argument %q is not understood; see --help", args[0]))
}

// serve builds, starts, waits and stops.
func (a App) serve(ctx context.Context, stderr io.Writer) error {
	c := a.Config.common()
	log, err := NewLogger(stderr, c.LogLevel, c.LogFormat)
	if err != nil {
		return ConfigError(err)
	}
	log = log.With("app", a.Name)
	rt := &Runtime{Log: log, Registry: prometheus.NewRegistry()}
	rt.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	rt.API = NewAPI()
	svc, err := a.Build(rt)
	if err != nil {
		return err
	}
	whole := service.Group(a.Name, rt.servers(c), svc)
	log.Info("starting", "version", Version)
	if err := whole.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop during the start
		}
		return err
	}
	log.Info("started", "listen", c.Listen, "metrics", c.Metrics)
	select {
	case <-ctx.Done():
	case <-whole.Done():
		return fmt.Errorf("run %s: %w", a.Name, whole.Err())
	}
	return stop(log, whole)
}

// stop stops svc within StopTimeout.
func stop(log *slog.Logger, svc service.Service) error {
	log.Info("stopping")
	stopped := make(chan struct{})
	go func() { // owned by this function: it waits, or the process exits
		svc.Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		log.Info("stopped")
		return nil
	case <-time.After(StopTimeout):
		return fmt.Errorf("stop: not done after %s", StopTimeout)
	}
}

// NewLogger returns a logger of the given level and format.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log-level %q: want debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log-format %q: want text or json", format)
}
