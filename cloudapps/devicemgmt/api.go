package devicemgmt

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of the API.
const (
	DefaultPage  = 100
	MaxPage      = 500
	MaxPatchSize = 256 << 10 // bytes: more than all properties of a device need
	maxQuery     = 4 << 10   // bytes of a query string
)

// problem is the body of every answer that is an error.
type problem struct {
	Error    string        `json:"error"`
	Problems []ProblemView `json:"problems,omitempty"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, problem{Error: fmt.Sprintf(format, args...)})
}

func plainHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.ServeHTTP(w, r)
	})
}

// enter does what every request needs: who asks, and is there something to show.
func (m *DeviceMgmt) enter(w http.ResponseWriter, r *http.Request, verb Verb, namespace string) (*run, bool) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch err := m.deps.Auth.Allow(r.Context(), token, verb, namespace); {
	case errors.Is(err, ErrUnauthenticated):
		w.Header().Set("WWW-Authenticate", `Bearer realm="twinline"`)
		refuse(w, http.StatusUnauthorized, "%v", err)
		return nil, false
	case errors.Is(err, ErrForbidden):
		refuse(w, http.StatusForbidden, "%v", err)
		return nil, false
	case err != nil:
		refuse(w, http.StatusBadGateway, "who asks cannot be checked: %v", err)
		return nil, false
	}
	cur := m.current.Load()
	if cur == nil || !cur.isSynced() {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "the devices are still being read; try again soon")
		return nil, false
	}
	return cur, true
}

// query reads a query string and refuses parameters that are not known: a
// misspelt filter would show too much.
func query(r *http.Request, known ...string) (url.Values, error) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, fmt.Errorf("the query has more than %d bytes", maxQuery)
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("parameter %.40q is not known; known are %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("parameter %s is given twice", name)
		}
	}
	return q, nil
}

type devicePage struct {
	Items    []*View `json:"items"`
	Continue string  `json:"continue,omitempty"` // give it back to get the next page
}

func (m *DeviceMgmt) listDevices(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "namespace", "node", "state", "q", "limit", "continue")
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	cur, ok := m.enter(w, r, List, q.Get("namespace"))
	if !ok {
		return
	}
	f := filter{namespace: q.Get("namespace"), node: q.Get("node"), state: State(q.Get("state")), query: q.Get("q")}
	if states := []State{"", Online, Offline, Unhealthy, Stale, Unknown}; !slices.Contains(states, f.state) {
		refuse(w, http.StatusBadRequest, "state %.40q: want online, offline, unhealthy, stale or unknown", f.state)
		return
	}
	limit := DefaultPage
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > MaxPage {
			refuse(w, http.StatusBadRequest, "limit %.20q: want 1 to %d", s, MaxPage)
			return
		}
	}
	var after twin.DeviceID
	if s := q.Get("continue"); s != "" {
		raw, err := base64.RawURLEncoding.DecodeString(s)
		if err == nil {
			after, err = twin.ParseDeviceID(string(raw))
		}
		if err != nil {
			refuse(w, http.StatusBadRequest, "continue: give back what the page before said")
			return
		}
	}
	views, more := cur.list(f, after, limit)
	page := devicePage{Items: views}
	if more {
		page.Continue = base64.RawURLEncoding.EncodeToString([]byte(views[len(views)-1].ID.String()))
	}
	if page.Items == nil {
		page.Items = []*View{}
	}
	answer(w, http.StatusOK, page)
}

func pathID(w http.ResponseWriter, r *http.Request) (twin.DeviceID, bool) {
	id, err := twin.ParseDeviceID(r.PathValue("namespace") + "/" + r.PathValue("name"))
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return id, false
	}
	return id, true
}

func (m *DeviceMgmt) getDevice(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	cur, ok := m.enter(w, r, Get, id.Namespace)
	if !ok {
		return
	}
	v, ok := cur.view(id)
	if !ok {
		refuse(w, http.StatusNotFound, "there is no Device %s", id)
		return
	}
	answer(w, http.StatusOK, v)
}

// patchBody is the body of PATCH: what it does not name stays; null removes.
type patchBody struct {
	Desired map[string]*twin.Value `json:"desired"`
}

func readPatch(w http.ResponseWriter, r *http.Request) (patch patchBody, status int, err error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || (kind != "application/json" && kind != "application/merge-patch+json") {
		return patch, http.StatusUnsupportedMediaType, errors.New("want Content-Type application/json or application/merge-patch+json")
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxPatchSize))
	dec.DisallowUnknownFields()
	if err = dec.Decode(&patch); err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more follows after the JSON object")
		}
	}
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		return patch, http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", MaxPatchSize)
	}
	if err != nil {
		return patch, http.StatusBadRequest, fmt.Errorf(`body: %w; write {"desired":{"<property>":<value or null>}}`, err)
	}
	if len(patch.Desired) == 0 {
		return patch, http.StatusUnprocessableEntity, errors.New(`the body names no property; write {"desired":{"<property>":<value or null>}}`)
	}
	return patch, 0, nil
}

func (m *DeviceMgmt) patchDevice(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	cur, ok := m.enter(w, r, Patch, id.Namespace)
	if !ok {
		return
	}
	m.metrics.writes.Inc()
	patch, status, err := readPatch(w, r)
	if err != nil {
		m.metrics.refused.Inc()
		refuse(w, status, "%v", err)
		return
	}
	device, ok := cur.declaredWith(id, patch.Desired)
	if !ok {
		m.metrics.refused.Inc()
		refuse(w, http.StatusNotFound, "there is no Device %s", id)
		return
	}
	desired, problems := checkDesired(id, device, patch.Desired, m.deps.Text)
	if len(problems) > 0 {
		m.metrics.refused.Inc()
		answer(w, http.StatusUnprocessableEntity, problem{Error: problems[0].Error(), Problems: problemViews(problems)})
		return
	}
	object, err := m.deps.Cluster.SetDesired(r.Context(), id, desired)
	if err != nil {
		m.metrics.refused.Inc()
		m.refuseWrite(w, id, err)
		return
	}
	cur.apply(object, false) // the watch brings it too, a little later
	v, ok := cur.view(id)
	if !ok {
		refuse(w, http.StatusNotFound, "Device %s was deleted at the same time", id)
		return
	}
	answer(w, http.StatusOK, v)
}

// refuseWrite turns an error of SetDesired into an answer.
func (m *DeviceMgmt) refuseWrite(w http.ResponseWriter, id twin.DeviceID, err error) {
	switch {
	case errors.Is(err, twin.ErrNoDevice):
		refuse(w, http.StatusNotFound, "there is no Device %s", id)
	case apierrors.IsConflict(err):
		refuse(w, http.StatusConflict, "Device %s: others kept changing it at the same time; try again", id)
	case apierrors.IsInvalid(err):
		refuse(w, http.StatusUnprocessableEntity, "Device %s: the cluster refuses the change: %v", id, err)
	default:
		m.deps.Log.Error("desired values cannot be set", "device", id, "error", err)
		refuse(w, http.StatusBadGateway, "Device %s: the cluster did not take the change: %v", id, err)
	}
}
