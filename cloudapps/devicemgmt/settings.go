package devicemgmt

import (
	"errors"
	"time"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/kube"
)

// TwinsTopic is the compacted topic of twins: key device_id, value the View.
const TwinsTopic = "iot-twins"

// Settings are the keys of the binary.
type Settings struct {
	app.Common
	kafka.Flags
	kafka.TopicFlags
	Topic          string        `key:"topic" help:"compacted topic of twins, written if --kafka is given"`
	Kubeconfig     string        `key:"kubeconfig" help:"file that names the cluster; empty: the one this process runs in"`
	Tokens         string        `key:"tokens" help:"file with the bearer tokens of those who may see and set twins, one a line"`
	AllowAnonymous bool          `key:"allow-anonymous" help:"let anyone see and set twins who reaches the port"`
	TelemetryURL   string        `key:"telemetry-url" help:"where CloudCore brings the edge's telemetry, http://telemetry.iot-platform:8080/servicebus; a Rule is kept for each edge node; empty: none"`
	RulesNamespace string        `key:"rules-namespace" help:"namespace of those Rules"`
	RulesSource    string        `key:"rules-source" help:"target_url of those Rules: what uplink posts to"`
	Silence        time.Duration `key:"silence" help:"a property that is not reported again within this is stale"`
	StateSilence   time.Duration `key:"state-silence" help:"a device of which nothing is heard within this is stale"`
	WriteTime      time.Duration `key:"write-time" help:"a desired value that is not seen on the device within this is overdue"`
}

// DefaultSettings returns the defaults.
func DefaultSettings() Settings {
	return Settings{
		Common: app.DefaultCommon(), Flags: kafka.DefaultFlags(), TopicFlags: kafka.DefaultTopicFlags(),
		Topic: TwinsTopic, RulesNamespace: "iot-platform", RulesSource: kube.DefaultRuleSource,
		Silence: DefaultSilence, StateSilence: DefaultStateSilence, WriteTime: DefaultWriteTime,
	}
}

// maxSilence bounds the durations: a twin that old tells nothing.
const maxSilence = 7 * 24 * time.Hour

// Validate says what is wrong, and what would be right.
func (s *Settings) Validate() error {
	switch {
	case s.Tokens == "" && !s.AllowAnonymous:
		return errors.New("tokens is not set: give a file with bearer tokens, or say allow-anonymous")
	case s.Tokens != "" && s.AllowAnonymous:
		return errors.New("tokens and allow-anonymous exclude each other")
	case len(s.Kafka) > 0 && s.Topic == "":
		return errors.New("topic must not be empty")
	case min(s.Silence, s.StateSilence, s.WriteTime) < time.Second || max(s.Silence, s.StateSilence, s.WriteTime) > maxSilence:
		return errors.New("silence, state-silence and write-time: want 1s to 168h")
	}
	return nil
}

// Authenticator returns the one that the settings name.
func (s *Settings) Authenticator() (Authenticator, error) {
	if s.AllowAnonymous {
		return Anonymous{}, nil
	}
	tokens, err := app.ReadTokens(s.Tokens)
	if err == nil && len(tokens) == 0 {
		err = errors.New("the file of --tokens holds no token")
	}
	return BearerTokens{tokens}, err
}
