// Package metaserver reads the node's Devices and DeviceModels from EdgeCore's
// MetaServer: the only way by which both reach a mapper also when they were
// changed while the node was offline. See DESIGN.md.
package metaserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/internal/inventory"
	"github.com/twinline/twinline/pkg/twin"
)

// DefaultURL is where EdgeCore serves MetaServer.
const DefaultURL = "http://127.0.0.1:10550"

// Intervals and bounds of asking.
const (
	listEvery    = 30 * time.Second // a change that a watch has lost is seen after it, give or take a quarter
	listTimeout  = time.Minute      // online MetaServer asks the cloud first and gives up after 10 s
	headTimeout  = 30 * time.Second // of a watch: the same 10 s
	minRetry     = time.Second
	maxRetry     = 30 * time.Second
	steady       = 10 * time.Second       // a watch that held so long starts the backoff anew
	watchFor     = 20 * time.Minute       // MetaServer ends watches after 30 to 60 minutes; we do before
	settle       = 100 * time.Millisecond // quiet after a change before it is passed on
	settleAtMost = time.Second            // however little quiet there is
	doubtAfter   = 2 * time.Second        // until an answer that is in doubt is asked for again
	maxPending   = 64                     // updates between the readers and their owner
)

// Config says where MetaServer is and whose devices are wanted.
type Config struct {
	URL      string       // empty: DefaultURL
	Node     string       // Device.spec.nodeName; "" is every node that MetaServer knows
	Protocol string       // Device.spec.protocol.protocolName, without regard to case
	Client   *http.Client // nil: one of its own; must have no timeout, for watches last
	Log      *slog.Logger // nil: none
}

// Source implements mapper.Source.
type Source struct {
	cfg    Config
	log    *slog.Logger
	client *http.Client
	synced atomic.Bool
}

// Validate reports what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	u, err := url.Parse(c.base())
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("metaserver: url %.80q: want http://host:port", c.URL)
	}
	return nil
}

// base is the URL without a slash at its end.
func (c Config) base() string {
	if c.URL == "" {
		return DefaultURL
	}
	return strings.TrimSuffix(c.URL, "/")
}

// New returns a Source.
func New(cfg Config) *Source {
	s := &Source{cfg: cfg, log: cfg.Log, client: cfg.Client}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.Proxy = nil // it is on this machine
		transport.ResponseHeaderTimeout = listTimeout
		s.client = &http.Client{Transport: transport}
	}
	return s
}

// Synced reports why the devices are not known yet, or nil; for a readiness check.
func (s *Source) Synced() error {
	if s.synced.Load() {
		return nil
	}
	return errors.New("MetaServer has not given the devices yet; is EdgeCore running with metaServer.enable: true?")
}

// update is what a reader tells the owner of the stores.
type update struct {
	store *store
	begin bool
	items []json.RawMessage // of a list, if neither begin nor event
	err   error             // of a list
	event *event
}

// Run implements mapper.Source. An outage of MetaServer keeps the last set. It
// waits for everything it started. A wrong configuration is its only error.
func (s *Source) Run(ctx context.Context, set func(devices []twin.Device, problems []twin.Problem)) error {
	if err := s.cfg.Validate(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	defer s.client.CloseIdleConnections()
	updates := make(chan update, maxPending)
	tell := func(u update) {
		select {
		case updates <- u:
		case <-ctx.Done():
		}
	}
	stores := []*store{newStore("Device"), newStore("DeviceModel")}
	again := map[*store]chan time.Duration{}
	for i, resource := range []string{"devices", "devicemodels"} {
		st, soon := stores[i], make(chan time.Duration, 1)
		again[st] = soon
		group.Go(func() error { s.listForever(ctx, resource, soon, st, tell); return nil })
		group.Go(func() error { s.watchForever(ctx, resource, soon, st, tell); return nil })
	}
	group.Go(func() error {
		s.own(ctx, stores, updates, func(st *store) { request(again[st], doubtAfter) }, set)
		return nil
	})
	return group.Wait()
}

// request asks for a list after a while, unless one is asked for already.
func request(soon chan<- time.Duration, after time.Duration) {
	select {
	case soon <- after:
	default:
	}
}

// own applies updates to the stores and passes on what they hold.
func (s *Source) own(ctx context.Context, stores []*store, updates <-chan update, doubt func(*store), set func([]twin.Device, []twin.Problem)) {
	var due <-chan time.Time
	var first time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-updates:
			changed := false
			switch {
			case u.begin:
				u.store.begin()
			case u.event != nil:
				changed = u.store.event(*u.event)
			case u.err != nil:
				u.store.abandon()
			default:
				var again bool
				if changed, again = u.store.listed(u.items); again {
					s.log.Warn("MetaServer has no objects any more; asking again before that is believed", "kind", u.store.kind)
					doubt(u.store)
				}
			}
			if !changed || !stores[0].known || !stores[1].known {
				continue
			}
			if due == nil {
				first = time.Now()
			}
			due = time.After(min(settle, max(0, settleAtMost-time.Since(first))))
		case <-due:
			due = nil
			s.pass(stores, set)
		}
	}
}

