package link

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

type endpoint struct{ line, settings string }

func (e endpoint) Line() string   { return e.line }
func (e endpoint) String() string { return e.line + "?" + e.settings }

type transport struct {
	endpoint
	closed *[]string
	fails  error
}

func (t transport) Close() error {
	*t.closed = append(*t.closed, t.String())
	return t.fails
}

func newPool() (*Pool[endpoint, transport], *[]string) {
	closed := &[]string{}
	return NewPool(func(e endpoint) transport { return transport{endpoint: e, closed: closed} }), closed
}

func TestDevicesOfALineShareItsTransport(t *testing.T) {
	p, closed := newPool()
	a, b := endpoint{"tty0", "9600"}, endpoint{"tty1", "9600"}
	first, clash := p.Join(a, 1)
	require.Nil(t, clash)
	second, clash := p.Join(a, 2)
	require.Nil(t, clash)
	require.Same(t, first, second)
	other, _ := p.Join(b, 1)
	require.NotSame(t, first, other)
	require.Equal(t, 2, p.Len())
	require.Equal(t, 2, first.Stats().Stations)
	got, err := first.Use(a)
	require.NoError(t, err)
	require.Equal(t, a, got.endpoint)
	made := map[string]bool{}
	p.Each(func(name string, _ Stats, _ transport, is bool) { made[name] = is })
	require.Equal(t, map[string]bool{"tty0": true, "tty1": false}, made)
	require.NoError(t, p.Leave(first, a, 1))
	require.Empty(t, *closed)
	require.NoError(t, p.Leave(first, a, 2))
	require.Equal(t, []string{"tty0?9600"}, *closed)
	require.NoError(t, p.Leave(other, b, 1))
	require.Len(t, *closed, 1, "what was never used has nothing to close")
	require.Zero(t, p.Len())
}

func TestTheFirstSettingsHoldUntilTheirDevicesAreGone(t *testing.T) {
	p, closed := newPool()
	slow, fast := endpoint{"tty0", "300"}, endpoint{"tty0", "9600"}
	l, _ := p.Join(slow, 1)
	_, clash := p.Join(fast, 2)
	require.Equal(t, &slow, clash)
	_, err := l.Use(fast)
	require.ErrorIs(t, err, ErrClash)
	require.ErrorContains(t, err, "tty0?300")
	_, err = l.Use(slow)
	require.NoError(t, err)
	require.NoError(t, p.Leave(l, slow, 1))
	got, err := l.Use(fast)
	require.NoError(t, err)
	require.Equal(t, fast, got.endpoint)
	require.Equal(t, []string{"tty0?300"}, *closed)
	require.NoError(t, p.Leave(l, fast, 2))
}

func TestAFailedCloseIsSaid(t *testing.T) {
	broken := errors.New("stuck")
	p := NewPool(func(e endpoint) transport { return transport{e, &[]string{}, broken} })
	e := endpoint{"tty0", "9600"}
	l, _ := p.Join(e, 1)
	_, err := l.Use(e)
	require.NoError(t, err)
	require.ErrorIs(t, p.Leave(l, e, 1), broken)
}
