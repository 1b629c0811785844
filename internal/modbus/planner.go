package modbus

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// Planner reads the fields of one device in as few and as cheap requests as it
// can, and learns: how long a request takes, which addresses the device refuses,
// and which it does not give in one read. Not safe for concurrent use.
type Planner struct {
	config     *Config
	fields     []Field
	byName     map[string]int
	turnaround time.Duration // measured, see priceOf
	measured   bool
	refused    map[int]*refusedField // by field
	cuts       map[cut]time.Time     // until when
	version    int                   // of refused and cuts
	plans      []*plan               // latest last
}

// cut says that the device does not give what is before the address and what
// begins with it in one read.
type cut struct {
	table   Table
	address int
}

// refusedField is a field that the device refuses even alone.
type refusedField struct {
	quality twin.Quality
	wait    time.Duration
	retry   time.Time
}

// Bounds of what is learned. A field has at most one entry of each.
const (
	firstRetry = 10 * time.Second // of a refused field; doubled each time
	lastRetry  = 10 * time.Minute
	cutFor     = time.Hour // a device may have got other firmware since
	// maxPlans bounds the plans kept: there are about as many sets of properties
	// that are due together as there are cycles.
	maxPlans = 16
	// giveUp is after how many reads in a row without any answer the rest is not asked for.
	giveUp = 2
)

const badConfig twin.Quality = "bad:config"

// Ask carries out one read; see Client.Read. took is how long the line was busy
// with it, without any waiting for the line.
type Ask func(ctx context.Context, b *Block) (data []byte, took time.Duration, err error)

// NewPlanner returns a planner that knows nothing yet.
func NewPlanner(d *Declaration) *Planner {
	p := &Planner{
		config: &d.Config, fields: d.Fields, byName: make(map[string]int, len(d.Fields)),
		turnaround: assumedTurnaround, refused: map[int]*refusedField{}, cuts: map[cut]time.Time{},
	}
	if s := d.Config.Endpoint.Scheme; s == TCP || s == UDP {
		p.turnaround = assumedTrip
	}
	for i := range d.Fields {
		p.byName[d.Fields[i].Property] = i
	}
	return p
}

// Read implements mapper.Conn's Read by means of ask.
func (p *Planner) Read(ctx context.Context, names []string, ask Ask) ([]twin.Reading, error) {
	pl := p.planFor(names, time.Now())
	r := round{Planner: p, ctx: ctx, ask: ask, out: make([]twin.Reading, len(names))}
	copy(r.out, pl.template)
	fails := 0
	for k := range pl.blocks {
		b := &pl.blocks[(pl.first+k)%len(pl.blocks)]
		if fails >= giveUp || r.stop {
			r.spoil(b.slots, r.err)
			continue
		}
		if r.block(b); r.failed {
			fails++
		} else {
			fails = 0
		}
	}
	if fails >= giveUp { // begin elsewhere, lest the first ones always hide the rest
		pl.first = (pl.first + 1) % len(pl.blocks)
	}
	if !r.answered && r.err != nil {
		return nil, r.err
	}
	return r.out, nil
}

// planFor returns the plan of a set of names.
func (p *Planner) planFor(names []string, now time.Time) *plan {
	for i, pl := range p.plans {
		if !slices.Equal(pl.names, names) {
			continue
		}
		if pl.version == p.version && (pl.until.IsZero() || now.Before(pl.until)) && !p.costChanged(pl.request) {
			return pl
		}
		p.plans[i] = p.makePlan(names, now)
		return p.plans[i]
	}
	if len(p.plans) >= maxPlans {
		p.plans = slices.Delete(p.plans, 0, 1)
	}
	pl := p.makePlan(names, now)
	p.plans = append(p.plans, pl)
	return pl
}

// costChanged reports whether the device answers so much faster or slower than
// before that other reads may be cheaper.
func (p *Planner) costChanged(before time.Duration) bool {
	return p.config.Gap == AutoGap && (p.turnaround > 2*before+time.Millisecond || before > 2*p.turnaround+time.Millisecond)
}

// measure learns from a read that was answered.
func (p *Planner) measure(b *Block, took time.Duration) {
	turnaround := max(0, took-carrying(p.config.Endpoint, b))
	if !p.measured {
		p.turnaround, p.measured = turnaround, true
		return
	}
	p.turnaround += (turnaround - p.turnaround) / 8
}

