package devicemgmt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestDeviceMgmtKeepsTheServiceContract(t *testing.T) {
	model, devices := fixture(t)
	m := New(Config{}, Deps{
		Cluster: newFakeCluster(all(model, devices)...), Text: plainText(), Auth: Anonymous{},
		Publisher: &recorder{}, Log: discard(),
	})
	servicetest.Stress(t, m)
}

func TestNothingIsShownBeforeAllIsRead(t *testing.T) {
	model, devices := fixture(t)
	cluster := newFakeCluster(all(model, devices)...)
	cluster.gate = make(chan struct{})
	s := start(t, cluster)
	require.ErrorContains(t, s.CheckCluster(), "still being read")
	for _, path := range []string{"/api/v1/devices", "/api/v1/devices/default/boiler", "/api/v1/events"} {
		w := s.do(t, http.MethodGet, path, "")
		require.Equal(t, http.StatusServiceUnavailable, w.Code, path)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
	}
	close(cluster.gate)
	s.synced(t)
	require.Equal(t, http.StatusOK, s.do(t, http.MethodGet, "/api/v1/devices", "").Code)
}

func TestListIsPagedAndFiltered(t *testing.T) {
	var names []string
	for i := range 250 {
		names = append(names, fmt.Sprintf("pump-%03d", i))
	}
	model, devices := fixture(t, names...)
	devices[5].Spec.NodeName = "edge-b"
	objects := all(model, devices)
	objects = append(objects, status(idOf(devices[7]), "online", time.Now(), nil))
	s := start(t, newFakeCluster(objects...)).synced(t)

	var got []string
	path, pages := "/api/v1/devices", 0
	for cont := "x"; cont != ""; pages++ {
		page := decode[devicePage](t, s.do(t, http.MethodGet, path, ""))
		for _, v := range page.Items {
			got = append(got, v.Name)
		}
		cont = page.Continue
		path = "/api/v1/devices?continue=" + cont
	}
	require.Equal(t, append([]string{"boiler"}, names...), got)
	require.Equal(t, 3, pages)

	count := func(query string) int {
		return len(decode[devicePage](t, s.do(t, http.MethodGet, "/api/v1/devices?"+query, "")).Items)
	}
	require.Equal(t, 1, count("node=edge-b"))
	require.Equal(t, 1, count("state=online"))
	require.Equal(t, 0, count("namespace=other"))
	require.Equal(t, 10, count("q=pump-01"))
	require.Equal(t, 251, count(fmt.Sprintf("limit=%d", MaxPage)))
	for _, bad := range []string{"limit=0", "limit=501", "limit=x", "state=broken", "continue=%25", "continue=YQ", "nodes=edge-b", "node=a&node=b", "q=" + strings.Repeat("x", maxQuery)} {
		require.Equal(t, http.StatusBadRequest, s.do(t, http.MethodGet, "/api/v1/devices?"+bad, "").Code, bad)
	}
}

func TestPatchSetsDesiredValues(t *testing.T) {
	model, devices := fixture(t)
	s := start(t, newFakeCluster(all(model, devices)...)).synced(t)
	w := s.do(t, http.MethodPatch, "/api/v1/devices/default/boiler", `{"desired":{"setpoint":21.5,"enabled":true,"mode":"eco","level":3}}`)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	v := decode[View](t, w)
	require.Equal(t, "21.5", property(t, &v, "setpoint").Desired.Text)
	require.Equal(t, "true", property(t, &v, "enabled").Desired.Text)
	require.Equal(t, "3", property(t, &v, "level").Desired.Text, "only the model listed it before")

	w = s.do(t, http.MethodPatch, "/api/v1/devices/default/boiler", `{"desired":{"mode":null}}`, "Content-Type", "application/merge-patch+json")
	require.Equal(t, http.StatusOK, w.Code)
	v = decode[View](t, w)
	require.Nil(t, property(t, &v, "mode").Desired)
	require.Equal(t, "21.5", property(t, &v, "setpoint").Desired.Text, "what the patch does not name stays")
}

