package devicemgmt

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const manifests = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: thermostat, namespace: default}
spec:
  protocol: modbus
  properties:
  - {name: temperature, type: FLOAT, accessMode: ReadOnly, unit: °C, visitors: {protocolName: modbus, configData: {register: holding, address: 1}}}
  - {name: setpoint, type: FLOAT, accessMode: ReadWrite, minimum: "5", maximum: "35", unit: °C, visitors: {protocolName: modbus, configData: {register: holding, address: 2}}}
  - {name: mode, type: STRING, accessMode: ReadWrite, visitors: {protocolName: modbus, configData: {register: holding, address: 3}}}
  - {name: enabled, type: BOOLEAN, accessMode: ReadWrite, visitors: {protocolName: modbus, configData: {register: holding, address: 4}}}
  - {name: level, type: INT, accessMode: ReadWrite, minimum: "0", visitors: {protocolName: modbus, configData: {register: holding, address: 5}}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: boiler, namespace: default}
spec:
  deviceModelRef: {name: thermostat}
  nodeName: edge-a
  protocol: {protocolName: modbus}
  properties:
  - {name: temperature, reportToCloud: true}
  - {name: setpoint, reportToCloud: true}
  - {name: mode, reportToCloud: true}
  - {name: enabled, reportToCloud: true}
`

// fixture decodes the manifests; names are added copies of the boiler.
func fixture(t testing.TB, names ...string) (*v1beta1.DeviceModel, []*v1beta1.Device) {
	t.Helper()
	objects, problems := declare.Decode("fixture", []byte(manifests))
	require.Empty(t, problems)
	boiler := &objects.Devices[0].Object
	devices := []*v1beta1.Device{boiler}
	for _, name := range names {
		d := boiler.DeepCopy()
		d.Name = name
		devices = append(devices, d)
	}
	return &objects.Models[0].Object, devices
}

func boilerID() twin.DeviceID { return twin.DeviceID{Namespace: "default", Name: "boiler"} }

// status builds a DeviceStatus as CloudCore leaves it.
func status(id twin.DeviceID, state string, at time.Time, values map[string]string) *v1beta1.DeviceStatus {
	s := &v1beta1.DeviceStatus{ObjectMeta: metav1.ObjectMeta{Namespace: id.Namespace, Name: id.Name}}
	s.Status.State = state
	if state == "online" {
		s.Status.LastOnlineTime = at.UTC().Format(time.RFC3339)
	}
	for name, value := range values {
		s.Status.Twins = append(s.Status.Twins, v1beta1.Twin{
			PropertyName: name,
			Reported:     v1beta1.TwinProperty{Value: value, Metadata: map[string]string{"timestamp": strconv.FormatInt(at.UnixMilli(), 10)}},
		})
	}
	return s
}

// plainText reads twins as the values' own text; "bad" is bad.
func plainText() TwinText {
	return TwinText{
		Decode: func(t twin.Type, text string) (twin.Value, twin.Quality) {
			v, err := twin.ParseValue(t, text)
			if err != nil {
				return twin.Value{}, twin.Bad("text")
			}
			return v, twin.Good
		},
		Check: func(_ twin.Type, v twin.Value) error {
			if s, ok := v.AsString(); ok && len(s) > 512 {
				return fmt.Errorf("a text of %d bytes, at most 512 are allowed", len(s))
			}
			return nil
		},
	}
}

// fakeCluster is a Cluster in memory.
type fakeCluster struct {
	mu      sync.Mutex
	objects map[string]metav1.Object
	changed func(metav1.Object, bool)
	gate    chan struct{} // when set, Watch waits for it before anything else
	refuse  error
	writes  int
}

func newFakeCluster(objects ...metav1.Object) *fakeCluster {
	c := &fakeCluster{objects: map[string]metav1.Object{}}
	for _, o := range objects {
		c.objects[keyOf(o)] = o
	}
	return c
}

func keyOf(o metav1.Object) string { return fmt.Sprintf("%T %s", o, idOf(o)) }

func (c *fakeCluster) Watch(ctx context.Context, changed func(metav1.Object, bool), synced func()) error {
	if c.gate != nil {
		select {
		case <-c.gate:
		case <-ctx.Done():
			return nil
		}
	}
	c.mu.Lock()
	for _, o := range c.objects {
		changed(o, false)
	}
	synced()
	c.changed = changed
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.changed = nil
	c.mu.Unlock()
	return nil
}

func (c *fakeCluster) put(o metav1.Object, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gone {
		delete(c.objects, keyOf(o))
	} else {
		c.objects[keyOf(o)] = o
	}
	if c.changed != nil {
		c.changed(o, gone)
	}
}

func (c *fakeCluster) Ready() error { return nil }

func (c *fakeCluster) SetDesired(_ context.Context, id twin.DeviceID, desired map[string]*string) (*v1beta1.Device, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return nil, c.refuse
	}
	o, ok := c.objects[fmt.Sprintf("%T %s", &v1beta1.Device{}, id)].(*v1beta1.Device)
	if !ok {
		return nil, twin.ErrNoDevice
	}
	c.writes++
	o = o.DeepCopy()
	o.Generation++
	for name, value := range desired {
		found := false
		for i := range o.Spec.Properties {
			if p := &o.Spec.Properties[i]; p.Name == name {
				found = true
				p.Desired = v1beta1.TwinProperty{}
				if value != nil {
					p.Desired.Value = *value
				}
			}
		}
		if !found && value != nil {
			o.Spec.Properties = append(o.Spec.Properties, v1beta1.DeviceProperty{Name: name, ReportToCloud: true, Desired: v1beta1.TwinProperty{Value: *value}})
		}
	}
	c.objects[keyOf(o)] = o
	return o, nil
}

type server struct {
	*DeviceMgmt
	cluster *fakeCluster
	mux     *http.ServeMux
}

func start(t testing.TB, cluster *fakeCluster, change ...func(*Deps)) *server {
	t.Helper()
	deps := Deps{Cluster: cluster, Text: plainText(), Auth: Anonymous{}, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()}
	for _, f := range change {
		f(&deps)
	}
	s := &server{DeviceMgmt: New(Config{}, deps), cluster: cluster, mux: http.NewServeMux()}
	s.Routes(s.mux)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(s.Stop)
	return s
}

// synced waits until the devices are known.
func (s *server) synced(t testing.TB) *server {
	t.Helper()
	require.Eventually(t, func() bool { return s.CheckCluster() == nil }, 10*time.Second, time.Millisecond)
	return s
}

// do asks the API and returns the answer.
func (s *server) do(t testing.TB, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, r)
	return w
}

func decode[T any](t testing.TB, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&v), w.Body.String())
	return v
}

func all(model *v1beta1.DeviceModel, devices []*v1beta1.Device) []metav1.Object {
	objects := []metav1.Object{model}
	for _, d := range devices {
		objects = append(objects, d)
	}
	return objects
}
