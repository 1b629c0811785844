package reactor

import (
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// claimKey names a claim.
type claimKey struct {
	rule     string
	device   twin.DeviceID
	property string
}

// claim is what one rule wants of one property, and how far the mapper knows.
type claim struct {
	claimKey
	source   string
	priority int
	ttl      time.Duration

	want twin.Value // zero: released
	id   string     // of the command for it; "" while there is none

	queued   bool // waits to be published
	inFlight bool
	tries    int       // how often id was published
	sent     time.Time // when last
	begun    time.Time // when id was first published; until then, when it was queued
	answered bool
	result   twin.Result // the last one, of any command of the claim
	gaveUp   bool        // maxTries without an answer
	told     bool        // that no mapper answers
}

// released reports whether the claim is one that is given back.
func (c *claim) released() bool { return c.want.IsZero() }

// over reports whether nothing is left to do for the claim.
func (c *claim) over() bool {
	return c.released() && !c.queued && !c.inFlight && (c.id == "" || c.answered || c.gaveUp)
}

// due returns when the claim next needs something: to be sent again, or renewed. Zero: never.
func (c *claim) due() time.Time {
	switch {
	case c.id == "" || c.queued || c.inFlight:
		return time.Time{}
	case !c.answered && !c.gaveUp:
		return c.sent.Add(resendAfter)
	case c.released():
		return time.Time{}
	}
	return c.begun.Add(c.ttl / 2)
}

// command is what is published for the claim.
func (c *claim) command() twin.Command {
	cmd := twin.Command{ID: c.id, Property: c.property, Value: c.want, Source: c.source, Priority: c.priority}
	if !c.released() {
		cmd.TTL = c.ttl
	}
	return cmd
}
