package stack

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// probeEvery is the pause between two attempts of any wait.
const probeEvery = 200 * time.Millisecond

// waitReady waits until the component serves. When it dies or takes too long,
// the error carries the tail of its log.
func (s *Stack) waitReady(ctx context.Context, c Component, p process, l launch) error {
	err := wait(ctx, l.startWithin, func(ctx context.Context) error {
		if !p.alive() {
			return permanent{errors.New("process ended")}
		}
		return l.ready(ctx)
	})
	if err != nil {
		return fmt.Errorf("start %s: %w\n%s", c, err, s.tail(c))
	}
	return nil
}

// permanent marks an error that waiting does not cure.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// wait calls f until it returns nil, a permanent error, or the time is over. It
// then returns the last error of f. Each call of f is bounded by 15 s.
func wait(ctx context.Context, within time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(ctx, 15*time.Second)
		err := f(attempt)
		done()
		var p permanent
		switch {
		case err == nil:
			return nil
		case errors.As(err, &p):
			return p.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not after %s: %w", within, err)
		case <-time.After(probeEvery):
		}
	}
}

// tail returns the last lines of a component's log, marked as such.
func (s *Stack) tail(c Component) string {
	const size = 4096
	f, err := os.Open(s.Log(c))
	if err != nil {
		return fmt.Sprintf("(no log of %s: %v)", c, err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > size {
		_, _ = f.Seek(-size, io.SeekEnd)
	}
	data, _ := io.ReadAll(io.LimitReader(f, size))
	return fmt.Sprintf("--- last lines of %s\n%s\n---", s.Log(c), bytes.TrimSpace(data))
}

// dialReady is ready once the loopback port accepts a connection.
func dialReady(port int) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// httpReady is ready once url answers 200. It does not verify certificates: it
// asks loopback addresses of this stack only.
func httpReady(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // own loopback port
			DisableKeepAlives: true,
		}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return nil
	}
}

// command is one run of a program that ends by itself.
type command struct {
	argv  []string
	env   []string
	dir   string
	stdin []byte
}

// run runs the command and returns its standard output. A failure carries the
// end of its standard error.
func (c command) run(ctx context.Context) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	cmd.Stdin = bytes.NewReader(c.stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A child that keeps the pipes open must not hold this call for ever.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("run %s: %w\n%s", strings.Join(c.argv, " "), err, lastLines(stderr.String()+stdout.String(), 20))
	}
	return stdout.Bytes(), nil
}

// run is command.run for a plain argument list.
func run(ctx context.Context, argv ...string) ([]byte, error) {
	return command{argv: argv}.run(ctx)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
