package modbus

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Block is one read: Count bits or registers of Table from Start on.
type Block struct {
	Table Table
	Start uint16
	Count uint16
	slots []slot
}

// slot is one field within a block.
type slot struct {
	field int // of the planner's
	out   int // the reading it becomes
}

// plan is how one set of properties is read.
type plan struct {
	names    []string
	template []twin.Reading // with the qualities of what is not read
	blocks   []Block
	first    int           // the block to begin with
	version  int           // of the planner's memory when it was made
	request  time.Duration // the cost of a request when it was made
	until    time.Time     // when the memory it rests on is out of date; zero: never
}

// price is what a read costs: request + registers × register, or + bits × bit.
type price struct {
	request, register, bit time.Duration
}

// Costs that are assumed until they are measured, or where they cannot be.
const (
	assumedTrip       = time.Millisecond       // of a request over a network
	assumedTurnaround = 5 * time.Millisecond   // of a slave
	networkRegister   = 2 * time.Microsecond   // 2 bytes at 10 Mbit/s
	leastTrip         = 250 * time.Microsecond // a request is work for both ends, however fast the network
	gatewayBaud       = 19200                  // behind a transparent gateway, whose line is unknown
)

// frameBytes is a read's request and what is around the data of its answer.
const frameBytes = 8 + 5

// priceOf returns the prices of an endpoint; turnaround is the time that a request
// takes beyond what it takes to carry it.
func priceOf(e Endpoint, turnaround time.Duration) price {
	switch e.Scheme {
	case TCP, UDP:
		return price{request: max(turnaround, leastTrip), register: networkRegister, bit: networkRegister / 16}
	case RTUOverTCP, ASCIIOverTCP:
		e.Baud, e.Parity, e.StopBits, e.DataBits = gatewayBaud, "even", 1, 8
	}
	char := e.char()
	if e.Scheme == ASCII || e.Scheme == ASCIIOverTCP {
		char *= 2
	}
	return price{request: frameBytes*char + 2*e.silence() + turnaround, register: 2 * char, bit: char / 8}
}

// carrying is how long the wire of e is busy with a read of b, as far as it is known.
func carrying(e Endpoint, b *Block) time.Duration {
	p := priceOf(e, 0)
	if e.Scheme == TCP || e.Scheme == UDP {
		p.request = 0
	}
	if b.Table.Bits() {
		return p.request + time.Duration(b.Count)*p.bit
	}
	return p.request + time.Duration(b.Count)*p.register
}

// join is what may be put into one read.
type join struct {
	price
	limit int    // bits or registers
	gap   int    // undeclared ones in a row, or AutoGap
	cuts  []bool // by slot: whether a read must not reach from the one before to it
}

// partition cuts the slots of one table, which are sorted by address, into the
// blocks that cost least together. It never parts a field.
func (p *Planner) partition(table Table, slots []slot, j join) []Block {
	n := len(slots)
	each := j.register
	if table.Bits() {
		each = j.bit
	}
	best := make([]time.Duration, n+1) // of the first i slots
	from := make([]int, n+1)           // where the last block of those begins
	reach := make([]int, n+1)          // the end of what they cover
	for i := range slots {
		reach[i+1] = max(reach[i], p.fields[slots[i].field].End())
	}
	for i := 1; i <= n; i++ {
		best[i] = math.MaxInt64
		end := 0
		for k := i - 1; k >= 0; k-- {
			f := &p.fields[slots[k].field]
			start := int(f.Address)
			end = max(end, f.End())
			if k < i-1 && end-start > j.limit {
				break
			}
			if cost := best[k] + j.request + time.Duration(end-start)*each; cost < best[i] {
				best[i], from[i] = cost, k
			}
			if k == 0 || j.cuts[k] || (j.gap != AutoGap && start-reach[k] > j.gap) {
				break
			}
		}
	}
	var blocks []Block
	for i := n; i > 0; i = from[i] {
		blocks = append(blocks, p.block(table, slots[from[i]:i]))
	}
	slices.Reverse(blocks)
	return blocks
}

// block makes the read that covers slots.
func (p *Planner) block(table Table, slots []slot) Block {
	start, end := lastAddress, 0
	for _, s := range slots {
		start = min(start, int(p.fields[s.field].Address))
		end = max(end, p.fields[s.field].End())
	}
	return Block{Table: table, Start: uint16(start), Count: uint16(end - start), slots: slots}
}

// makePlan plans the reading of names. Fields that the device refused are left out until
// they are due again, unless nothing else is left to ask.
func (p *Planner) makePlan(names []string, now time.Time) *plan {
	pl := &plan{names: slices.Clone(names), template: make([]twin.Reading, len(names)), version: p.version, request: p.turnaround}
	var tables [Tables][]slot
	var refused []slot
	for i, name := range names {
		pl.template[i].Property = name
		k, ok := p.byName[name]
		if !ok {
			pl.template[i].Quality = badConfig
			continue
		}
		if m := p.refused[k]; m == nil {
			table := p.fields[k].Table
			tables[table] = append(tables[table], slot{k, i})
		} else {
			pl.template[i].Quality = m.quality
			refused = append(refused, slot{k, i})
		}
	}
	for t, slots := range tables {
		table := Table(t)
		slices.SortFunc(slots, func(a, b slot) int {
			f, g := &p.fields[a.field], &p.fields[b.field]
			return cmp.Or(cmp.Compare(f.Address, g.Address), cmp.Compare(f.End(), g.End()), cmp.Compare(a.out, b.out))
		})
		j := join{price: priceOf(p.config.Endpoint, p.turnaround), limit: p.config.MaxRegisters, gap: p.config.Gap}
		if table.Bits() {
			j.limit = p.config.MaxCoils
		}
		if j.gap != AutoGap {
			j.request = time.Hour // who says how far a read may reach wants as few as can be
		}
		j.cuts = p.cutsOf(table, slots, now)
		pl.blocks = append(pl.blocks, p.partition(table, slots, j)...)
	}
	for at, until := range p.cuts {
		if now.Before(until) {
			pl.expires(until)
		} else {
			delete(p.cuts, at)
		}
	}
	p.askRefused(pl, refused, now)
	return pl
}

// cutsOf says where reads of slots must end: at what was learned not to go
// together, and around fields that the device refuses.
func (p *Planner) cutsOf(table Table, slots []slot, now time.Time) []bool {
	cuts := make([]bool, len(slots))
	for k := 1; k < len(slots); k++ {
		before, here := p.fields[slots[k-1].field].Address, p.fields[slots[k].field].Address
		cuts[k] = before != here && now.Before(p.cuts[cut{table, int(here)}])
		for field := range p.refused {
			if f := &p.fields[field]; f.Table == table && before <= f.Address && f.Address < here {
				cuts[k] = true
			}
		}
	}
	return cuts
}

// askRefused adds those of the refused fields that are due, each alone.
func (p *Planner) askRefused(pl *plan, refused []slot, now time.Time) {
	slices.SortFunc(refused, func(a, b slot) int { return p.refused[a.field].retry.Compare(p.refused[b.field].retry) })
	for _, s := range refused {
		m := p.refused[s.field]
		if due := !now.Before(m.retry); due || len(pl.blocks) == 0 {
			pl.blocks = append(pl.blocks, p.block(p.fields[s.field].Table, []slot{s}))
			pl.template[s.out].Quality = ""
			continue
		}
		pl.expires(m.retry)
	}
}

func (pl *plan) expires(t time.Time) {
	if pl.until.IsZero() || t.Before(pl.until) {
		pl.until = t
	}
}
