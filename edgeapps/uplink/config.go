package uplink

import (
	"errors"
	"fmt"
	"time"

	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/pkg/twin"
)

// Defaults of a Config.
const (
	DefaultBatchRecords = 5000
	DefaultBatchBytes   = 1 << 20
	DefaultLinger       = time.Second
	DefaultRate         = 10.0
	DefaultHeartbeat    = 10 * time.Second
	DefaultDownAfter    = 15 * time.Second
	DefaultIntakeBytes  = 16 << 20
	DefaultMaxDevices   = 16384
)

// Bounds that are not configured.
const (
	// MinSpoolBytes is the least a spool may take: some segments, each of which
	// holds the largest sample.
	MinSpoolBytes = 16 << 20

	ackEvery       = 200 * time.Millisecond // acknowledgements on the bus are gathered for so long
	speakEvery     = time.Minute            // an acknowledgement is due at least so often: mappers forget a silent uplink after 15 min
	maxAckDevices  = 1000                   // devices in one acknowledgement: about 100 kB
	positionsEvery = 5 * time.Second        // positions are written to disk so often
	storeRetry     = time.Second            // pause before a failed append is tried again
	storeRecords   = 1024                   // samples that are stored together
	receivePause   = time.Second            // a full intake holds the bus back for so long

	minBackoff       = 500 * time.Millisecond
	maxBackoff       = 15 * time.Second // a link that comes back is used within this
	unauthorisedWait = 30 * time.Second // a wrong token needs a person, and trying looks like an attack

	gapPatience = 5 * time.Second // between two rounds in which a mapper sends again: it waits 10 s and more
	gapRounds   = 2               // so many rounds without what fills it make a hole in a device's sequence final
	gapLimit    = 5 * time.Minute // after so long it is taken as final in any case
	maxAhead    = 16              // runs of samples of one device beyond a hole that are remembered; the highest are forgotten first

	rejectEvery      = time.Minute // between two records that are given up, after the first maxRejects: a cloud that refuses everything must not empty the spool
	maxRejects       = 32
	maxRejectedBytes = 16 << 20 // files in rejected/ together; the oldest go first
)

// Config says what an Uplink does. The zero value of a field means its default.
type Config struct {
	Node string // the node's name
	Dir  string // of the spool; positions and rejected samples are kept there too

	BatchRecords int           // samples in a batch, at most
	BatchBytes   int           // their JSON, in bytes, at most; one sample goes in any case
	Linger       time.Duration // how long a batch waits for more samples
	Rate         float64       // batches a second, at most. EdgeHub takes 30 messages a second for everything; twins need their share
	Heartbeat    time.Duration // how often the way to the cloud is tried when there is nothing to send
	DownAfter    time.Duration // how long nothing may be acknowledged until the link counts as down
	IntakeBytes  int64         // samples in memory on their way to disk, at most, in bytes
	MaxDevices   int           // devices whose position is kept; samples of more are refused
}

func (c Config) withDefaults() Config {
	setDefault(&c.BatchRecords, DefaultBatchRecords)
	setDefault(&c.BatchBytes, DefaultBatchBytes)
	setDefault(&c.Linger, DefaultLinger)
	setDefault(&c.Rate, DefaultRate)
	setDefault(&c.Heartbeat, DefaultHeartbeat)
	setDefault(&c.DownAfter, DefaultDownAfter)
	setDefault(&c.IntakeBytes, DefaultIntakeBytes)
	setDefault(&c.MaxDevices, DefaultMaxDevices)
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

func (c Config) validate() error {
	switch {
	case c.Node == "" || len(c.Node) > twin.MaxNameLength:
		return fmt.Errorf("node name has %d bytes, want 1 to %d", len(c.Node), twin.MaxNameLength)
	case c.Dir == "":
		return errors.New("no directory for the spool is given")
	case c.BatchRecords < 1 || c.BatchRecords > forward.MaxSamples:
		return fmt.Errorf("batches of %d records, want 1 to %d", c.BatchRecords, forward.MaxSamples)
	case c.BatchBytes < 1 || c.BatchBytes > forward.MaxPlain:
		return fmt.Errorf("batches of %d bytes, want 1 to %d", c.BatchBytes, forward.MaxPlain)
	case c.Rate < 0.1 || c.Rate > 1000:
		return fmt.Errorf("%g batches a second, want 0.1 to 1000", c.Rate)
	case c.Linger < 0 || c.Linger > time.Minute:
		return fmt.Errorf("linger of %s, want 0 to 1 m", c.Linger)
	case c.Heartbeat < time.Second || c.Heartbeat > 10*time.Minute:
		return fmt.Errorf("heartbeat of %s, want 1 s to 10 m", c.Heartbeat)
	case c.DownAfter < time.Second || c.DownAfter > time.Hour:
		return fmt.Errorf("link down after %s, want 1 s to 1 h", c.DownAfter)
	case c.IntakeBytes < twin.MaxSampleSize:
		return fmt.Errorf("intake of %d bytes, want %d at least", c.IntakeBytes, twin.MaxSampleSize)
	case c.MaxDevices < 1:
		return fmt.Errorf("%d devices, want 1 at least", c.MaxDevices)
	}
	return nil
}