func TestPatchRefuses(t *testing.T) {
	model, devices := fixture(t, "orphan")
	devices[1].Spec.DeviceModelRef.Name = "missing"
	s := start(t, newFakeCluster(all(model, devices)...)).synced(t)
	for _, c := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"unknown device", "default/none", `{"desired":{"setpoint":1}}`, 404, "there is no Device default/none"},
		{"no name", "default/B%20ad", `{"desired":{"setpoint":1}}`, 404, "not a Kubernetes object name"},
		{"not JSON", "default/boiler", `desired: 1`, 400, "body:"},
		{"other keys", "default/boiler", `{"desired":{"setpoint":20},"spec":{}}`, 400, `unknown field`},
		{"two objects", "default/boiler", `{"desired":{"setpoint":20}} {}`, 400, "more follows"},
		{"an object as value", "default/boiler", `{"desired":{"setpoint":{"value":20}}}`, 400, "not an object"},
		{"nothing", "default/boiler", `{"desired":{}}`, 422, "names no property"},
		{"null", "default/boiler", `{"desired":null}`, 422, "names no property"},
		{"unknown property", "default/boiler", `{"desired":{"setpiont":20}}`, 422, "no such property"},
		{"read-only", "default/boiler", `{"desired":{"temperature":20}}`, 422, "read-only"},
		{"above", "default/boiler", `{"desired":{"setpoint":99}}`, 422, "above the maximum 35; write a number from 5 to 35"},
		{"no number", "default/boiler", `{"desired":{"setpoint":"warm"}}`, 422, "write a number from 5 to 35"},
		{"no whole number", "default/boiler", `{"desired":{"level":1.5}}`, 422, "write a whole number of 0 or more"},
		{"no boolean", "default/boiler", `{"desired":{"enabled":"maybe"}}`, 422, "true or false"},
		{"empty text", "default/boiler", `{"desired":{"mode":""}}`, 422, "null"},
		{"cannot be reported", "default/boiler", `{"desired":{"mode":"` + strings.Repeat("x", 513) + `"}}`, 422, "at most 512"},
		{"declared wrongly", "default/orphan", `{"desired":{"setpoint":20}}`, 422, "its declaration is wrong"},
		{"too big", "default/boiler", `{"desired":{"mode":"` + strings.Repeat("x", MaxPatchSize) + `"}}`, 413, "more than 262144 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := s.do(t, http.MethodPatch, "/api/v1/devices/"+c.path, c.body)
			require.Equal(t, c.status, w.Code, w.Body.String())
			require.Contains(t, decode[problem](t, w).Error, c.says)
		})
	}
	require.Zero(t, s.cluster.writes)

	w := s.do(t, http.MethodPatch, "/api/v1/devices/default/boiler", `{"desired":{"setpoint":99,"enabled":7}}`)
	body := decode[problem](t, w)
	require.Len(t, body.Problems, 2, "every mistake is said at once")
	require.Equal(t, "desired.enabled", body.Problems[0].Field)
	require.Equal(t, "Device default/boiler", body.Problems[0].Object)

	w = s.do(t, http.MethodPatch, "/api/v1/devices/default/boiler", `{"desired":{"setpoint":20}}`, "Content-Type", "text/plain")
	require.Equal(t, http.StatusUnsupportedMediaType, w.Code)
	w = s.do(t, http.MethodPatch, "/api/v1/devices/default/boiler", `{"desired":{"setpoint":20}}`, "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusForbidden, w.Code)
}

