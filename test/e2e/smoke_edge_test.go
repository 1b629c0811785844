package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/twinline/twinline/test/e2e/stack"
)

// get returns the body of a 200 answer. MetaServer takes 10 s for a list while
// the node is online.
func get(ctx context.Context, url string) (string, error) {
	return request(ctx, http.MethodGet, url, "")
}

func request(ctx context.Context, method, url, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 65*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, data)
	}
	return string(data), err
}

// probePod has three verbs: state folder, serial line, address.
const probePod = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: smoke, namespace: iot-platform}
---
apiVersion: v1
kind: Pod
metadata: {name: smoke, namespace: iot-platform}
spec:
  serviceAccountName: smoke
  automountServiceAccountToken: false
  hostNetwork: true
  terminationGracePeriodSeconds: 2
  nodeSelector: {node-role.kubernetes.io/edge: ""}
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532}
  containers:
  - name: probe
    image: docker.io/twinline/probe:smoke
    imagePullPolicy: Never
    args: [--listen=%[3]s]
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts:
    - {name: token, mountPath: /var/run/twinline, readOnly: true}
    - {name: state, mountPath: /state}
    - {name: rtu0, mountPath: /dev/rtu0}
  volumes:
  - name: token
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: twinline, expirationSeconds: 3600}
  - {name: state, hostPath: {path: %[1]s}}
  - {name: rtu0, hostPath: {path: %[2]s}}
`

// smokePod runs a pod as ours will run: host network, not root, a folder of the
// node, a serial line and a token that the cloud can verify.
func smokePod(t *testing.T, s *stack.Stack) {
	binary := filepath.Join(t.TempDir(), "probe")
	if err := stack.BuildStatic(t.Context(), ".", "./cmd/probe", binary); err != nil {
		t.Fatal(err)
	}
	if err := s.Image(t.Context(), binary, "docker.io/twinline/probe:smoke"); err != nil {
		t.Fatal(err)
	}
	state, err := s.HostDir("smoke")
	if err != nil {
		t.Fatal(err)
	}
	line, err := s.SerialLine("smoke-rtu0", echoLine(t))
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	apply(t, s, fmt.Sprintf(probePod, state, line, address))

	ask := func(method, path, want string) {
		t.Helper()
		if got, err := request(t.Context(), method, "http://"+address+path, ""); err != nil || got != want {
			t.Errorf("%s %s: got %q, %v; want %q", method, path, got, err, want)
		}
	}
	eventually(t, 60*time.Second, "pod answers", func() error {
		_, err := get(t.Context(), "http://"+address+"/user")
		return err
	})
	ask(http.MethodGet, "/user", stack.ImageUser)
	ask(http.MethodPut, "/state", "/state/written-by-probe")
	ask(http.MethodGet, "/serial?line=ping", "echo ping\n")
	if log, err := s.PodLog("iot-platform", "smoke"); err != nil || !strings.Contains(log, "answering on "+address) {
		t.Errorf("pod log: %q, %v", log, err)
	}
	token, err := get(t.Context(), "http://"+address+"/token")
	if err != nil {
		t.Fatal(err)
	}
	reviewToken(t, s, token)
}

// reviewToken checks that the cloud knows who speaks, and on which node.
func reviewToken(t *testing.T, s *stack.Stack, token string) {
	t.Helper()
	review, err := json.Marshal(map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
		"spec": map[string]any{"token": token, "audiences": []string{"twinline"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Kubectl(t.Context(), review, "create", "-o", "json", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Status struct {
			Authenticated bool
			User          struct {
				Username string
				Extra    map[string][]string
			}
		}
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	user := answer.Status.User
	nodes := user.Extra["authentication.kubernetes.io/node-name"]
	if !answer.Status.Authenticated || user.Username != "system:serviceaccount:iot-platform:smoke" ||
		len(nodes) != 1 || nodes[0] != s.Node {
		t.Errorf("token review: %+v", answer.Status)
	}
}

// echoLine opens a pseudo-terminal whose other side answers each line, and
// returns its device.
func echoLine(t *testing.T) string {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := rawMode(slave); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(master)
		for lines.Scan() {
			fmt.Fprintf(master, "echo %s\n", lines.Text())
		}
	}()
	t.Cleanup(func() {
		_ = slave.Close()
		_ = master.Close()
		<-done
	})
	return slave.Name()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// smokeRule has two verbs: node, target of the request in the cloud.
const smokeRule = `
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {name: smoke-edge, namespace: default}
spec: {ruleEndpointType: servicebus, properties: {service_port: "1"}}
---
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {name: smoke-cloud, namespace: default}
spec: {ruleEndpointType: rest, properties: {}}
---
apiVersion: rules.kubeedge.io/v1
kind: Rule
metadata: {name: smoke, namespace: default}
spec:
  source: smoke-edge
  sourceResource: {target_url: smoke, node_name: %[1]s}
  target: smoke-cloud
  targetResource: {resource: %[2]q}
`

// smokeServiceBus sends a request from the edge to an HTTP server in the cloud
// and gets the answer's body back.
func smokeServiceBus(t *testing.T, s *stack.Stack) {
	server := httptest.NewServer(http.HandlerFunc(acknowledge))
	defer server.Close()
	apply(t, s, fmt.Sprintf(smokeRule, s.Node, server.URL))
	eventually(t, 60*time.Second, "acknowledgement through ServiceBus", func() error {
		body, err := request(t.Context(), http.MethodPost, s.ServiceBus,
			`{"method":"POST","targetURL":"smoke","payload":{"batch":"b1"}}`)
		if err == nil && !strings.Contains(body, `{\"ack\":\"b1\"}`) {
			err = fmt.Errorf("answer %q", body)
		}
		return err
	})
}

// acknowledge answers as a cloud service behind a Rule must: the request's body
// is the edge's request in plain base64, and only the body of the answer
// counts. CloudCore leaks the connection unless it is closed.
func acknowledge(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	var message struct{ Payload struct{ Batch string } }
	body := base64.NewDecoder(base64.StdEncoding, r.Body)
	if err := json.NewDecoder(body).Decode(&message); err != nil {
		fmt.Fprintf(w, "error: %v", err)
		return
	}
	fmt.Fprintf(w, `{"ack":%q}`, message.Payload.Batch)
}

// smokeChaos kills, freezes and restarts parts of the stack.
func smokeChaos(t *testing.T, s *stack.Stack) {
	ctx := t.Context()
	for _, c := range []stack.Component{stack.Mosquitto, stack.Database, stack.Kafka} {
		if err := s.Kill9(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Pause(stack.CloudCore); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(stack.CloudCore); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(ctx, stack.EdgeCore); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitLink(ctx, 90*time.Second); err != nil {
		t.Fatal(err)
	}
}

// smokeLink cuts the link for 20 s: nothing passes meanwhile, and afterwards
// twins pass again.
func smokeLink(t *testing.T, s *stack.Stack) {
	ctx := t.Context()
	apply(t, s, smokeDevice)
	client := connect(t, s)
	pass := func(value string) func() error {
		return func() error {
			if err := report(client, "smoke-1", value); err != nil {
				return err
			}
			return reported(ctx, s, "smoke-1", value)
		}
	}
	eventually(t, 60*time.Second, "twin before the cut", pass("1"))
	if err := s.CutLink(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.HealLink(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	if !s.LinkCut(ctx) {
		t.Fatal("the link is not cut")
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if err := pass("2")(); err == nil {
			t.Fatal("a twin passed the cut link")
		}
	}
	if err := s.HealLink(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, "twin after the cut", pass("3"))
}
