package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaPOM names Kafka's jars for Maven; two verbs: Kafka, logger.
const kafkaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>invalid.twinline</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>%s</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>%s</version></dependency>
  </dependencies>
</project>
`

// kafkaArtifact is Apache Kafka as the jars on Maven Central.
func kafkaArtifact() artifact {
	return artifact{
		name: "kafka", version: KafkaVersion,
		files: []string{"kafka_2.13-" + KafkaVersion + ".jar", "slf4j-simple-" + kafkaLogger + ".jar"},
		build: func(ctx context.Context, s *Stack, dir string) error {
			return s.progress.long("fetching Kafka "+KafkaVersion, func() error { return fetchKafka(ctx, dir) })
		},
	}
}

func fetchKafka(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	work, err := os.MkdirTemp("", "twinline-kafka-")
	if err != nil {
		return fmt.Errorf("make fetch folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	pom := filepath.Join(work, "pom.xml")
	if err := writeFile(pom, fmt.Appendf(nil, kafkaPOM, KafkaVersion, kafkaLogger), 0o644); err != nil {
		return err
	}
	_, err = run(ctx, "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+dir)
	return err
}

// java finds Debian's Java 17, which need not be the default one.
func java() (string, error) {
	found, err := filepath.Glob("/usr/lib/jvm/java-17-openjdk-*/bin/java")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("find java 17 below /usr/lib/jvm: %d found", len(found))
	}
	return found[0], nil
}

func (s *Stack) kafka() (launch, error) {
	bin, err := java()
	if err != nil {
		return launch{}, err
	}
	return launch{
		argv: append(s.kafkaJVM(bin, "-Xmx768m", "-Xms256m"),
			"kafka.Kafka", s.path("kafka", "server.properties")),
		ready:       s.kafkaReady,
		startWithin: 90 * time.Second,
		stopWithin:  30 * time.Second,
	}, nil
}

// kafkaReady is ready once the broker is a member of its cluster.
func (s *Stack) kafkaReady(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka))
	if err != nil {
		return fmt.Errorf("ask kafka: %w", err)
	}
	defer client.Close()
	brokers, err := kadm.NewClient(client).ListBrokers(ctx)
	if err == nil && len(brokers) == 0 {
		err = errors.New("it knows no broker")
	}
	if err != nil {
		return fmt.Errorf("ask kafka: %w", err)
	}
	return nil
}

// kafkaJVM is the start of a command line that runs a class of Kafka.
func (s *Stack) kafkaJVM(bin string, flags ...string) []string {
	argv := append([]string{bin}, flags...)
	return append(argv,
		"-Djava.awt.headless=true",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(s.cache.dir(kafkaArtifact()), "*"))
}

// formatKafka writes the configuration of one node, broker and controller, and
// formats its disk. Topics must be created by those who use them.
func (s *Stack) formatKafka(ctx context.Context) error {
	config := s.path("kafka", "server.properties")
	text := strings.NewReplacer(
		"@DIR@", s.path("kafka", "data"),
		"@CONTROL@", fmt.Sprintf("127.0.0.1:%d", s.Ports.KafkaControl),
		"@CLIENT@", s.Kafka,
	).Replace(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@@CONTROL@
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://@CLIENT@,CONTROLLER://@CONTROL@
advertised.listeners=PLAINTEXT://@CLIENT@
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=@DIR@
auto.create.topics.enable=false
num.partitions=3
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=5
group.initial.rebalance.delay.ms=0
`)
	if err := writeFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	bin, err := java()
	if err != nil {
		return err
	}
	const cluster = "dHdpbmxpbmUtZTJlLTAwMQ" // any 16 bytes in base64
	argv := append(s.kafkaJVM(bin), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config)
	_, err = run(ctx, argv...)
	return err
}
