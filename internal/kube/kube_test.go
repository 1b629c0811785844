package kube

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// These tests use client-go's fake for what an API server stores. What a real one
// does (conflicts, validation, watches that break) is tested on the real stack in test/e2e.

func object(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	data, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	require.NoError(t, u.UnmarshalJSON(data))
	return u
}

const boiler = `
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: boiler, namespace: default, generation: 3, managedFields: [{manager: kubectl}]}
spec:
  deviceModelRef: {name: thermostat}
  nodeName: edge-a
  fieldOfTheFuture: {kept: true}
  protocol: {protocolName: modbus, configData: {url: "tcp://plc:502", serial: 9007199254740993}}
  properties:
  - {name: temperature, reportToCloud: true}
  - {name: setpoint, reportToCloud: true, extra: 1, desired: {value: "20", metadata: {by: someone}}}
`

func client(t testing.TB, objects ...runtime.Object) (*Client, *fake.FakeDynamicClient) {
	t.Helper()
	d := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		devices(): "DeviceList", models(): "DeviceModelList", statuses(): "DeviceStatusList",
		rules(): "RuleList", endpoints(): "RuleEndpointList", nodes(): "NodeList",
	})
	for _, o := range objects {
		u := o.(*unstructured.Unstructured)
		plural := map[string]schema.GroupVersionResource{"Device": devices(), "DeviceModel": models(), "DeviceStatus": statuses(), "Rule": rules(), "RuleEndpoint": endpoints(), "Node": nodes()}
		require.NoError(t, d.Tracker().Create(plural[u.GetKind()], u, u.GetNamespace()))
	}
	c := newClient(d, slog.New(slog.DiscardHandler))
	c.now = func() time.Time { return time.UnixMilli(1700000000000) }
	return c, d
}

func boilerID() twin.DeviceID { return twin.DeviceID{Namespace: "default", Name: "boiler"} }

func text(s string) *string { return &s }

func (c *Client) spec(t testing.TB) map[string]any {
	u, err := c.dynamic.Resource(devices()).Namespace("default").Get(t.Context(), "boiler", metav1.GetOptions{})
	require.NoError(t, err)
	return u.Object["spec"].(map[string]any)
}

func TestSetDesiredChangesNothingElse(t *testing.T) {
	c, _ := client(t, object(t, boiler))
	before := c.spec(t)
	d, err := c.SetDesired(t.Context(), boilerID(), map[string]*string{"setpoint": text("21.5"), "level": text("3")})
	require.NoError(t, err)
	require.Equal(t, "21.5", d.Spec.Properties[1].Desired.Value)
	require.Equal(t, map[string]string{"by": "someone", "timestamp": "1700000000000"}, d.Spec.Properties[1].Desired.Metadata)
	after := c.spec(t)
	want := before["properties"].([]any)
	want[1].(map[string]any)["desired"] = map[string]any{"value": "21.5", "metadata": map[string]any{"by": "someone", "timestamp": "1700000000000"}}
	want = append(want, map[string]any{"name": "level", "reportToCloud": true, "desired": map[string]any{"value": "3", "metadata": map[string]any{"timestamp": "1700000000000"}}})
	before["properties"] = want
	require.Equal(t, before, after, "unknown fields and large numbers too")
}

func TestSetDesiredWritesOnlyWhatChanges(t *testing.T) {
	c, d := client(t, object(t, boiler))
	d.ClearActions()
	_, err := c.SetDesired(t.Context(), boilerID(), map[string]*string{"setpoint": text("20"), "temperature": nil, "level": nil})
	require.NoError(t, err)
	for _, a := range d.Actions() {
		require.Equal(t, "get", a.GetVerb())
	}
	device, err := c.SetDesired(t.Context(), boilerID(), map[string]*string{"setpoint": nil})
	require.NoError(t, err)
	require.Empty(t, device.Spec.Properties[1].Desired.Value)
	require.NotContains(t, c.spec(t)["properties"].([]any)[1], "desired")
}

func TestSetDesiredTriesAgainOnAConflictAndGivesUp(t *testing.T) {
	c, d := client(t, object(t, boiler))
	conflicts := 3
	tries := 0
	d.PrependReactor("update", "devices", func(clienttesting.Action) (bool, runtime.Object, error) {
		if tries++; tries <= conflicts {
			return true, nil, apierrors.NewConflict(v1beta1.Resource("devices"), "boiler", errors.New("changed"))
		}
		return false, nil, nil
	})
	_, err := c.SetDesired(t.Context(), boilerID(), map[string]*string{"setpoint": text("22")})
	require.NoError(t, err)
	require.Equal(t, 4, tries)

	tries, conflicts = 0, 1000
	_, err = c.SetDesired(t.Context(), boilerID(), map[string]*string{"setpoint": text("23")})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.Equal(t, conflictRetries().Steps, tries)

	_, err = c.SetDesired(t.Context(), twin.DeviceID{Namespace: "default", Name: "none"}, map[string]*string{"setpoint": text("22")})
	require.ErrorIs(t, err, twin.ErrNoDevice)
}

