// Package reactor runs Reactions on an edge node: it listens to telemetry on the
// local bus, and claims properties by commands on the same bus while a rule holds. It needs
// no cloud.
package reactor

import (
	"context"
	"time"

	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of a reactor.
const (
	// MaxRules bounds the rules of one node; those beyond it are refused, each with a problem.
	MaxRules = 1000

	// maxInbox bounds the messages that wait to be looked at: some seconds of
	// the busiest node. The oldest give way, and are counted.
	maxInbox = 4096

	// resendAfter is how long the result of a command is awaited: a mapper answers
	// that a command is pending as soon as it has it.
	resendAfter = 5 * time.Second

	// maxTries bounds how often one command is sent. The next renewal is a new one.
	maxTries = 5

	// minInterval paces the commands that follow a valueExpr, for each claim.
	minInterval = time.Second

	// publishTimeout bounds one try to hand a command to the broker.
	publishTimeout = 10 * time.Second

	// retryPause parts two tries to publish or to save the state.
	retryPause = time.Second

	// maxComplaints bounds the subjects whose malformed messages are told in the log.
	maxComplaints = 1024
)

// Bus is the node's broker.
type Bus interface {
	// Publish sends with QoS 1 and returns when the broker has it, or ctx ends.
	Publish(ctx context.Context, topic string, payload []byte) error
	// Subscribe calls handle for each message that matches filter, one at a time
	// per filter, also after reconnects.
	Subscribe(filter string, handle func(topic string, payload []byte)) (unsubscribe func(), err error)
}

// Source says which rules there are.
type Source interface {
	// Run calls set with all rules and their problems, first as soon as they are
	// known and then whenever they change, until ctx ends; then it returns nil.
	Run(ctx context.Context, set func(rules []*rule.Rule, problems []twin.Problem)) error
}

// Store keeps what a restart must know.
type Store interface {
	// Load returns what was saved last; the zero State if nothing was.
	Load() (State, error)
	// Save returns when the state is on disk.
	Save(State) error
}

// State is what a restart must know: which rules held, and what was claimed.
type State struct {
	Holding map[string]time.Time `json:"holding"` // by rule, since when
	Claims  []SavedClaim         `json:"claims"`
}

// SavedClaim is one claim that a mapper may still have.
type SavedClaim struct {
	Rule     string        `json:"rule"`
	Device   twin.DeviceID `json:"device"`
	Property string        `json:"property"`
}
