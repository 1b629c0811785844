package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// pauseRef is the image that holds a pod's namespaces.
const pauseRef = "docker.io/twinline/pause:1"

// ctrNamespace is the containerd namespace of Kubernetes.
const ctrNamespace = "k8s.io"

func (s *Stack) containerdSocket() string { return s.path("containerd", "containerd.sock") }

// bridge is the network device of pods without hostNetwork. Its name has at
// most 15 bytes.
func (s *Stack) bridge() string { return "tw-" + s.id[len("twinline-"):] }

func (s *Stack) containerd() launch {
	return launch{
		argv:        []string{"/usr/bin/containerd", "--config", s.path("containerd", "config.toml")},
		ready:       func(ctx context.Context) error { _, err := s.ctr(ctx, "version"); return err },
		startWithin: 30 * time.Second,
		stopWithin:  10 * time.Second,
	}
}

// ctr runs containerd's own client in the namespace of Kubernetes.
func (s *Stack) ctr(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return run(ctx, append([]string{"ctr", "-a", s.containerdSocket(), "-n", ctrNamespace}, args...)...)
}

// containerdConfig has three verbs: run folder, pause image, stream port.
const containerdConfig = `version = 2
root = "%[1]s/containerd/root"
state = "%[1]s/containerd/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "%[1]s/containerd/containerd.sock"
[ttrpc]
  address = "%[1]s/containerd/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE no score below our own may be set.
  restrict_oom_score_adj = true
  sandbox_image = "%[2]s"
  stream_server_address = "127.0.0.1"
  stream_server_port = "%[3]d"
  # Network namespaces below our folder are unmounted with it.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[1]s/containerd/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "%[1]s/containerd/runc"
      SystemdCgroup = false
`

// cniConfig has two verbs: bridge name and run folder.
const cniConfig = `{"cniVersion":"0.4.0","name":"twinline","plugins":[
 {"type":"bridge","bridge":"%[1]s","isGateway":true,"ipMasq":false,"hairpinMode":true,
  "ipam":{"type":"host-local","dataDir":"%[2]s/containerd/addresses",
   "ranges":[[{"subnet":"10.91.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}
`

func (s *Stack) writeContainerd() error {
	config := fmt.Sprintf(containerdConfig, s.Dir, pauseRef, s.Ports.ContainerdHTTP)
	if err := writeFile(s.path("containerd", "config.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	cni := fmt.Sprintf(cniConfig, s.bridge(), s.Dir)
	return writeFile(s.path("containerd", "cni", "10-twinline.conflist"), []byte(cni), 0o644)
}

// removePods ends all containers. It does not need EdgeCore.
func (s *Stack) removePods(ctx context.Context) error {
	p, err := s.readProcess(Containerd)
	if err != nil {
		return err
	}
	if p.alive() {
		err = s.removeTasks(ctx)
	}
	// What is left when containerd died or did not answer.
	return errors.Join(err, s.killPods(ctx))
}

func (s *Stack) removeTasks(ctx context.Context) error {
	tasks, err := s.ctr(ctx, "tasks", "ls", "-q")
	if err != nil {
		return err
	}
	for _, id := range strings.Fields(string(tasks)) {
		// It may have ended by itself; the list below tells.
		_, _ = s.ctr(ctx, "tasks", "rm", "-f", id)
	}
	containers, err := s.ctr(ctx, "containers", "ls", "-q")
	if err != nil {
		return err
	}
	if ids := strings.Fields(string(containers)); len(ids) > 0 {
		_, err = s.ctr(ctx, append([]string{"containers", "rm"}, ids...)...)
	}
	return err
}