func (s *Source) pass(stores []*store, set func([]twin.Device, []twin.Problem)) {
	of := inventory.Of{Node: s.cfg.Node, Protocol: s.cfg.Protocol}
	devices, problems := of.Devices(append(stores[0].parts(), stores[1].parts()...))
	if !s.synced.Swap(true) {
		s.log.Info("devices known", "count", len(devices), "problems", len(problems), "source", s.cfg.base())
	}
	set(devices, problems)
}

// listForever lists at once, then every listEvery, and when soon says so.
func (s *Source) listForever(ctx context.Context, resource string, soon <-chan time.Duration, st *store, tell func(update)) {
	said, retry := "", minRetry
	for ctx.Err() == nil {
		tell(update{store: st, begin: true})
		items, err := s.list(ctx, resource)
		if ctx.Err() != nil {
			return
		}
		tell(update{store: st, items: items, err: err})
		wait := listEvery*3/4 + rand.N(listEvery/2)
		if err == nil {
			if said != "" {
				s.log.Info("MetaServer answers again", "resource", resource)
			}
			said, retry = "", minRetry
		} else {
			if said != err.Error() {
				said = err.Error()
				s.log.Warn("MetaServer cannot be asked; the last devices stay", "resource", resource, "cause", err)
			}
			wait = retry/2 + rand.N(retry/2)
			retry = min(2*retry, maxRetry)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case after := <-soon:
			if err == nil { // else the backoff holds
				timer.Reset(after)
			}
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
		timer.Stop()
	}
}

// list asks once.
func (s *Source) list(ctx context.Context, resource string) ([]json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	body, err := s.get(ctx, resource, "")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	items, err := readList(body)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", resource, err)
	}
	return items, nil
}

// watchForever keeps a watch, and has the resource listed after each one is made:
// a watch does not tell what was deleted before.
func (s *Source) watchForever(ctx context.Context, resource string, soon chan<- time.Duration, st *store, tell func(update)) {
	retry := minRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := s.watch(ctx, resource, func() { request(soon, 0) }, func(e event) error {
			tell(update{store: st, event: &e})
			return ctx.Err()
		})
		if time.Since(began) > steady {
			retry = minRetry
		}
		if ctx.Err() == nil {
			s.log.Debug("watch ended; making another", "resource", resource, "cause", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry/2 + rand.N(retry/2)):
		}
		retry = min(2*retry, maxRetry)
	}
}

// watch keeps one watch until it ends.
func (s *Source) watch(ctx context.Context, resource string, made func(), f func(event) error) error {
	ctx, cancel := context.WithTimeout(ctx, watchFor)
	defer cancel()
	head := time.AfterFunc(headTimeout, cancel)
	body, err := s.get(ctx, resource, "?watch=true")
	if !head.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		if body != nil {
			_ = body.Close()
		}
		return err
	}
	defer body.Close()
	made()
	return readEvents(body, f)
}

// get asks for a resource of all namespaces.
func (s *Source) get(ctx context.Context, resource, query string) (io.ReadCloser, error) {
	target := s.cfg.base() + "/apis/" + declare.APIVersion + "/" + resource + query
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", resource, err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err // says method and URL
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // for people
		_ = resp.Body.Close()
		return nil, fmt.Errorf("get %s: %s: %s", resource, resp.Status, strings.TrimSpace(string(text)))
	}
	return resp.Body, nil
}
