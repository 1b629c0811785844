package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopWithin is how long a part may take to end after SIGTERM.
const stopWithin = 10 * time.Second

// process is a part that runs on the host, as a cloud part or a simulator does.
// Its output goes to one file over all its runs.
type process struct {
	name string
	argv []string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the run has ended
	err  error         // of the run that has ended
}

// launch starts a part and kills it at the end of the test, if it still runs.
func launch(t *testing.T, dir, name string, argv ...string) *process {
	t.Helper()
	p := &process{name: name, argv: argv, log: filepath.Join(dir, name+".log")}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.kill9() })
	return p
}

// start runs the part, for the first time or again.
func (p *process) start() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", p.name, err)
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(p.argv[0], p.argv[1:]...) //nolint:gosec // the suite's own parts
	cmd.Stdout, cmd.Stderr = out, out
	// A test that is killed takes its parts along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func() { // ends with the process; kill9 and terminate wait for it
		p.err = cmd.Wait()
		close(p.done)
	}()
	return nil
}

// ended returns the reason when the part does not run.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %w", p.name, errors.Join(p.err, errors.New("see its log")))
	default:
		return nil
	}
}

// kill9 kills the part with SIGKILL and waits for its end.
func (p *process) kill9() error {
	if p.ended() != nil {
		return nil
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// terminate asks the part to end. It must do so with exit code 0 within stopWithin.
func (p *process) terminate() error {
	if err := p.ended(); err != nil {
		return err
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("terminate %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s after SIGTERM: %w, want exit code 0", p.name, p.err)
		}
		return nil
	case <-time.After(stopWithin):
		return errors.Join(fmt.Errorf("%s still runs %s after SIGTERM", p.name, stopWithin), p.kill9())
	}
}

// ready waits until the part's /ready answers 200.
func (p *process) ready(t *testing.T, address string) {
	t.Helper()
	eventually(t, 60*time.Second, p.name+" is ready", func() error {
		if err := p.ended(); err != nil {
			return stop{err}
		}
		_, err := call(t.Context(), http.MethodGet, "http://"+address+"/ready", "", "")
		return err
	})
}

// stop is an error that waiting does not cure.
type stop struct{ error }

// text returns all that the part has written.
func (p *process) text() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// tail returns the last lines of a log.
func tail(log string, lines int) string {
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// statusError is an HTTP answer that is not of the 200s.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

// call sends a request and returns the body of its answer; the error of an
// answer that is not of the 200s is a *statusError.
func call(ctx context.Context, method, url, token, body string) (string, error) {
	return callWith(ctx, http.DefaultClient, method, url, token, body)
}

func callWith(ctx context.Context, client *http.Client, method, url, token, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = &statusError{resp.StatusCode, fmt.Sprintf("%s %s: %s: %.500s", method, url, resp.Status, data)}
	}
	return string(data), err
}
