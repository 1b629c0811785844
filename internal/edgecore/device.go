package edgecore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Intervals of one device's messages.
const (
	resultTimeout  = 10 * time.Second       // EdgeCore answers within milliseconds; while it writes to a slow disk, seconds
	minGap         = 200 * time.Millisecond // between an answer and the next message: EdgeCore hands updates on in no certain order
	repeatGap      = time.Second            // before a report is repeated: CloudCore must have dealt with the first
	minRetry       = time.Second            // after a first failure
	maxRetry       = time.Minute            // after many: an EdgeCore that comes back is found within it
	minRetryAbsent = 15 * time.Second       // after a 404: somebody has to mend the membership
	maxRetryAbsent = 5 * time.Minute        //
	reconnectGrace = 6 * time.Second        // EdgeCore looks for the broker every 5 s (eventbus/mqtt, LoopConnect)
	firstRepeats   = 2                      // CloudCore loses the first report of each property (devicecontroller, findOrCreateTwinByName)
)

// device is the twin of one device on its way. It is a state machine
// without I/O: the Reporter tells it what happens and when, and asks it for the next
// message. Reporter.mu guards it.
type device struct {
	id    twin.DeviceID
	decl  *twin.Device
	names []string // of props, in the declaration's order
	props map[string]*property
	wrong []twin.Problem // of the declaration

	state      twin.DeviceState // "": none yet
	stateKnown twin.DeviceState // what EdgeCore has confirmed
	stateAt    time.Time        // when it is told again
	stateTurn  bool             // the last message could have been the state

	flight     *flight   // the message that has no answer yet
	lastID     string    // the message before: its answer may come twice
	notBefore  time.Time // nothing is sent earlier
	failures   int       // in a row
	limit      int       // most properties per message while a wrong one is looked for; 0: none
	rover      int       // where in names the next message begins
	absent     bool      // EdgeCore does not know the device
	announceAt time.Time // when everything is told again
	turn       uint64    // when it was last served
	next       time.Time // when compose may have something; zero: now
	newsAt     time.Time // when what is told is news and not a repetition
}

// property is one reported property.
type property struct {
	name  string
	typ   string
	decl  twin.Type
	cycle time.Duration
	band  float64    // known is near enough to a value within it
	wish  twin.Value // the desired value, which is told whatever the band; zero: none

	latest   told // the latest value
	has      bool // latest is what the device shows now
	known    told // what EdgeCore has confirmed
	isKnown  bool
	repeats  int       // sends that are due whatever is known, regardless of cycle
	lastSent time.Time //

	refused   string // why EdgeCore refuses it; "": it does not
	retry     bool   // refused, and to be tried again, alone
	reset     bool   // to be removed from EdgeCore's twin, alone
	resetDone bool   // a reset was tried since it was last accepted
	unfit     string // why the latest value cannot be told
}

// told is a value as it is told to EdgeCore, and as it was read.
type told struct {
	text  string
	value twin.Value
}

// flight is one message without an answer.
type flight struct {
	eventID  string
	state    twin.DeviceState // a state/update, if not ""
	texts    map[string]told  // a twin/update
	reset    bool             // a twin/update that removes the only property of texts
	deadline time.Time        // zero until it is published
}

// message is what the Reporter publishes.
type message struct {
	topic   string
	payload []byte
	flight  *flight
}

// declare takes the declaration. It keeps what is known of properties that stay.
func (d *device) declare(decl *twin.Device) {
	if d.decl == decl {
		return
	}
	d.decl = decl
	old := d.props
	d.props = make(map[string]*property, len(decl.Properties))
	d.names, d.wrong, d.rover = nil, nil, 0
	if err := CheckDevice(d.id); err != nil {
		d.wrong = append(d.wrong, twin.Problem{
			Object: "Device " + d.id.String(), Field: "metadata.namespace", What: err.Error(), Remedy: "move the device to another namespace",
		})
		return
	}
	for i := range decl.Properties {
		p := &decl.Properties[i]
		if !p.ReportToCloud {
			continue
		}
		if !ValidName(p.Name) {
			d.wrong = append(d.wrong, twin.Problem{
				Object: "Device " + d.id.String(), Field: fmt.Sprintf("spec.properties[%d].name", i),
				What:   fmt.Sprintf("%.80q cannot be the name of a twin's property", p.Name),
				Remedy: fmt.Sprintf("use 1 to %d letters, digits and -_.,:/@#", MaxName),
			})
			continue
		}
		next := &property{name: p.Name, typ: TypeOf(p.Type), decl: p.Type, cycle: p.ReportCycle, band: p.Deadband, wish: wishOf(p), repeats: firstRepeats}
		if was, ok := old[p.Name]; ok && was.typ == next.typ {
			was.decl, was.cycle, was.band, was.wish = next.decl, next.cycle, next.band, next.wish
			next = was
		}
		d.props[p.Name] = next
		d.names = append(d.names, p.Name)
	}
}

