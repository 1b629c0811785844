package devicemgmt

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of the streams of events.
const (
	maxStreams    = 256                    // half of what the HTTP server holds
	streamBatch   = 64                     // changes written before a flush
	streamPause   = 100 * time.Millisecond // between flushes: ten frames a second is enough for people
	streamPatient = 10 * time.Second       // for a client to take a flush; then it is dropped
	heartbeat     = 15 * time.Second       // so that proxies and clients see that the stream lives
	retryHint     = 2000                   // ms a client waits before it connects again
)

func newEpoch() string { return rand.Text()[:8] }

// streamEvents sends the whole set and then every change, as server-sent events:
//
//	event: reset    what the client holds is void; the whole set follows
//	event: device   data is the view of a device
//	event: gone     data is {"id":"namespace/name"}
//	event: synced   all that there was is sent; what follows is news
//
// A client that gives the Last-Event-ID of this process gets only what it
// missed. A slow client gets the newest state of each device, not every step; one
// that takes nothing for streamPatient is dropped.
func (m *DeviceMgmt) streamEvents(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "namespace")
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	cur, ok := m.enter(w, r, Watch, q.Get("namespace"))
	if !ok {
		return
	}
	select {
	case m.streams <- struct{}{}:
		defer func() { <-m.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "%d streams of events are open already", maxStreams)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(cur.ctx, cancel)()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx ingress: do not hold events back
	s := &stream{w: w, control: http.NewResponseController(w), run: cur, namespace: q.Get("namespace")}
	if s.serve(ctx, r.Header.Get("Last-Event-ID")) != nil && ctx.Err() == nil {
		m.metrics.slowStreams.Inc()
	}
}

// stream is one client. It keeps nothing but its place in the feed.
type stream struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	run       *run
	namespace string
	cursor    uint64
	fresh     bool // the client holds nothing yet, so it need not hear of what is gone
	buf       strings.Builder
}

// serve returns nil when ctx ends, or the error of a write.
func (s *stream) serve(ctx context.Context, lastID string) error {
	s.buf.WriteString("retry: " + strconv.Itoa(retryHint) + "\n\n")
	if s.resume(lastID); s.cursor == 0 {
		s.buf.WriteString("event: reset\ndata: {}\n\n")
		s.fresh = true
	}
	caughtUp := s.run.feed.last()
	synced := false
	for {
		changes := s.run.feed.after(s.cursor, streamBatch)
		for i := range changes {
			s.write(&changes[i])
		}
		if !synced && s.cursor >= caughtUp {
			synced, s.fresh = true, false
			fmt.Fprintf(&s.buf, "event: synced\nid: %s-%d\ndata: {}\n\n", s.run.epoch, s.cursor)
		}
		if err := s.flush(); err != nil {
			return err
		}
		if len(changes) == streamBatch && !synced {
			continue // the first picture goes out as fast as the client takes it
		}
		if !sleep(ctx, streamPause) {
			return nil
		}
		wait, cancel := context.WithTimeout(ctx, heartbeat)
		err := s.run.feed.wait(wait, s.cursor)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.buf.WriteString(": still here\n\n")
		}
	}
}

// resume takes up where the client was, if it was with this feed and nothing
// that it would have to forget is lost.
func (s *stream) resume(lastID string) {
	epoch, seq, ok := strings.Cut(lastID, "-")
	if !ok || epoch != s.run.epoch {
		return
	}
	if n, err := strconv.ParseUint(seq, 10, 64); err == nil && s.run.feed.complete(n) {
		s.cursor = n
	}
}

func (s *stream) write(c *change) {
	s.cursor = c.Seq
	if (s.namespace != "" && c.ID.Namespace != s.namespace) || (s.fresh && c.JSON == nil) {
		return
	}
	event, data := "device", string(c.JSON)
	if c.JSON == nil {
		event, data = "gone", `{"id":"`+goneID(c.ID)+`"}`
	}
	fmt.Fprintf(&s.buf, "event: %s\nid: %s-%d\ndata: %s\n\n", event, s.run.epoch, c.Seq, data)
}

// goneID is safe in JSON: a Kubernetes name has no character to escape.
func goneID(id twin.DeviceID) string { return id.String() }

func (s *stream) flush() error {
	defer s.buf.Reset()
	if s.buf.Len() == 0 {
		return nil
	}
	// Not every ResponseWriter has deadlines (a test's recorder has none).
	_ = s.control.SetWriteDeadline(time.Now().Add(streamPatient))
	if _, err := s.w.Write([]byte(s.buf.String())); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("flush events: %w", err)
	}
	return nil
}
