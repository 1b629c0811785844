package mapper

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Bounds and defaults of a Mapper.
const (
	// MaxDevices bounds the devices of one process. Each costs three goroutines
	// and, with 50 properties, about 40 kB.
	MaxDevices = 10_000

	// DefaultBacklogSamples bounds the samples of one device that nobody has
	// confirmed: 17 minutes at one sample a second.
	DefaultBacklogSamples = 1024

	// DefaultBacklogBytes bounds the unconfirmed samples of all devices.
	DefaultBacklogBytes = 64 << 20

	// DefaultAckTimeout is how long the acknowledgement of a sample may take: some
	// hundred times the group commit of an uplink.
	DefaultAckTimeout = 10 * time.Second

	// DefaultWriteTimeout is how long a device may take to show a written value.
	DefaultWriteTimeout = 10 * time.Second

	// DefaultCallTimeout ends one call of the driver: longer than the slowest
	// device needs, so that it only ever ends a call that hangs. A meter that is read at 300 baud
	// (IEC 62056-21, mode A) sends 30 bytes a second, and 8 KiB at most.
	DefaultCallTimeout = 5 * time.Minute
)

// Config says what a Mapper is made of. Driver, Source, Bus and Twins are needed.
type Config struct {
	Name   string // in errors and logs; "mapper" if empty
	Driver Driver
	Source Source
	Bus    Bus
	Twins  Twins

	// Store keeps the epoch and the desired values that were dealt with. Nil: the
	// epoch is found by the acknowledgements of uplinks, and a restart
	// cannot tell a new desired value from an old one, so a value that
	// is there when a device is first seen is not written.
	Store Store

	Log *slog.Logger // nil: no logs

	BacklogSamples int           // per device; zero: DefaultBacklogSamples
	BacklogBytes   int           // of all devices; zero: DefaultBacklogBytes
	AckTimeout     time.Duration // zero: DefaultAckTimeout
	WriteTimeout   time.Duration // zero: DefaultWriteTimeout
	CallTimeout    time.Duration // zero: DefaultCallTimeout
}

// complete fills in the defaults, or says what is missing.
func (c *Config) complete() error {
	for name, missing := range map[string]bool{"Driver": c.Driver == nil, "Source": c.Source == nil, "Bus": c.Bus == nil, "Twins": c.Twins == nil} {
		if missing {
			return fmt.Errorf("mapper: Config.%s is missing", name)
		}
	}
	if c.BacklogSamples < 0 || c.BacklogBytes < 0 || c.AckTimeout < 0 || c.WriteTimeout < 0 || c.CallTimeout < 0 {
		return errors.New("mapper: a bound in Config is negative")
	}
	if c.Name == "" {
		c.Name = "mapper"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value    *int
		standard int
	}{{&c.BacklogSamples, DefaultBacklogSamples}, {&c.BacklogBytes, DefaultBacklogBytes}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&c.AckTimeout, DefaultAckTimeout}, {&c.WriteTimeout, DefaultWriteTimeout}, {&c.CallTimeout, DefaultCallTimeout}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	return nil
}
