package stack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// object is a piece of configuration. It is written as JSON, which is YAML too.
type object = map[string]any

func (s *Stack) cloudCore() launch {
	return launch{
		argv: []string{
			filepath.Join(s.cache.dir(kubeEdgeArtifact()), "cloudcore"),
			"--config=" + s.path("cloudcore", "cloudcore.yaml"),
		},
		dir:   s.path("cloudcore"),
		ready: dialReady(s.Ports.CloudHub),
		// CloudCore sleeps up to 10 s before it does anything.
		startWithin: 90 * time.Second,
		stopWithin:  10 * time.Second,
	}
}

// writeCloudCore writes CloudCore's configuration. Its certificates need not
// exist: it makes them and keeps them in secrets of the cluster.
func (s *Stack) writeCloudCore() error {
	ports, at := s.Ports, func(elem ...string) string { return s.path(append([]string{"cloudcore"}, elem...)...) }
	const local = "127.0.0.1"
	return writeJSON(at("cloudcore.yaml"), object{
		"apiVersion": "cloudcore.config.kubeedge.io/v1alpha1",
		"kind":       "CloudCore",
		"commonConfig": object{
			"monitorServer": object{"bindAddress": fmt.Sprintf("%s:%d", local, ports.CloudMonitor)},
		},
		"kubeAPIConfig": object{"kubeConfig": s.path("kube", "cloudcore.kubeconfig")},
		"modules": object{
			"cloudHub": object{
				"advertiseAddress":  []string{local},
				"dnsNames":          []string{"localhost"},
				"nodeLimit":         100,
				"tlsCAFile":         at("ca", "rootCA.crt"),
				"tlsCAKeyFile":      at("ca", "rootCA.key"),
				"tlsCertFile":       at("certs", "server.crt"),
				"tlsPrivateKeyFile": at("certs", "server.key"),
				"websocket":         object{"enable": true, "address": local, "port": ports.CloudHub},
				"https":             object{"enable": true, "address": local, "port": ports.CloudHubHTTPS},
				"unixsocket":        object{"enable": false},
			},
			// More workers overwrite each other's twins.
			"deviceController": object{"load": object{"updateDeviceStatusWorkers": 1}},
			// Its copies of Devices compete with deviceController's.
			"dynamicController": object{"enable": false},
			"cloudStream":       object{"enable": false},
			"router":            object{"enable": true, "address": local, "port": ports.Router, "restTimeout": 60},
			"iptablesManager":   object{"enable": false},
		},
	})
}

// edgeToken waits for the token with which an edge node asks for its
// certificate.
func (s *Stack) edgeToken(ctx context.Context) (string, error) {
	var token string
	err := wait(ctx, 60*time.Second, func(ctx context.Context) error {
		out, err := s.Kubectl(ctx, nil, "-n", "kubeedge", "get", "secret", "tokensecret",
			"-o", "jsonpath={.data.tokendata}")
		if err != nil {
			return err
		}
		plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(out)))
		if err != nil {
			return fmt.Errorf("decode token: %w", err)
		}
		if len(plain) == 0 {
			return fmt.Errorf("token is empty")
		}
		token = string(plain)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("get edge token: %w\n%s", err, s.tail(CloudCore))
	}
	return token, nil
}

// writeJSON writes a configuration that only root reads.
func writeJSON(path string, content object) error {
	data, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeFile(path, append(data, '\n'), 0o600)
}
