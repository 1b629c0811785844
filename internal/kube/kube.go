// Package kube is Twinline's way to the Kubernetes API: it watches KubeEdge's
// devices, sets desired values, and keeps the Rules by which telemetry leaves the
// edge nodes.
package kube

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	rulesv1 "github.com/kubeedge/api/apis/rules/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Bounds towards the API server.
const (
	clientQPS      = 50 // requests a second, as a well-behaved controller
	clientBurst    = 100
	requestTimeout = 10 * time.Second // of a single read or write; watches are not bounded by it
)

func devices() schema.GroupVersionResource {
	return v1beta1.SchemeGroupVersion.WithResource("devices")
}

func models() schema.GroupVersionResource {
	return v1beta1.SchemeGroupVersion.WithResource("devicemodels")
}

func statuses() schema.GroupVersionResource {
	return v1beta1.SchemeGroupVersion.WithResource("devicestatuses")
}

func rules() schema.GroupVersionResource {
	return rulesv1.SchemeGroupVersion.WithResource("rules")
}

func endpoints() schema.GroupVersionResource {
	return rulesv1.SchemeGroupVersion.WithResource("ruleendpoints")
}

func nodes() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
}

// Client is a connection to one cluster. It is safe for concurrent use.
type Client struct {
	dynamic dynamic.Interface
	log     *slog.Logger
	now     func() time.Time
	health  *health
}

// Connect returns a Client for the cluster that the kubeconfig file names, or, if
// it is "", for the one this process runs in. Nothing is asked of the cluster yet.
func Connect(kubeconfig string, log *slog.Logger) (*Client, error) {
	config, err := load(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = clientQPS, clientBurst
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to Kubernetes: %w", err)
	}
	return newClient(d, log), nil
}

func load(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("connect to Kubernetes: %w; outside of a cluster give --kubeconfig FILE", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	return config, nil
}

func newClient(d dynamic.Interface, log *slog.Logger) *Client {
	return &Client{dynamic: d, log: log, now: time.Now, health: newHealth()}
}
