package stack

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// Ports are the loopback TCP ports of a stack.
type Ports struct {
	Etcd           int `json:"etcd"`
	EtcdPeer       int `json:"etcdPeer"`
	APIServer      int `json:"apiServer"`
	Controllers    int `json:"controllers"`
	Scheduler      int `json:"scheduler"`
	CloudHub       int `json:"cloudHub"`
	CloudHubHTTPS  int `json:"cloudHubHTTPS"`
	CloudMonitor   int `json:"cloudMonitor"`
	Router         int `json:"router"`
	Edged          int `json:"edged"`
	MetaServer     int `json:"metaServer"`
	ServiceBus     int `json:"serviceBus"`
	Broker         int `json:"broker"`
	Kafka          int `json:"kafka"`
	KafkaControl   int `json:"kafkaControl"`
	Database       int `json:"database"`
	ContainerdHTTP int `json:"containerdHTTP"`
}

// wantedPorts are the ports a stack takes on an idle machine. MetaServer,
// ServiceBus and the broker keep their customary numbers, because edge parts
// default to them; the others stay off the customary ones.
func wantedPorts() Ports {
	return Ports{
		Etcd: 22379, EtcdPeer: 22380,
		APIServer: 26443, Controllers: 20257, Scheduler: 20259,
		CloudHub: 21000, CloudHubHTTPS: 21002, CloudMonitor: 29091, Router: 29443,
		Edged: 20350, MetaServer: 10550, ServiceBus: 9060, Broker: 1883,
		Kafka: 29092, KafkaControl: 29093, Database: 25432, ContainerdHTTP: 20010,
	}
}

// list returns pointers to every port, in a fixed order.
func (p *Ports) list() []*int {
	return []*int{
		&p.Etcd, &p.EtcdPeer, &p.APIServer, &p.Controllers, &p.Scheduler,
		&p.CloudHub, &p.CloudHubHTTPS, &p.CloudMonitor, &p.Router,
		&p.Edged, &p.MetaServer, &p.ServiceBus, &p.Broker,
		&p.Kafka, &p.KafkaControl, &p.Database, &p.ContainerdHTTP,
	}
}

// choosePorts returns the wanted ports, each moved up to the next one that is
// neither busy nor taken by another. It gives up after 200 steps per port.
func choosePorts(want Ports, busy func(port int) bool) (Ports, error) {
	taken := map[int]bool{}
	for _, p := range want.list() {
		taken[*p] = true
	}
	for _, p := range want.list() {
		if !busy(*p) {
			continue
		}
		first, found := *p, false
		for step := 1; step <= 200 && first+step < 65536; step++ {
			next := first + step
			if taken[next] || busy(next) {
				continue
			}
			*p, found = next, true
			taken[next] = true
			break
		}
		if !found {
			return Ports{}, fmt.Errorf("choose a port: none free from %d to %d", first, first+200)
		}
	}
	return want, nil
}

// portBusy reports whether something listens on the loopback port.
func portBusy(port int) bool {
	var c net.ListenConfig
	l, err := c.Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return true
	}
	_ = l.Close()
	return false
}
