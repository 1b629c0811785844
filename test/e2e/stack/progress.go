package stack

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress prints one line per step with the time it took. It is safe for
// concurrent use.
type progress struct {
	mu  sync.Mutex
	out io.Writer
}

func newProgress(out io.Writer) *progress { return &progress{out: out} }

// say prints one line.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// step runs f and prints what was done and how long it took. A failure is
// printed as such; the error is returned unchanged.
func (p *progress) step(what string, f func() error) error {
	start := time.Now()
	err := f()
	if err != nil {
		p.say("%s … failed after %s", what, seconds(time.Since(start)))
		return err
	}
	p.say("%s … %s", what, seconds(time.Since(start)))
	return nil
}

// long is step for work of minutes: it also prints a line at the start.
func (p *progress) long(what string, f func() error) error {
	p.say("%s …", what)
	return p.step(what, f)
}

// seconds prints whole seconds from ten on, and tenths below.
func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
