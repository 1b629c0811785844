package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/twinline/twinline/edgeapps/uplink"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/spool"
)

// defaultTarget is the target_url of the Rules that devicemgmt makes for the nodes.
const defaultTarget = "/twinline/telemetry"

// defaultPath is where the telemetry service takes batches.
const defaultPath = "/api/v1/batches"

// maxTokenFile bounds the token file, in bytes.
const maxTokenFile = 64 << 10

// config is what the binary is told.
type config struct {
	app.Common
	Bus           string        `key:"bus" help:"the node's MQTT broker: tcp://, tls:// or unix://"`
	Node          string        `key:"node" help:"name of the node"`
	Spool         string        `key:"spool" help:"directory of the spool"`
	SpoolMaxBytes int64         `key:"spool-max-bytes" help:"bound of the spool; beyond it the oldest samples are lost, and counted"`
	To            string        `key:"to" help:"where batches go: servicebus://127.0.0.1:9060[/path], the path being the target_url of the Rule, or https://host[/path] of the telemetry service"`
	TokenFile     string        `key:"token-file" help:"file with the token for the telemetry service"`
	CAFile        string        `key:"ca-file" help:"PEM file with the certificates to trust, instead of the system's"`
	Insecure      bool          `key:"insecure" help:"allow http:// beyond this machine: anyone on the way reads the token and the samples"`
	Rate          float64       `key:"rate" help:"batches a second, at most; EdgeHub takes 30 messages a second for everything, twins included"`
	BatchRecords  int           `key:"batch-records" help:"samples in a batch, at most"`
	BatchBytes    int           `key:"batch-bytes" help:"JSON bytes of the samples in a batch, at most"`
	Linger        time.Duration `key:"linger" help:"how long a batch waits for more samples"`
	CommitWindow  time.Duration `key:"commit-window" help:"how long samples wait for others to share a sync of the disk; longer spares flash"`
	Heartbeat     time.Duration `key:"heartbeat" help:"how often the way to the cloud is tried when there is nothing to send"`
	DownAfter     time.Duration `key:"down-after" help:"how long nothing may be acknowledged until the link counts as down"`
}

func defaultConfig() config {
	return config{
		Common:        app.DefaultCommon(),
		Bus:           bus.DefaultURL,
		SpoolMaxBytes: spool.DefaultMaxBytes,
		To:            "servicebus://127.0.0.1:9060",
		Rate:          uplink.DefaultRate,
		BatchRecords:  uplink.DefaultBatchRecords,
		BatchBytes:    uplink.DefaultBatchBytes,
		Linger:        uplink.DefaultLinger,
		CommitWindow:  spool.DefaultCommitWindow,
		Heartbeat:     uplink.DefaultHeartbeat,
		DownAfter:     uplink.DefaultDownAfter,
	}
}

// Validate reports every mistake that shows without opening anything.
func (c *config) Validate() error {
	var problems []error
	if c.Node == "" {
		problems = append(problems, errors.New("--node is missing: the name of the edge node"))
	}
	if c.Spool == "" {
		problems = append(problems, errors.New("--spool is missing: a directory that survives restarts"))
	}
	if c.SpoolMaxBytes < uplink.MinSpoolBytes {
		problems = append(problems, fmt.Errorf("--spool-max-bytes %d: at least %d are needed", c.SpoolMaxBytes, uplink.MinSpoolBytes))
	}
	if _, err := c.target(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// target parses --to.
func (c *config) target() (*url.URL, error) {
	const want = "want servicebus://127.0.0.1:9060 or https://host"
	u, err := url.Parse(c.To)
	if err != nil {
		return nil, fmt.Errorf("--to: %w; %s", err, want)
	}
	if u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("--to %q: %s", u.Redacted(), want)
	}
	switch u.Scheme {
	case "https":
	case "servicebus", "http":
		// EdgeCore's ServiceBus has no TLS, and listens on the loopback.
		if !isLoopback(u.Hostname()) && !c.Insecure {
			return nil, fmt.Errorf("--to %q: without TLS anyone on the way reads the token and the samples; use https://, or --insecure", c.To)
		}
	default:
		return nil, fmt.Errorf("--to %q: %s", c.To, want)
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func newSender(c config) (uplink.Sender, error) {
	u, err := c.target()
	if err != nil {
		return nil, err
	}
	token, err := readToken(c.TokenFile)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "servicebus" {
		target := u.Path // with its slash: KubeEdge compares every character
		if strings.Trim(target, "/") == "" {
			target = defaultTarget
		}
		return forward.NewServiceBus("http://"+u.Host, target, token), nil
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = defaultPath
	}
	return forward.NewHTTPS(u.String(), token, c.CAFile)
}

func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	if info, err := os.Stat(file); err == nil && info.Size() > maxTokenFile {
		return "", fmt.Errorf("--token-file %s: %d bytes, at most %d are allowed", file, info.Size(), maxTokenFile)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", fmt.Errorf("--token-file %s: want one token on one line", file)
	}
	return token, nil
}

// clientID is what the broker knows this node's uplink by. It is stable, so that
// the broker keeps messages over a restart, and short enough for any node name.
func clientID(node string) string {
	id := "twinline-uplink-" + node
	if len(id) <= bus.MaxClientIDLength {
		return id
	}
	sum := sha256.Sum256([]byte(node))
	return "twinline-uplink-" + hex.EncodeToString(sum[:16])
}

func (c *config) uplink(dir string) uplink.Config {
	return uplink.Config{
		Node: c.Node, Dir: dir,
		BatchRecords: c.BatchRecords, BatchBytes: c.BatchBytes, Linger: c.Linger,
		Rate: c.Rate, Heartbeat: c.Heartbeat, DownAfter: c.DownAfter,
	}
}

// segmentsPerSpool is how finely the oldest samples are dropped when the bound is hit.
const segmentsPerSpool = 8

func (c *config) spool(dir string) spool.Config {
	return spool.Config{
		Dir: dir, MaxBytes: c.SpoolMaxBytes, CommitWindow: c.CommitWindow,
		SegmentBytes: min(spool.DefaultSegmentBytes, c.SpoolMaxBytes/segmentsPerSpool),
	}
}
