// Command devicemgmt shows the twins of all devices of a KubeEdge cluster, and sets
// what they should be.
package main

import (
	"github.com/twinline/twinline/cloudapps/devicemgmt"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/kube"
	"github.com/twinline/twinline/internal/service"
)

func main() {
	s := devicemgmt.DefaultSettings()
	app.Main(app.App{
		Name:    "devicemgmt",
		Summary: "Show the twins of all devices, and set what they should be",
		Example: "  devicemgmt --tokens /etc/twinline/tokens --kafka kafka:9092 --telemetry-url http://telemetry.iot-platform:8080/servicebus\n" +
			"  devicemgmt --kubeconfig ~/.kube/config --allow-anonymous --listen 127.0.0.1:8080",
		Config: &s,
		Build:  func(rt *app.Runtime) (service.Service, error) { return build(rt, &s) },
	})
}

func build(rt *app.Runtime, s *devicemgmt.Settings) (service.Service, error) {
	auth, err := s.Authenticator()
	if err != nil {
		return nil, app.ConfigError(err)
	}
	client, err := kube.Connect(s.Kubeconfig, rt.Log)
	if err != nil {
		return nil, app.ConfigError(err)
	}
	deps := devicemgmt.Deps{Cluster: client, Auth: auth, Log: rt.Log, Registry: rt.Registry}
	var members []service.Service
	if len(s.Kafka) > 0 {
		producer, err := topic(rt, s)
		if err != nil {
			return nil, app.ConfigError(err)
		}
		deps.Publisher = devicemgmt.KafkaPublisher{Producer: producer, Topic: s.Topic}
		members = append(members, producer)
	}
	m := devicemgmt.New(devicemgmt.Config{Silence: s.Silence, StateSilence: s.StateSilence, WriteTime: s.WriteTime}, deps)
	m.Routes(rt.API)
	rt.API.Ready("cluster", m.CheckCluster)
	rt.API.Ready("topic", m.CheckPublisher)
	members = append(members, m)
	if s.TelemetryURL != "" {
		rules, err := kube.NewRules(client, kube.RulesConfig{Namespace: s.RulesNamespace, Target: s.TelemetryURL, Source: s.RulesSource}, rt.Log)
		if err != nil {
			return nil, app.ConfigError(err)
		}
		members = append(members, rules)
	}
	return service.Group("devicemgmt", members...), nil
}

func topic(rt *app.Runtime, s *devicemgmt.Settings) (*kafka.Producer, error) {
	cluster, err := s.Cluster("twinline-devicemgmt")
	if err != nil {
		return nil, err
	}
	topics, err := s.Topics(s.Topic)
	if err != nil {
		return nil, err
	}
	for i := range topics {
		topics[i].Config = map[string]string{"cleanup.policy": "compact"}
	}
	return kafka.NewProducer(kafka.ProducerConfig{Cluster: cluster, Topics: topics, Create: s.CreateTopics}, rt.Log)
}
