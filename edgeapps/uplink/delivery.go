package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/spool"
	"github.com/twinline/twinline/pkg/twin"
)

// delivery sends what is in the spool, in order, one batch at a time. A batch
// that the cloud will never take is halved until the record at fault is alone.
type delivery struct {
	*session
	pace    *rate.Limiter
	rejects *rate.Limiter
	size    int       // records in the next batch, at most: less while a culprit is looked for
	fails   int       // in a row
	sent    time.Time // when something was last acknowledged
	logged  time.Time // when a failure was last logged
}

func newDelivery(s *session) *delivery {
	return &delivery{
		session: s,
		pace:    rate.NewLimiter(rate.Limit(s.cfg.Rate), 1),
		rejects: rate.NewLimiter(rate.Every(rejectEvery), maxRejects),
		size:    s.cfg.BatchRecords,
	}
}

// run delivers until ctx ends.
func (d *delivery) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if d.fails == 0 && !d.await(ctx) {
			return nil
		}
		records, err := d.next()
		if err == nil {
			err = d.deliver(ctx, records)
		}
		if err != nil && ctx.Err() == nil {
			d.backOff(ctx, err)
		}
	}
	return nil
}

// await waits until there is enough for a batch, or something for as long as
// Linger, or it is time for a heartbeat. It reports false when ctx ended.
func (d *delivery) await(ctx context.Context) bool {
	idle := time.NewTimer(time.Until(d.sent.Add(d.cfg.Heartbeat)))
	defer idle.Stop()
	for d.store.Stats().Records == 0 {
		select {
		case <-d.wake:
		case <-idle.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	linger := time.NewTimer(d.cfg.Linger)
	defer linger.Stop()
	for d.store.Stats().Records < int64(d.size) {
		select {
		case <-d.wake:
		case <-linger.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// next reads the records of the next batch; none: nothing waits.
func (d *delivery) next() ([]spool.Record, error) {
	st := d.store.Stats()
	records, err := d.store.Read(st.Oldest, d.size, d.cfg.BatchBytes)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 && st.Records > 0 { // they are damaged; Read has counted them
		return nil, d.store.Ack(st.Last)
	}
	return records, nil
}

// deliver sends records as one batch, or a heartbeat when there are none, and deals with
// the answer. An error means that it is to be tried again later.
func (d *delivery) deliver(ctx context.Context, records []spool.Record) error {
	batch, records, err := d.batch(records)
	if err != nil {
		return d.refuse(records, err.Error())
	}
	data, err := d.codec.Encode(&batch)
	if err != nil {
		return d.refuse(records, err.Error())
	}
	if err := d.pace.Wait(ctx); err != nil {
		return err
	}
	d.link.attempt(time.Now())
	ack, err := d.deps.Sender.Send(ctx, data)
	if forward.CodeOf(err) == forward.CodeTooLarge {
		return d.refuse(records, err.Error())
	}
	if err != nil {
		return err
	}
	return d.settle(&batch, records, len(data), ack)
}

// batch makes a batch of the records up to the first that holds no sample, and
// returns the records in it. If that is the very first, the error says why, with it alone.
func (d *delivery) batch(records []spool.Record) (forward.Batch, []spool.Record, error) {
	acked := d.store.Stats().Oldest - 1
	b := forward.Batch{Stream: d.stream, First: acked, Last: acked}
	readings := 0
	for i, r := range records {
		var sample twin.Sample
		err := sample.UnmarshalJSON(r.Data)
		if err != nil && i == 0 {
			return b, records[:1], err
		}
		readings += len(sample.Readings)
		if err != nil || (readings > forward.MaxReadings && i > 0) {
			records = records[:i]
			break
		}
		b.Samples = append(b.Samples, sample)
	}
	if n := len(records); n > 0 {
		b.First, b.Last = records[0].Number, records[n-1].Number
	}
	return b, records, nil
}

// undecodedTries is how often a batch is sent that the cloud says it cannot even decode,
// before it counts as refused for its content.
const undecodedTries = 5

// settle deals with the cloud's answer to a batch.
func (d *delivery) settle(batch *forward.Batch, records []spool.Record, size int, ack forward.Ack) error {
	if ack.Stream == "" && !ack.Retry && d.fails >= undecodedTries {
		return d.refuse(records, ack.Error) // no damage on the way, then
	}
	if ack.Stream != batch.Stream || ack.Last > batch.Last || (len(records) > 0 && ack.Last+1 < batch.First) {
		return fmt.Errorf("the answer is for record %d of %.80q, not for %d to %d of %s: %.200s",
			ack.Last, ack.Stream, batch.First, batch.Last, batch.Stream, ack.Error)
	}
	done := 0
	for done < len(records) && records[done].Number <= ack.Last {
		done++
	}
	if done > 0 {
		if err := d.store.Ack(ack.Last); err != nil {
			d.log.Debug("acknowledgement not on disk yet", "error", err) // after a crash it is sent again
		}
	}
	d.counts.sent.Add(uint64(done))
	rest := records[done:]
	switch {
	case ack.Error != "" && !ack.Retry && len(rest) > 0:
		d.link.success(time.Now()) // the cloud has an opinion, so it is there
		return d.refuse(rest, ack.Error)
	case ack.Error != "":
		return fmt.Errorf("the cloud cannot take it now: %.200s", ack.Error)
	case len(rest) > 0 && done == 0:
		return errors.New("the cloud took nothing and gave no reason")
	}
	d.succeed(size)
	return nil
}

// succeed notes that the cloud took a batch.
func (d *delivery) succeed(size int) {
	now := time.Now()
	d.sent, d.fails = now, 0
	d.size = min(d.cfg.BatchRecords, 2*d.size)
	d.counts.batches.Add(1)
	d.counts.bytes.Add(uint64(size))
	d.link.success(now)
	if d.health.setSending(nil) {
		d.log.Info("the cloud takes samples again")
	}
}

// refuse narrows records that will never be taken as they are: the next batch
// has half of them. One alone is put aside. So that a cloud that refuses
// everything by mistake does not empty the spool, after maxRejects of these the rest have to wait.
func (d *delivery) refuse(records []spool.Record, reason string) error {
	d.counts.refusals.Add(1)
	if len(records) > 1 {
		d.size = len(records) / 2
		return nil
	}
	if len(records) == 0 {
		return fmt.Errorf("a heartbeat was refused: %.200s", reason)
	}
	if !d.rejects.Allow() {
		err := fmt.Errorf("record after record is refused: %.200s", reason)
		d.health.setSending(err)
		return err
	}
	r := records[0]
	d.counts.rejected.Add(1)
	err := saveRejected(d.cfg.Dir, r, reason, time.Now())
	d.log.Error("a sample is given up", "device", r.Key, "record", r.Number, "reason", reason, "saved", err == nil)
	if err != nil {
		d.log.Error("a sample that was given up could not be saved", "record", r.Number, "error", err)
	}
	if err := d.store.Ack(r.Number); err != nil {
		d.log.Debug("acknowledgement not on disk yet", "error", err) // after a crash it is sent again
	}
	return nil
}

// logEvery is how often a failure that goes on is logged.
const logEvery = time.Minute

// backOff notes a failure and waits: at random up to a bound that doubles, so
// that the nodes of a site do not come back all at once, and at least as long as the server asked.
func (d *delivery) backOff(ctx context.Context, err error) {
	now := time.Now()
	d.link.failure(err.Error())
	d.counts.failures.Add(1)
	if now.Sub(d.logged) >= logEvery {
		d.logged = now
		d.log.Warn("samples not delivered; they wait in the spool", "waiting", d.store.Stats().Records, "error", err)
	}
	bound := min(maxBackoff, minBackoff<<min(d.fails, 10))
	d.fails++
	wait := rand.N(bound) //nolint:gosec // jitter is no secret
	if forward.CodeOf(err) == forward.CodeUnauthorised {
		d.health.setSending(fmt.Errorf("the cloud refuses the token: %w", err))
		wait += unauthorisedWait
	}
	pause(ctx, max(wait, forward.RetryAfter(err)))
}