// watched gathers what Watch tells.
type watched struct {
	mu      sync.Mutex
	objects map[string]metav1.Object
	synced  chan struct{}
	stop    func()
}

func watch(t *testing.T, c *Client) *watched {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{objects: map[string]metav1.Object{}, synced: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		err := c.Watch(ctx, func(o metav1.Object, gone bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if gone {
				delete(w.objects, o.GetName())
			} else {
				w.objects[o.GetName()] = o
			}
		}, func() { close(w.synced) })
		if err != nil {
			t.Error(err)
		}
	})
	w.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(w.stop)
	return w
}

func (w *watched) eventually(t *testing.T, what func(map[string]metav1.Object) bool) {
	t.Helper()
	require.Eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return what(w.objects) }, 10*time.Second, time.Millisecond)
}

func TestWatchTellsOfAllThatIsThereAndOfChanges(t *testing.T) {
	model := object(t, "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {name: thermostat, namespace: default}\nspec: {protocol: modbus}")
	odd := object(t, "apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: odd, namespace: default}\nspec: {nodeName: [1]}")
	c, d := client(t, object(t, boiler), model, odd)
	w := watch(t, c)
	<-w.synced
	w.mu.Lock()
	device, ok := w.objects["boiler"].(*v1beta1.Device)
	require.True(t, ok)
	require.Equal(t, "edge-a", device.Spec.NodeName)
	require.EqualValues(t, 3, device.Generation)
	require.Nil(t, device.ManagedFields)
	require.IsType(t, &v1beta1.DeviceModel{}, w.objects["thermostat"])
	require.Equal(t, v1beta1.DeviceSpec{}, w.objects["odd"].(*v1beta1.Device).Spec, "its name alone")
	w.mu.Unlock()
	require.NoError(t, c.Ready())

	status := object(t, "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceStatus\nmetadata: {name: late, namespace: default}\nstatus: {state: online}")
	require.NoError(t, d.Tracker().Create(statuses(), status, "default"))
	w.eventually(t, func(o map[string]metav1.Object) bool { _, ok := o["late"].(*v1beta1.DeviceStatus); return ok })
	require.NoError(t, d.Tracker().Delete(devices(), "default", "odd"))
	w.eventually(t, func(o map[string]metav1.Object) bool { _, ok := o["odd"]; return !ok })
}

func TestReadySaysWhatCannotBeRead(t *testing.T) {
	c, d := client(t, object(t, boiler))
	d.PrependReactor("list", "devicestatuses", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(v1beta1.Resource("devicestatuses"), "", errors.New("no role allows it"))
	})
	w := watch(t, c)
	require.Eventually(t, func() bool { return c.Ready() != nil }, 10*time.Second, time.Millisecond)
	require.ErrorContains(t, c.Ready(), "devicestatuses cannot be read")
	require.ErrorContains(t, c.Ready(), "no role allows it")
	select {
	case <-w.synced:
		t.Fatal("half a picture is none")
	default:
	}
}

func TestHealthForgetsAFailureThatIsOver(t *testing.T) {
	h, now := newHealth(), time.Unix(0, 0)
	require.True(t, h.fail("devices", errors.New("x"), now), "the first is logged")
	require.False(t, h.fail("devices", errors.New("x"), now.Add(time.Minute)))
	require.Error(t, h.check(now.Add(time.Minute+failureHolds)))
	require.NoError(t, h.check(now.Add(time.Minute+failureHolds+1)))
	h.clear("devices")
	require.NoError(t, h.check(now.Add(time.Minute)))
}

