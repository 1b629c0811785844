package reactor

import (
	"errors"

	"github.com/twinline/twinline/internal/app"
)

// Config configures the reactor's binary.
type Config struct {
	app.Common
	Bus   string `key:"bus" help:"the node's MQTT broker"`
	Node  string `key:"node" help:"the edge node: part of the MQTT client id"`
	Rules string `key:"rules" help:"folder of Reaction objects; a changed file is a changed rule"`
	State string `key:"state" help:"folder that remembers what is claimed, so that a restart releases it; empty: claims of before a restart end by their ttl"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Common: app.DefaultCommon(), Bus: "tcp://127.0.0.1:1883"}
}

// Validate says what is missing.
func (c *Config) Validate() error {
	if c.Rules == "" {
		return errors.New("rules: name the folder of the Reaction objects with --rules")
	}
	return nil
}