func TestPatchTellsWhatTheClusterSaid(t *testing.T) {
	resource := apierrors.NewNotFound(devicesResource(), "boiler").Status().Details
	require.NotNil(t, resource)
	for _, c := range []struct {
		name   string
		err    error
		status int
	}{
		{"gone meanwhile", fmt.Errorf("set: %w", twin.ErrNoDevice), 404},
		{"conflict", fmt.Errorf("set: %w", apierrors.NewConflict(devicesResource(), "boiler", errors.New("x"))), 409},
		{"admission", apierrors.NewInvalid(devicesKind(), "boiler", nil), 422},
		{"away", errors.New("connection refused"), 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			model, devices := fixture(t)
			s := start(t, newFakeCluster(all(model, devices)...)).synced(t)
			s.cluster.refuse = c.err
			w := s.do(t, http.MethodPatch, "/api/v1/devices/default/boiler", `{"desired":{"setpoint":20}}`)
			require.Equal(t, c.status, w.Code)
			require.NotEmpty(t, decode[problem](t, w).Error)
		})
	}
}

func TestTokens(t *testing.T) {
	model, devices := fixture(t)
	s := start(t, newFakeCluster(all(model, devices)...), func(d *Deps) { d.Auth = BearerTokens{app.Tokens{"secret"}} }).synced(t)
	for _, header := range [][]string{nil, {"Authorization", "Bearer wrong"}, {"Authorization", "Bearer "}, {"Authorization", "Basic c2VjcmV0"}} {
		for _, path := range []string{"/api/v1/devices", "/api/v1/devices/default/boiler", "/api/v1/events"} {
			w := s.do(t, http.MethodGet, path, "", header...)
			require.Equal(t, http.StatusUnauthorized, w.Code)
			require.Contains(t, w.Header().Get("WWW-Authenticate"), "Bearer")
		}
		require.Equal(t, http.StatusUnauthorized, s.do(t, http.MethodPatch, "/api/v1/devices/default/boiler", `{"desired":{"setpoint":20}}`, header...).Code)
	}
	require.Zero(t, s.cluster.writes)
	require.Equal(t, http.StatusOK, s.do(t, http.MethodGet, "/api/v1/devices", "", "Authorization", "Bearer secret").Code)
	require.Equal(t, http.StatusOK, s.do(t, http.MethodGet, "/", "").Code, "the page itself holds no data")
}

type namespaced struct{}

func (namespaced) Allow(_ context.Context, _ string, verb Verb, namespace string) error {
	if namespace != "default" {
		return fmt.Errorf("%w: %s in %q", ErrForbidden, verb, namespace)
	}
	return nil
}

func TestAnAuthenticatorSeesVerbAndNamespace(t *testing.T) {
	model, devices := fixture(t)
	s := start(t, newFakeCluster(all(model, devices)...), func(d *Deps) { d.Auth = namespaced{} }).synced(t)
	require.Equal(t, http.StatusForbidden, s.do(t, http.MethodGet, "/api/v1/devices", "").Code)
	require.Equal(t, http.StatusOK, s.do(t, http.MethodGet, "/api/v1/devices?namespace=default", "").Code)
	require.Equal(t, http.StatusForbidden, s.do(t, http.MethodGet, "/api/v1/devices/other/boiler", "").Code)
}

func TestThePageIsOurOwnAndRunsNothingElse(t *testing.T) {
	s := start(t, newFakeCluster())
	for path, kind := range map[string]string{"/": "text/html; charset=utf-8", "/app.js": "text/javascript; charset=utf-8", "/style.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml"} {
		w := s.do(t, http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, w.Code, path)
		require.Equal(t, kind, w.Header().Get("Content-Type"))
		policy := w.Header().Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'none'")
		require.NotContains(t, policy, "unsafe")
		again := s.do(t, http.MethodGet, path, "", "If-None-Match", w.Header().Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.Code)
	}
	page := s.do(t, http.MethodGet, "/", "").Body.String()
	for _, never := range []string{"http://", "https://", "onclick", "style=\"", "<style", "javascript:"} {
		require.NotContains(t, page, never)
	}
	require.NotContains(t, s.do(t, http.MethodGet, "/app.js", "").Body.String(), "innerHTML")
	require.Equal(t, http.StatusNotFound, s.do(t, http.MethodGet, "/web/app.js", "").Code)
}
