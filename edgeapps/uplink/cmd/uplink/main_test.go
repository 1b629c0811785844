package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/service"
)

func TestConfigIsChecked(t *testing.T) {
	tests := map[string]struct {
		change func(*config)
		want   string // "": it is right
	}{
		"right":               {func(*config) {}, ""},
		"https":               {func(c *config) { c.To = "https://telemetry.example.com" }, ""},
		"http on loopback":    {func(c *config) { c.To = "http://localhost:8080" }, ""},
		"http beyond":         {func(c *config) { c.To = "http://telemetry.example.com" }, "without TLS"},
		"http insecure":       {func(c *config) { c.To, c.Insecure = "http://telemetry.example.com", true }, ""},
		"servicebus beyond":   {func(c *config) { c.To = "servicebus://10.0.0.1:9060" }, "without TLS"},
		"servicebus on ::1":   {func(c *config) { c.To = "servicebus://[::1]:9060/x" }, ""},
		"another scheme":      {func(c *config) { c.To = "kafka://host" }, "want servicebus"},
		"no host":             {func(c *config) { c.To = "https:/x" }, "want servicebus"},
		"password in the URL": {func(c *config) { c.To = "https://u:p@host" }, "want servicebus"},
		"no node":             {func(c *config) { c.Node = "" }, "--node is missing"},
		"no spool":            {func(c *config) { c.Spool = "" }, "--spool is missing"},
		"tiny spool":          {func(c *config) { c.SpoolMaxBytes = 1000 }, "--spool-max-bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := defaultConfig()
			c.Node, c.Spool = "edge-1", t.TempDir()
			tt.change(&c)
			err := c.Validate()
			if tt.want == "" {
				require.NoError(t, err)
				_, err = newSender(c)
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "u:p@", "no password in a message")
		})
	}
}

func TestSenders(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	for to, want := range map[string]string{
		"servicebus://127.0.0.1:9060":      "http://127.0.0.1:9060 /twinline/telemetry",
		"servicebus://127.0.0.1:9060/":     "http://127.0.0.1:9060 /twinline/telemetry",
		"servicebus://127.0.0.1:9060/mine": "http://127.0.0.1:9060 /mine",
		"https://host":                     "https://host/api/v1/batches",
		"https://host/":                    "https://host/api/v1/batches",
		"https://host/path":                "https://host/path",
	} {
		s, err := newSender(config{To: to, TokenFile: token})
		require.NoError(t, err)
		switch s := s.(type) {
		case *forward.ServiceBus:
			require.Equal(t, want, s.URL+" "+s.TargetURL)
			require.Equal(t, "secret", s.Token)
		case *forward.HTTPS:
			require.Equal(t, want, s.URL)
			require.Equal(t, "secret", s.Token)
		}
	}
}

func TestTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for _, content := range []string{"", "\n", "one\ntwo", strings.Repeat("x", maxTokenFile+1)} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := readToken(file)
		require.Error(t, err)
	}
	_, err := readToken(file + ".gone")
	require.Error(t, err)
}

func TestClientIDFitsTheBus(t *testing.T) {
	require.Equal(t, "twinline-uplink-edge-1", clientID("edge-1"))
	long := clientID(strings.Repeat("n", 253))
	require.LessOrEqual(t, len(long), bus.MaxClientIDLength)
	require.NotEqual(t, long, clientID(strings.Repeat("n", 252)))
}

// TestTheBinaryStartsAndStops runs it as main does, with no broker and no cloud.
func TestTheBinaryStartsAndStops(t *testing.T) {
	cfg := defaultConfig()
	started := make(chan struct{})
	a := app.App{Name: "uplink", Config: &cfg, Build: func(rt *app.Runtime) (service.Service, error) {
		svc, err := build(rt, cfg)
		return tellStarted{svc, started}, err
	}}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	var out bytes.Buffer
	args := []string{"--node", "edge-1", "--spool", t.TempDir(), "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--bus", "tcp://127.0.0.1:1", "--to", "servicebus://127.0.0.1:1"}
	require.Equal(t, app.ExitOK, a.Run(ctx, args, &out, &out), out.String())
	require.Equal(t, app.ExitConfig, a.Run(t.Context(), []string{"--node", "edge-1", "--to", "nonsense"}, &out, &out))
}

// tellStarted tells when the service has started.
type tellStarted struct {
	service.Service
	started chan struct{}
}

func (s tellStarted) Start(ctx context.Context) error {
	err := s.Service.Start(ctx)
	close(s.started)
	return err
}
