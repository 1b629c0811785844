package link

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Endpoint is how a line is reached. Equal endpoints are one line with the same settings.
type Endpoint interface {
	comparable
	Line() string   // names the physical line, whatever the settings
	String() string // the whole, for people
}

// ErrClash is in Use's error while other devices use the line with other settings.
var ErrClash = errors.New("the line is used with other settings")

// Pool has the lines of one driver, each with one transport, T, which speaks on it.
// It is safe for concurrent use.
type Pool[E Endpoint, T io.Closer] struct {
	open func(E) T

	mu    sync.Mutex
	lines map[string]*Shared[E, T]
}

// NewPool returns a pool without lines. open makes the transport of an endpoint and does no I/O.
func NewPool[E Endpoint, T io.Closer](open func(E) T) *Pool[E, T] {
	return &Pool[E, T]{open: open, lines: map[string]*Shared[E, T]{}}
}

// Shared is one line of a Pool.
type Shared[E Endpoint, T io.Closer] struct {
	*Line
	open func(E) T

	mu   sync.Mutex
	uses []use[E] // the first one's endpoint holds
	made bool     // transport is there
	// endpoint and transport belong to whoever has the Line; changed with mu held.
	endpoint  E
	transport T
}

// use is how many devices use a line by one endpoint.
type use[E Endpoint] struct {
	endpoint E
	devices  int
}

// Join finds or makes the line of an endpoint for one more device, the station. clash
// is the endpoint by which other devices already use it, nil if it is the same: until
// those are gone, Use fails for the new one.
func (p *Pool[E, T]) Join(e E, station uint32) (l *Shared[E, T], clash *E) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l = p.lines[e.Line()]
	if l == nil {
		l = &Shared[E, T]{Line: Open(), open: p.open}
		p.lines[e.Line()] = l
	}
	l.Join(station)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.uses {
		if l.uses[i].endpoint == e {
			l.uses[i].devices++
			return l, l.clash(e)
		}
	}
	l.uses = append(l.uses, use[E]{e, 1})
	return l, l.clash(e)
}

// clash returns the endpoint that holds if it is not e.
func (l *Shared[E, T]) clash(e E) *E {
	if first := l.uses[0].endpoint; first != e {
		return &first
	}
	return nil
}

// Leave undoes one Join. With its last device the line ends and its transport is closed.
func (p *Pool[E, T]) Leave(l *Shared[E, T], e E, station uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.Leave(station)
	l.mu.Lock()
	for i := range l.uses {
		if l.uses[i].endpoint != e {
			continue
		}
		if l.uses[i].devices--; l.uses[i].devices == 0 {
			l.uses = append(l.uses[:i], l.uses[i+1:]...)
		}
		break
	}
	unused := len(l.uses) == 0
	l.mu.Unlock()
	if !unused {
		return nil
	}
	delete(p.lines, e.Line())
	l.Close()
	if !l.made {
		return nil
	}
	return l.transport.Close()
}

// Use returns the line's transport for a device with the endpoint e. The caller has the Line.
func (l *Shared[E, T]) Use(e E) (transport T, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if clash := l.clash(e); clash != nil {
		return transport, fmt.Errorf("%w: as %s", ErrClash, (*clash).String())
	}
	if l.made && l.endpoint == e {
		return l.transport, nil
	}
	if l.made {
		if err := l.transport.Close(); err != nil {
			return transport, err
		}
	}
	l.endpoint, l.transport, l.made = e, l.open(e), true
	return l.transport, nil
}

// Len returns how many lines are in use.
func (p *Pool[E, T]) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// Each calls see for every line; made is false where the line was not used yet and has no transport.
func (p *Pool[E, T]) Each(see func(name string, stats Stats, transport T, made bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, l := range p.lines {
		l.mu.Lock()
		transport, made := l.transport, l.made
		l.mu.Unlock()
		see(name, l.Stats(), transport, made)
	}
}