// report takes readings. It returns how many values do not fit, and the
// properties of which that is news.
func (d *device) report(readings []twin.Reading) (unfit int, news []*property) {
	for i := range readings {
		r := &readings[i]
		p, ok := d.props[r.Property]
		if !ok {
			continue
		}
		if r.Quality.IsBad() || r.Value.IsZero() {
			p.lose()
			continue
		}
		text, err := EncodeValue(p.decl, r.Value)
		if err != nil {
			p.lose()
			unfit++
			if p.unfit == "" {
				news = append(news, p)
			}
			p.unfit = err.Error()
			continue
		}
		p.latest, p.has, p.unfit = told{text, r.Value}, true, ""
	}
	return unfit, news
}

// lose notes that there is no value now. EdgeCore keeps the last one, whose age
// tells; the next one is news, even if equal.
func (p *property) lose() { p.has, p.isKnown = false, false }

// dirty reports whether there is something to tell of p, and when it may be told.
func (p *property) dirty() (at time.Time, ok bool) {
	switch {
	case !p.has || p.refused != "":
		return time.Time{}, false
	case p.repeats > 0:
		if p.lastSent.IsZero() {
			return time.Time{}, true
		}
		return p.lastSent.Add(min(repeatGap, max(p.cycle, minGap))), true
	case p.changed():
		return p.lastSent.Add(p.cycle), true
	}
	return time.Time{}, false
}

// announce makes everything due now, times times.
func (d *device) announce(times int) {
	for _, p := range d.props {
		p.repeats = max(p.repeats, times)
		p.retry = p.refused != ""
	}
	d.stateAt = time.Time{}
}

// hurry lets the next message go at at, whatever failed before.
func (d *device) hurry(at time.Time) { d.notBefore, d.failures = at, 0 }

// plan computes next and newsAt.
func (d *device) plan() {
	d.newsAt = never()
	if d.flight != nil {
		if d.next = d.flight.deadline; d.next.IsZero() {
			d.next = never()
		}
		return
	}
	d.next = d.announceAt
	if d.mayState() {
		d.sooner(d.stateAt)
		if d.state != d.stateKnown {
			d.newsAt = time.Time{}
		}
	}
	for _, p := range d.props {
		if at, ok := p.dirty(); ok {
			d.sooner(at)
			if at.Before(d.newsAt) && p.changed() {
				d.newsAt = at
			}
		}
		if p.retry || p.reset {
			d.sooner(time.Time{})
		}
	}
	d.sooner(d.newsAt)
	if d.next.Before(d.notBefore) {
		d.next = d.notBefore
	}
}

func (d *device) sooner(at time.Time) {
	if at.Before(d.next) {
		d.next = at
	}
}

// never is later than all.
func never() time.Time { return time.Unix(1<<40, 0) }

// mayState reports whether the state may be sent. EdgeCore does not answer that of
// a device that it does not know, so such a device is asked for by its twin, if it can be.
func (d *device) mayState() bool {
	if d.state == "" || !d.absent {
		return d.state != ""
	}
	for _, p := range d.props {
		if p.has {
			return false
		}
	}
	return true
}

// compose returns the next message; nil if there is none now.
func (d *device) compose(now time.Time, eventID string) *message {
	stateDue := d.mayState() && (d.state != d.stateKnown || !now.Before(d.stateAt))
	// In turns: EdgeCore does not answer the state of a device that it does not know,
	// and only a twin/update tells.
	d.stateTurn = !d.stateTurn
	if stateDue && d.stateTurn {
		return d.composeState(now, eventID)
	}
	if m := d.composeTwin(now, eventID); m != nil || !stateDue {
		return m
	}
	return d.composeState(now, eventID)
}

func (d *device) composeState(now time.Time, eventID string) *message {
	d.flight = &flight{eventID: eventID, state: d.state}
	return &message{StateUpdateTopic(d.id), StateUpdate(eventID, now, d.state), d.flight}
}

func (d *device) composeTwin(now time.Time, eventID string) *message {
	f := &flight{eventID: eventID}
	actuals := d.due(now)
	if len(actuals) == 0 {
		if actuals = d.single(); len(actuals) == 0 {
			return nil
		}
		f.reset = actuals[0].Type == ""
	}
	f.texts = make(map[string]told, len(actuals))
	for _, a := range actuals {
		p := d.props[a.Name]
		f.texts[a.Name], p.lastSent = p.latest, now
	}
	d.flight = f
	return &message{TwinUpdateTopic(d.id), TwinUpdate(eventID, now, actuals), f}
}

// due returns the properties that may be told together now: at most limit of
// them and at most MaxUpdate bytes; the rest goes with the next message.
func (d *device) due(now time.Time) []Actual {
	var actuals []Actual
	size := updateFrame
	for range d.names {
		p := d.props[d.names[d.rover%len(d.names)]]
		if at, ok := p.dirty(); ok && !at.After(now) {
			a := Actual{Name: p.name, Value: p.latest.text, Type: p.typ}
			if size += a.updateSize(); size > MaxUpdate || (d.limit > 0 && len(actuals) >= d.limit) {
				break // the next message begins here, so that none waits for ever
			}
			actuals = append(actuals, a)
		}
		d.rover = (d.rover + 1) % len(d.names)
	}
	return actuals
}

