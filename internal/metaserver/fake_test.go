package metaserver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// fake is MetaServer as EdgeCore v1.23 serves it: a list asks the cloud first
// and takes its time; a watch begins with what there is, ignores resourceVersion,
// loses what changes while it begins, and may end anywhere. It is an http.RoundTripper, so that
// it works in a synctest bubble, and an http.Handler.
type fake struct {
	mu       sync.Mutex
	rng      *rand.Rand
	revision int
	objects  map[string]map[string]string // by resource, by namespace/name
	watches  map[*stream]bool
	lists    map[string]int
	down     bool
	delay    time.Duration // of each answer
	lose     float64       // share of events that no watch sees
	wg       sync.WaitGroup
}

type stream struct {
	resource string
	events   chan string
	cut      chan struct{}
	once     sync.Once
}

func newFake(seed uint64) *fake {
	return &fake{
		rng:     rand.New(rand.NewPCG(seed, 3)),
		objects: map[string]map[string]string{"devices": {}, "devicemodels": {}}, watches: map[*stream]bool{}, lists: map[string]int{},
	}
}

func (f *fake) set(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) listed(resource string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists[resource]
}

// put adds or changes an object: body is its JSON with one %d for the resourceVersion.
func (f *fake) put(resource, id, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	typ := "ADDED"
	if _, ok := f.objects[resource][id]; ok {
		typ = "MODIFIED"
	}
	f.revision++
	f.objects[resource][id] = fmt.Sprintf(body, f.revision)
	f.tell(resource, typ, f.objects[resource][id])
}

func (f *fake) remove(resource, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if body, ok := f.objects[resource][id]; ok {
		delete(f.objects[resource], id)
		f.tell(resource, "DELETED", body)
	}
}

func (f *fake) tell(resource, typ, body string) {
	if f.rng.Float64() < f.lose {
		return
	}
	for w := range f.watches {
		if w.resource == resource {
			select {
			case w.events <- fmt.Sprintf(`{"type":%q,"object":%s}`+"\n", typ, body):
			default: // too slow: lost
			}
		}
	}
}

// cut ends all watches, in the middle of an object.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watches {
		w.once.Do(func() { close(w.cut) })
	}
}

// say writes text to all watches of a resource.
func (f *fake) say(resource, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watches {
		if w.resource == resource {
			w.events <- text
		}
	}
}

func (f *fake) list(resource string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	items := make([]json.RawMessage, 0)
	for _, id := range slices.Sorted(maps.Keys(f.objects[resource])) {
		items = append(items, json.RawMessage(f.objects[resource][id]))
	}
	b, err := json.Marshal(map[string]any{
		"kind": "List", "apiVersion": "devices.kubeedge.io/v1beta1",
		"metadata": map[string]string{"resourceVersion": fmt.Sprint(f.revision), "selfLink": "/x"}, "items": items,
	})
	if err != nil {
		panic(err)
	}
	return b
}

// open returns the body of an answer.
func (f *fake) open(req *http.Request) (io.ReadCloser, error) {
	resource := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
	if req.URL.Path != "/apis/devices.kubeedge.io/v1beta1/"+resource {
		return nil, fmt.Errorf("path %s", req.URL.Path)
	}
	f.mu.Lock()
	down, before, after := f.down, time.Duration(0), time.Duration(0)
	if f.delay > 0 {
		before = time.Duration(f.rng.Int64N(int64(f.delay)))
		after = time.Duration(f.rng.Int64N(int64(f.delay)))
	}
	watch := req.URL.Query().Get("watch") == "true"
	if !watch {
		f.lists[resource]++
	}
	f.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-req.Context().Done():
			return req.Context().Err()
		}
	}
	if err := wait(before); err != nil {
		return nil, err
	}
	body := f.list(resource)
	if err := wait(after); err != nil {
		return nil, err
	}
	if !watch {
		return io.NopCloser(bytes.NewReader(body)), nil
	}
	return f.stream(req, resource, body), nil
}

func (f *fake) stream(req *http.Request, resource string, body []byte) io.ReadCloser {
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(body, &list); err != nil {
		panic(err)
	}
	w := &stream{resource: resource, events: make(chan string, 100), cut: make(chan struct{})}
	f.set(func() { f.watches[w] = true })
	r, pipe := io.Pipe()
	f.wg.Go(func() {
		defer f.set(func() { delete(f.watches, w) })
		for _, item := range list.Items {
			if _, err := fmt.Fprintf(pipe, `{"type":"ADDED","object":%s}`+"\n", item); err != nil {
				return
			}
		}
		for {
			select {
			case line := <-w.events:
				if _, err := io.WriteString(pipe, line); err != nil {
					return
				}
			case <-w.cut:
				_, _ = io.WriteString(pipe, `{"type":"MODIFIED","object":{"metadata":{"name":"ha`)
				_ = pipe.Close()
				return
			case <-req.Context().Done():
				_ = pipe.CloseWithError(req.Context().Err())
				return
			}
		}
	})
	return r
}

// RoundTrip implements http.RoundTripper.
func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := f.open(req)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Body: body, Header: http.Header{}, Request: req}, nil
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := f.open(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer body.Close()
	w.WriteHeader(http.StatusOK)
	buffer := make([]byte, 512)
	for {
		_ = http.NewResponseController(w).Flush()
		n, err := body.Read(buffer)
		if _, werr := w.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}
