package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func (s *Stack) edgeCore() launch {
	return launch{
		argv: []string{
			filepath.Join(s.cache.dir(kubeEdgeArtifact()), "edgecore"),
			"--config=" + s.path("edgecore", "edgecore.yaml"),
		},
		dir: s.path("edgecore"),
		// ServiceBus listens only after a first Rule has reached the node, so
		// its port says nothing here.
		ready: func(ctx context.Context) error {
			return errors.Join(
				dialReady(s.Ports.MetaServer)(ctx),
				httpReady(fmt.Sprintf("http://127.0.0.1:%d/healthz", s.Ports.Edged))(ctx),
			)
		},
		startWithin: 90 * time.Second,
		stopWithin:  15 * time.Second,
	}
}

// writeEdgeCore writes EdgeCore's configuration. EdgeCore writes the file anew
// once it has used the token, so it is written once per Up and not per start.
func (s *Stack) writeEdgeCore(token string) error {
	at := func(elem ...string) string { return s.path(append([]string{"edgecore"}, elem...)...) }
	for _, dir := range []string{"ca", "certs", "dmi", "kubelet"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			return fmt.Errorf("make EdgeCore's folder: %w", err)
		}
	}
	const local = "127.0.0.1"
	websocket := object{"enable": true, "server": fmt.Sprintf("%s:%d", local, s.Ports.CloudHub)}
	return writeJSON(at("edgecore.yaml"), object{
		"apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
		"kind":       "EdgeCore",
		"database":   object{"dataSource": at("edgecore.db")},
		"modules": object{
			"edged": s.edged(),
			"edgeHub": object{
				"enable":            true,
				"heartbeat":         s.opts.Heartbeat,
				"messageQPS":        s.opts.MessageQPS,
				"messageBurst":      2 * s.opts.MessageQPS,
				"httpServer":        fmt.Sprintf("https://%s:%d", local, s.Ports.CloudHubHTTPS),
				"tlsCaFile":         at("ca", "rootCA.crt"),
				"tlsCertFile":       at("certs", "server.crt"),
				"tlsPrivateKeyFile": at("certs", "server.key"),
				"token":             token,
				"websocket":         websocket,
			},
			"eventBus":   object{"enable": true, "mqttMode": 2, "mqttServerExternal": s.Broker},
			"deviceTwin": object{"enable": true, "dmiSockPath": at("dmi")},
			"metaManager": object{
				"enable": true,
				"metaServer": object{
					"enable": true, "server": fmt.Sprintf("%s:%d", local, s.Ports.MetaServer),
				},
			},
			"serviceBus":  object{"enable": true, "server": local, "port": s.Ports.ServiceBus, "timeout": 60},
			"edgeStream":  object{"enable": false},
			"taskManager": object{"enable": false},
		},
	})
}

// edged is the configuration of EdgeCore's kubelet.
func (s *Stack) edged() object {
	socket := "unix://" + s.containerdSocket()
	kubelet := object{
		"address":                  "127.0.0.1",
		"readOnlyPort":             s.Ports.Edged,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               s.cgroupRoot(),
		"cgroupsPerQOS":            true,
		"containerRuntimeEndpoint": socket,
		"imageServiceEndpoint":     socket,
		// Without this it writes iptables chains nobody removes.
		"makeIPTablesUtilChains":      false,
		"nodeStatusUpdateFrequency":   "5s",
		"syncFrequency":               "10s",
		"podLogsDir":                  s.path("edgecore", "podlogs"),
		"resolvConf":                  "/etc/resolv.conf",
		"staticPodPath":               s.path("edgecore", "manifests"),
		"volumePluginDir":             s.path("edgecore", "volume-plugins"),
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"evictionHard": object{
			"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
		},
	}
	return object{
		"enable":                true,
		"hostnameOverride":      s.Node,
		"nodeIP":                "127.0.0.1",
		"rootDirectory":         s.path("edgecore", "kubelet"),
		"podSandboxImage":       pauseRef,
		"registerSchedulable":   true,
		"tailoredKubeletConfig": kubelet,
	}
}

// waitNode waits until the edge node is Ready and carries the edge label.
func (s *Stack) waitNode(ctx context.Context) error {
	return s.progress.step("waiting for node "+s.Node, func() error {
		err := wait(ctx, 90*time.Second, s.nodeReady)
		if err != nil {
			return fmt.Errorf("wait for node %s: %w\n%s", s.Node, err, s.tail(EdgeCore))
		}
		_, err = s.Kubectl(ctx, nil, "label", "node", s.Node, "node-role.kubernetes.io/edge=", "--overwrite")
		return err
	})
}

// nodeReady returns nil when the API server knows the node as Ready.
func (s *Stack) nodeReady(ctx context.Context) error {
	out, err := s.Kubectl(ctx, nil, "get", "node", s.Node,
		"-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	if err != nil {
		return err
	}
	if status := strings.TrimSpace(string(out)); status != "True" {
		return fmt.Errorf("node %s: Ready is %q", s.Node, status)
	}
	return nil
}