// single returns a property that EdgeCore has refused, to try it alone.
func (d *device) single() []Actual {
	for _, name := range d.names {
		p := d.props[name]
		switch {
		case p.reset:
			return []Actual{{Name: name}}
		case p.retry && p.has:
			return []Actual{{Name: name, Value: p.latest.text, Type: p.typ}}
		case p.retry:
			p.retry = false
		}
	}
	return nil
}

// land ends the flight and returns it.
func (d *device) land(now time.Time) *flight {
	f := d.flight
	d.flight, d.lastID = nil, f.eventID
	d.notBefore = now.Add(minGap)
	return f
}

// accepted deals with the answer that all is well.
func (d *device) accepted(now time.Time, stateAt time.Time) {
	f := d.land(now)
	d.failures = 0
	if f.state != "" {
		d.stateKnown, d.stateAt = f.state, stateAt
	} else {
		d.acceptedTwin(f)
	}
	if d.absent {
		d.absent = false
		d.announce(firstRepeats)
	}
}

func (d *device) acceptedTwin(f *flight) {
	if d.limit *= 2; d.limit >= len(d.props) {
		d.limit = 0
	}
	for name, sent := range f.texts {
		p, ok := d.props[name]
		if !ok {
			continue
		}
		if f.reset {
			p.reset, p.resetDone, p.retry = false, true, true
			continue
		}
		p.known, p.isKnown = sent, p.has
		p.refused, p.retry, p.resetDone = "", false, false
		p.repeats = max(p.repeats-1, 0)
	}
}

// failed deals with an answer that does not come, or tells of a fault of EdgeCore.
func (d *device) failed(now time.Time) {
	d.again(d.land(now))
	least, most := minRetry, maxRetry
	if d.absent {
		least, most = minRetryAbsent, maxRetryAbsent
	}
	d.notBefore = now.Add(backoff(least, most, d.failures))
	d.failures++
}

// missing deals with the answer that EdgeCore does not know the device.
func (d *device) missing(now time.Time) {
	if !d.absent {
		d.absent, d.failures = true, 0
	}
	d.failed(now)
}

// again makes what was in flight due.
func (d *device) again(f *flight) {
	if f.state != "" {
		d.stateKnown = ""
	}
	for name := range f.texts {
		if p, ok := d.props[name]; ok && !f.reset {
			p.isKnown = false
			p.repeats = max(p.repeats, 1)
		}
	}
}

// rejected deals with the answer that something in the message is wrong: all of
// it was refused. The next message has half of it, until one
// property stands alone: that one is kept apart, and the property it is returned if that is news.
func (d *device) rejected(now time.Time, reason string) (news *property) {
	f := d.land(now)
	if len(f.texts) > 1 {
		d.limit = max(1, len(f.texts)/2)
		d.again(f)
		return nil
	}
	for name := range f.texts {
		p, ok := d.props[name]
		if !ok {
			continue
		}
		if p.refused == "" {
			news = p
		}
		p.refused, p.retry, p.isKnown = reason, false, false
		// EdgeCore keeps the type of a property's first report. If the declared type has
		// changed since, only removing the property from its twin helps.
		p.reset = !p.resetDone && !f.reset
		if f.reset {
			p.reset, p.resetDone = false, true
		}
	}
	return news
}

// problems returns what keeps the device's twin from being whole.
func (d *device) problems() []twin.Problem {
	problems := slices.Clone(d.wrong)
	for _, name := range d.names {
		if p := d.props[name]; p.refused != "" || p.unfit != "" {
			problems = append(problems, p.problem(d.id))
		}
	}
	return problems
}

func (p *property) problem(id twin.DeviceID) twin.Problem {
	problem := twin.Problem{Object: "Device " + id.String(), Field: "spec.properties[" + strconv.Quote(p.name) + "]"}
	if p.refused != "" {
		problem.What = fmt.Sprintf("EdgeCore refuses the report of the twin: %.200s", p.refused)
		problem.Remedy = "compare the property's type with its values"
		return problem
	}
	problem.What = p.unfit
	problem.Remedy = fmt.Sprintf("the twin keeps its last value; use a type that holds the values, and texts of at most %d bytes", MaxValue)
	return problem
}

// backoff returns the wait after the nth failure in a row (from 0): it doubles from
// least to most, and is drawn from its upper half.
func backoff(least, most time.Duration, n int) time.Duration {
	d := most
	if n < 16 {
		d = min(least<<n, most)
	}
	return jitter(d*3/4, 1.0/3)
}

// jitter returns d give or take share of it.
func jitter(d time.Duration, share float64) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*share*float64(d))
}