// round is one Read.
type round struct {
	*Planner
	ctx      context.Context
	ask      Ask
	out      []twin.Reading
	err      error // the last that was no exception
	answered bool  // by anything, be it an exception
	failed   bool  // the last block had no answer
	stop     bool  // it is no use to go on
}

// block reads b. clean is false if the device refused something in it.
func (r *round) block(b *Block) (clean bool) {
	data, err := r.try(b)
	r.failed = false
	switch {
	case err == nil:
		r.answered = true
		r.accept(b, data)
		return true
	case Exception(err) == 0, errors.Is(err, link.ErrSilent): // a gateway's exceptions are no answer of the device
		r.err, r.failed = err, true
		r.spoil(b.slots, err)
		return true
	}
	r.answered = true
	if !Illegal(err) {
		r.spoil(b.slots, err)
		return true
	}
	if k := r.middle(b); k > 0 {
		r.halve(b, k)
		return false
	}
	r.spoil(b.slots, err)
	for _, s := range b.slots {
		r.refuse(s.field, r.out[s.out].Quality)
	}
	return false
}

// accept decodes the answer to b.
func (r *round) accept(b *Block, data []byte) {
	for _, s := range b.slots {
		f := &r.fields[s.field]
		out := &r.out[s.out]
		out.Value, out.Quality = f.Decode(data, int(f.Address-b.Start))
		if len(r.refused) > 0 && r.refused[s.field] != nil {
			delete(r.refused, s.field)
			r.version++
		}
	}
}

// spoil gives slots the quality of err.
func (r *round) spoil(slots []slot, err error) {
	bad := twin.Bad(mapper.Reason(err))
	for _, s := range slots {
		r.out[s.out].Value, r.out[s.out].Quality = twin.Value{}, bad
	}
}

// try reads b, again where that may help.
func (r *round) try(b *Block) (data []byte, err error) {
	for attempt := 0; ; attempt++ {
		var took time.Duration
		data, took, err = r.ask(r.ctx, b)
		if err == nil {
			r.measure(b, took)
			return data, nil
		}
		again := Busy(err) || errors.Is(err, link.ErrSilent) || errors.Is(err, link.ErrDown) || isDamaged(err)
		if r.ctx.Err() != nil || (!again && Exception(err) == 0) {
			r.stop = true
			return nil, err
		}
		if !again || attempt >= r.config.Retries {
			r.stop = errors.Is(err, link.ErrDown)
			return nil, err
		}
	}
}

// isDamaged reports whether an answer came that was not one.
func isDamaged(err error) bool {
	why := mapper.Reason(err)
	return why == whyChecksum || why == whyMismatch || why == whyNoise
}

// middle is where to halve b: between two fields near the middle, 0 if all its
// fields cover the same.
func (r *round) middle(b *Block) int {
	at := func(k int) [2]uint16 { f := &r.fields[b.slots[k].field]; return [2]uint16{f.Address, f.Count} }
	for step := range len(b.slots) {
		for _, k := range [2]int{len(b.slots)/2 - step, len(b.slots)/2 + step} {
			if k > 0 && k < len(b.slots) && at(k) != at(k-1) {
				return k
			}
		}
	}
	return 0
}

// halve reads b in two parts. Where both are given and the whole was not, what
// is between them is the reason.
func (r *round) halve(b *Block, k int) {
	left, right := r.Planner.block(b.Table, b.slots[:k]), r.Planner.block(b.Table, b.slots[k:])
	okLeft := r.block(&left)
	failed := r.failed
	if r.stop || failed {
		r.spoil(right.slots, r.err)
		return
	}
	okRight := r.block(&right)
	if okLeft && okRight && !r.failed && left.Start != right.Start {
		r.cuts[cut{b.Table, int(right.Start)}] = time.Now().Add(cutFor)
		r.version++
	}
}

// refuse remembers that the device does not give a field.
func (r *round) refuse(field int, quality twin.Quality) {
	m := r.refused[field]
	if m == nil {
		m = &refusedField{}
		r.refused[field] = m
	}
	m.quality = quality
	m.wait = min(max(2*m.wait, firstRetry), lastRetry)
	m.retry = time.Now().Add(m.wait)
	r.version++
}
