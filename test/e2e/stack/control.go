package stack

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// serviceRange is the range of cluster addresses. Nothing routes them here:
// edge pods use the host's network.
const serviceRange = "10.96.0.0/16"

func (s *Stack) etcd() launch {
	client := fmt.Sprintf("http://127.0.0.1:%d", s.Ports.Etcd)
	peer := fmt.Sprintf("http://127.0.0.1:%d", s.Ports.EtcdPeer)
	return launch{
		argv: []string{
			"/usr/bin/etcd", "--name=twinline", "--data-dir=" + s.path("etcd"),
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=twinline=" + peer,
		},
		ready:       httpReady(client + "/health"),
		startWithin: 60 * time.Second,
		stopWithin:  10 * time.Second,
	}
}

func (s *Stack) apiServer() launch {
	pki := func(name string) string { return s.path("pki", name) }
	return launch{
		argv: []string{
			s.kubernetes("kube-apiserver"),
			"--etcd-servers=" + fmt.Sprintf("http://127.0.0.1:%d", s.Ports.Etcd),
			"--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", s.Ports.APIServer),
			// The endpoint of the service "kubernetes" may not be loopback.
			"--endpoint-reconciler-type=none",
			"--tls-cert-file=" + pki("apiserver.crt"),
			"--tls-private-key-file=" + pki("apiserver.key"),
			"--client-ca-file=" + pki("ca.crt"),
			"--service-account-key-file=" + pki("sa.pub"),
			"--service-account-signing-key-file=" + pki("sa.key"),
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-cluster-ip-range=" + serviceRange,
			"--authorization-mode=Node,RBAC",
			"--allow-privileged=true",
			"--kubelet-client-certificate=" + pki("kubelet.crt"),
			"--kubelet-client-key=" + pki("kubelet.key"),
			"--requestheader-client-ca-file=" + pki("front-ca.crt"),
			"--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User",
			"--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + pki("front-proxy.crt"),
			"--proxy-client-key-file=" + pki("front-proxy.key"),
		},
		ready:       httpReady(s.APIServer + "/readyz"),
		startWithin: 90 * time.Second,
		stopWithin:  15 * time.Second,
	}
}

func (s *Stack) controllers() launch {
	return launch{
		argv: []string{
			s.kubernetes("kube-controller-manager"),
			"--kubeconfig=" + s.path("kube", "controllers.kubeconfig"),
			"--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", s.Ports.Controllers),
			"--leader-elect=false",
			"--use-service-account-credentials=true",
			"--service-account-private-key-file=" + s.path("pki", "sa.key"),
			"--root-ca-file=" + s.path("pki", "ca.crt"),
			"--cluster-signing-cert-file=" + s.path("pki", "ca.crt"),
			"--cluster-signing-key-file=" + s.path("pki", "ca.key"),
		},
		ready:       httpReady(fmt.Sprintf("https://127.0.0.1:%d/healthz", s.Ports.Controllers)),
		startWithin: 60 * time.Second,
		stopWithin:  10 * time.Second,
	}
}

func (s *Stack) scheduler() launch {
	return launch{
		argv: []string{
			s.kubernetes("kube-scheduler"),
			"--kubeconfig=" + s.path("kube", "scheduler.kubeconfig"),
			"--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", s.Ports.Scheduler),
			"--leader-elect=false",
		},
		ready:       httpReady(fmt.Sprintf("https://127.0.0.1:%d/healthz", s.Ports.Scheduler)),
		startWithin: 60 * time.Second,
		stopWithin:  10 * time.Second,
	}
}

func (s *Stack) kubernetes(name string) string {
	return filepath.Join(s.cache.dir(kubernetesArtifact()), name)
}

// Kubectl runs kubectl with all rights and returns its standard output. stdin
// may be nil. The call ends after two minutes at the latest.
func (s *Stack) Kubectl(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	argv := append([]string{s.KubectlPath, "--kubeconfig=" + s.Kubeconfig}, args...)
	return command{argv: argv, stdin: stdin}.run(ctx)
}

// Apply applies manifests, in YAML or JSON, server-side.
func (s *Stack) Apply(ctx context.Context, manifests string) error {
	_, err := s.Kubectl(ctx, []byte(manifests), "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

// clusterManifests are the namespaces and what CloudCore's own role lacks.
const clusterManifests = `
apiVersion: v1
kind: Namespace
metadata: {name: iot-platform}
---
apiVersion: v1
kind: Namespace
metadata: {name: data}
---
# KubeEdge's role lacks devicestatuses; without them no twin reaches the cloud.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: cloudcore-devicestatuses}
rules:
- apiGroups: [devices.kubeedge.io]
  resources: [devicestatuses, devicestatuses/status]
  verbs: [get, list, watch, create, update, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: cloudcore}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cloudcore}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: cloudcore}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: cloudcore-devicestatuses}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cloudcore-devicestatuses}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: cloudcore}]
`

// applyCluster brings the cluster's content: CRDs, namespaces and roles.
func (s *Stack) applyCluster(ctx context.Context) error {
	return s.progress.step("applying CRDs, namespaces and roles", func() error {
		kubeEdge := s.cache.dir(kubeEdgeArtifact())
		files := []string{filepath.Join(kubeEdge, "crds"), filepath.Join(kubeEdge, "clusterrole.yaml")}
		_, err := s.Kubectl(ctx, nil, "apply", "--server-side", "-f", strings.Join(files, ","))
		if err != nil {
			return err
		}
		if err := s.Apply(ctx, clusterManifests); err != nil {
			return err
		}
		_, err = s.Kubectl(ctx, nil, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
		return err
	})
}