func node(t testing.TB, name, uid, readySince string) *unstructured.Unstructured {
	status := "False"
	if readySince != "" {
		status = "True"
	}
	return object(t, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"`+name+`","uid":"`+uid+`","labels":{"node-role.kubernetes.io/edge":""}},
		"status":{"conditions":[{"type":"Ready","status":"`+status+`","lastTransitionTime":"`+readySince+`"}],"images":[{"names":["big"]}]}}`)
}

func newRules(t testing.TB, c *Client, target string) *Rules {
	r, err := NewRules(c, RulesConfig{Namespace: "iot-platform", Target: target, Source: DefaultRuleSource}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return r
}

func slim(t testing.TB, name, uid, since string) *edgeNode {
	return slimNode(node(t, name, uid, since)).(*edgeNode)
}

// verbs lists what was done, reading left out.
func verbs(d *fake.FakeDynamicClient) string {
	var done []string
	for _, a := range d.Actions() {
		if v := a.GetVerb(); v == "create" || v == "delete" || v == "update" || v == "patch" {
			done = append(done, v+" "+a.GetResource().Resource)
		}
	}
	d.ClearActions()
	return strings.Join(done, ", ")
}

func TestARuleIsMadeWhenItsNodeCanHearOfIt(t *testing.T) {
	c, d := client(t)
	r := newRules(t, c, "http://telemetry:8080/servicebus")
	step := func(r *Rules, n *edgeNode, want string) {
		t.Helper()
		require.NoError(t, r.reconcile(t.Context(), n))
		require.Equal(t, want, verbs(d))
	}
	step(r, slim(t, "edge-a", "u1", ""), "")
	step(r, slim(t, "edge-a", "u1", "2026-03-01T12:00:00Z"), "create ruleendpoints, create ruleendpoints, create rules")
	rule, err := r.in(rules()).Get(t.Context(), "twinline-telemetry-edge-a", metav1.GetOptions{})
	require.NoError(t, err)
	spec, err := json.Marshal(rule.Object["spec"])
	require.NoError(t, err)
	require.JSONEq(t, `{"source":"twinline-servicebus","sourceResource":{"target_url":"/twinline/telemetry","node_name":"edge-a"},
		"target":"twinline-rest","targetResource":{"resource":"http://telemetry:8080/servicebus"}}`, string(spec))

	step(r, slim(t, "edge-a", "u1", "2026-03-01T12:00:00Z"), "")
	step(r, slim(t, "edge-a", "u1", ""), "")
	step(r, slim(t, "edge-a", "u1", "2026-03-01T13:00:00Z"), "delete rules, create rules")
	step(r, slim(t, "edge-a", "u2", "2026-03-01T13:00:00Z"), "delete rules, create rules")
	moved := newRules(t, c, "http://elsewhere:8080/servicebus")
	step(moved, slim(t, "edge-a", "u2", "2026-03-01T13:00:00Z"), "delete rules, create rules")

	require.NoError(t, r.remove(t.Context(), "edge-a"))
	require.Equal(t, "delete rules", verbs(d))
	require.NoError(t, r.remove(t.Context(), "edge-a"))
	require.Empty(t, verbs(d))
}

func TestSomeoneElsesRuleIsLeftAlone(t *testing.T) {
	theirs := object(t, "apiVersion: rules.kubeedge.io/v1\nkind: Rule\nmetadata: {name: twinline-telemetry-edge-a, namespace: iot-platform}\nspec: {source: x}")
	c, d := client(t, theirs)
	r := newRules(t, c, "http://telemetry:8080")
	require.ErrorContains(t, r.reconcile(t.Context(), slim(t, "edge-a", "u1", "2026-03-01T12:00:00Z")), "someone else made it")
	require.NoError(t, r.remove(t.Context(), "edge-a"))
	require.NotContains(t, verbs(d), "delete")
}

func TestRulesFollowTheNodes(t *testing.T) {
	c, d := client(t, node(t, "edge-a", "u1", "2026-03-01T12:00:00Z"), node(t, "edge-b", "u2", ""))
	r := newRules(t, c, "http://telemetry:8080")
	require.NoError(t, r.Start(t.Context()))
	defer r.Stop()
	has := func(name string) func() bool {
		return func() bool {
			_, err := d.Tracker().Get(rules(), "iot-platform", rulePrefix+name)
			return err == nil
		}
	}
	require.Eventually(t, has("edge-a"), 10*time.Second, time.Millisecond)
	require.False(t, has("edge-b")())
	require.NoError(t, d.Tracker().Update(nodes(), node(t, "edge-b", "u2", "2026-03-01T12:05:00Z"), ""))
	require.Eventually(t, has("edge-b"), 10*time.Second, time.Millisecond)
	require.NoError(t, d.Tracker().Delete(nodes(), "", "edge-a"))
	require.Eventually(t, func() bool { return !has("edge-a")() }, 10*time.Second, time.Millisecond)
}

func TestRulesKeepTheServiceContract(t *testing.T) {
	c, _ := client(t, node(t, "edge-a", "u1", "2026-03-01T12:00:00Z"))
	servicetest.Stress(t, newRules(t, c, "http://telemetry:8080"))
}

func TestHeartbeatsOfNodesAreNotWorth(t *testing.T) {
	old, beat := slim(t, "edge-a", "u1", "2026-03-01T12:00:00Z"), slim(t, "edge-a", "u1", "2026-03-01T12:00:00Z")
	old.ResourceVersion, beat.ResourceVersion = "1", "2"
	require.False(t, worthALook(old, beat))
	beat.readySince = ""
	require.True(t, worthALook(old, beat))
	require.True(t, worthALook(old, old), "a resync")
}

func TestRulesConfiguration(t *testing.T) {
	c, _ := client(t)
	for _, target := range []string{"", "telemetry:8080", "ftp://x", "http://", "http://[::1"} {
		_, err := NewRules(c, RulesConfig{Namespace: "a", Source: "/x", Target: target}, nil)
		require.ErrorContains(t, err, "want http://host/path", target)
	}
	_, err := NewRules(c, RulesConfig{Source: "/x", Target: "http://x"}, nil)
	require.Error(t, err)
	require.Len(t, ruleName(strings.Repeat("n", 253)), maxNameBytes)
	require.NotEqual(t, ruleName(strings.Repeat("n", 252)), ruleName(strings.Repeat("n", 253)))
}

func TestConnectSaysWhatIsMissing(t *testing.T) {
	_, err := Connect("/does/not/exist", nil)
	require.ErrorContains(t, err, "/does/not/exist")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err = Connect("", nil)
	require.ErrorContains(t, err, "--kubeconfig")
}
