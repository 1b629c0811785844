package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/service"
)

func TestMain(m *testing.M) {
	http.DefaultTransport.(*http.Transport).DisableKeepAlives = true
	goleak.VerifyTestMain(m)
}

type config struct {
	app.Common
	Name  string        `key:"name" help:"a text"`
	Count int           `key:"count" help:"a number"`
	Pause time.Duration `key:"pause" help:"a duration"`
	Ratio float64       `key:"ratio" help:"a ratio"`
	Large int64         `key:"large" help:"a large number"`
	Quick bool          `key:"quick" help:"a switch"`
	Hosts []string      `key:"hosts" help:"a list"`
}

func (c *config) Validate() error {
	if c.Count > 10 {
		return errors.New("count: at most 10")
	}
	return nil
}

func defaults() *config {
	c := &config{Common: app.DefaultCommon(), Name: "a", Count: 1, Pause: time.Second, Hosts: []string{"h"}}
	c.Listen, c.Metrics = "127.0.0.1:0", ""
	return c
}

func load(t *testing.T, c any, env map[string]string, args ...string) error {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	bound := app.Bind(flags, c)
	if err := flags.Parse(args); err != nil {
		return err
	}
	return bound(func(key string) (string, bool) { v, ok := env[key]; return v, ok })
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestFlagsWinOverEnvironmentWinsOverFileWinsOverDefaults(t *testing.T) {
	name := file(t, "name: file\ncount: 2\npause: 2s\nratio: 0.5\nlarge: 9007199254740993\nquick: true\nhosts: [x, z]\n")
	c := defaults()
	require.NoError(t, load(t, c, map[string]string{"TWINLINE_COUNT": "3", "TWINLINE_PAUSE": "3s"}, "--config", name, "--pause", "4s"))
	require.Equal(t, "file", c.Name)
	require.Equal(t, 3, c.Count)
	require.Equal(t, 4*time.Second, c.Pause)
	require.InDelta(t, 0.5, c.Ratio, 0)
	require.Equal(t, int64(9007199254740993), c.Large)
	require.True(t, c.Quick)
	require.Equal(t, []string{"x", "z"}, c.Hosts)
	require.Equal(t, "info", c.LogLevel)
}

func TestMistakesInTheConfigurationAreNamed(t *testing.T) {
	tests := []struct {
		name, file string
		env        map[string]string
		args       []string
		want       string
	}{
		{"unknown key", "nmae: x", nil, nil, `unknown key "nmae"`},
		{"duplicate key", "name: x\nname: y", nil, nil, "already set"},
		{"not YAML", "name: [", nil, nil, "config.yaml"},
		{"wrong kind", "count: many", nil, nil, `count: "many": want an integer`},
		{"a map", "name: {a: 1}", nil, nil, "want a text"},
		{"environment", "", map[string]string{"TWINLINE_PAUSE": "soon"}, nil, `$TWINLINE_PAUSE: "soon": want a duration`},
		{"flag", "", nil, []string{"--ratio", "half"}, `"half": want a number`},
		{"validation", "count: 11", nil, nil, "at most 10"},
		{"missing file", "", nil, []string{"--config", "/nowhere.yaml"}, "/nowhere.yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.file != "" {
				args = append(args, "--config", file(t, tt.file))
			}
			require.ErrorContains(t, load(t, defaults(), tt.env, args...), tt.want)
		})
	}
}

func TestAConfigurationFileHasABound(t *testing.T) {
	text := bytes.Repeat([]byte("#"), 1<<20)
	require.NoError(t, load(t, defaults(), nil, "--config", file(t, string(text))))
	require.ErrorContains(t, load(t, defaults(), nil, "--config", file(t, string(text)+"#")), "at most")
}

func application(c *config, build func(*app.Runtime) (service.Service, error)) app.App {
	return app.App{Name: "part", Summary: "does a part", Example: "  part --count 3", Config: c, Build: build}
}

func idle(*app.Runtime) (service.Service, error) {
	return service.New("idle", func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		return nil
	}), nil
}

func TestExitCodes(t *testing.T) {
	broken := errors.New("broken")
	fails := func(*app.Runtime) (service.Service, error) {
		return service.New("f", func(context.Context, func()) error { return broken }), nil
	}
	tests := []struct {
		name  string
		build func(*app.Runtime) (service.Service, error)
		args  []string
		want  int
	}{
		{"stopped", idle, nil, app.ExitOK},
		{"help", idle, []string{"--help"}, app.ExitOK},
		{"version", idle, []string{"--version"}, app.ExitOK},
		{"unknown flag", idle, []string{"--bogus"}, app.ExitConfig},
		{"argument", idle, []string{"bogus"}, app.ExitConfig},
		{"bad value", idle, []string{"--count", "99"}, app.ExitConfig},
		{"bad level", idle, []string{"--log-level", "loud"}, app.ExitConfig},
		{"build refuses", func(*app.Runtime) (service.Service, error) { return nil, app.ConfigError(broken) }, nil, app.ExitConfig},
		{"start fails", fails, nil, app.ExitFailed},
		{"port taken", idle, []string{"--metrics", "256.0.0.1:1"}, app.ExitFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			var out, errs bytes.Buffer
			require.Equal(t, tt.want, application(defaults(), tt.build).Run(ctx, tt.args, &out, &errs), errs.String())
			if tt.want != app.ExitOK {
				require.Contains(t, errs.String(), "error:")
			}
		})
	}
}

func TestReadyTellsTheTruth(t *testing.T) {
	api := app.NewAPI()
	l, err := app.Listen("127.0.0.1:0", "", "")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- app.Serve(ctx, l, api) }()
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + l.Addr().String() + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	var state error
	api.Ready("kafka", func() error { return state })
	code, _ := get("/ready")
	require.Equal(t, http.StatusOK, code)
	state = errors.New("no broker answers")
	code, body := get("/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	var status struct{ Failing map[string]string }
	require.NoError(t, json.Unmarshal([]byte(body), &status))
	require.Equal(t, map[string]string{"kafka": "no broker answers"}, status.Failing)
	code, _ = get("/health")
	require.Equal(t, http.StatusOK, code)
	cancel()
	require.NoError(t, <-served)
}

func TestConnectionsAreBounded(t *testing.T) {
	l, err := app.Listen("127.0.0.1:0", "", "")
	require.NoError(t, err)
	accepted := make(chan net.Conn)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		return c
	}
	var open []net.Conn
	for range app.MaxConnections {
		open = append(open, dial())
		open = append(open, <-accepted)
	}
	open = append(open, dial()) // in the kernel's queue
	select {
	case <-accepted:
		t.Fatal("one connection too many was accepted")
	case <-time.After(20 * time.Millisecond):
	}
	require.NoError(t, open[1].Close())
	open = append(open, <-accepted)
	require.NoError(t, l.Close())
	<-ended
	for _, c := range open {
		_ = c.Close()
	}
}

func TestTokens(t *testing.T) {
	tokens, err := app.ReadTokens(file(t, "# ours\n\nsecret-1\n secret-2 \n"))
	require.NoError(t, err)
	require.True(t, tokens.Allow("secret-1"))
	require.True(t, tokens.Allow("secret-2"))
	require.False(t, tokens.Allow("secret"))
	require.False(t, tokens.Allow(""))
	require.False(t, app.Tokens(nil).Allow(""))
}
