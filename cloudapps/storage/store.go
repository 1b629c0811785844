package storage

import (
	"context"
	"time"

	"github.com/twinline/twinline/internal/history"
)

// Store is a database that keeps telemetry together with how far it has come.
// What every Store must do is checked by storagetest.Run.
type Store interface {
	// Migrate brings the database to the schema that this program needs. It may
	// be called by several processes at once, and again at every start.
	Migrate(ctx context.Context) error

	// Offsets returns for each of the partitions the offset of the first record
	// that is not stored yet; 0 of a partition that was never seen.
	Offsets(ctx context.Context, topic string, partitions []int32) (map[int32]int64, error)

	// Commit stores a batch of partitions that Offsets was asked for
	// before: its new events, its offsets and the watermark of each (device, epoch), all
	// or nothing. An event with a number is stored once, however often it comes and in
	// which batch and partition; one without a number whenever it comes.
	//
	// history.ErrFenced: a partition's offset is not the From of its range; two
	// stores that start from the same offset cannot both commit.
	// history.ErrRefused: the data of at least one event can never be stored.
	// Any other error may pass; whether the batch was stored is then not known,
	// and the next Commit of it tells by ErrFenced.
	Commit(ctx context.Context, batch *history.Batch) (history.Outcome, error)

	// Ping reports whether the database can be reached.
	Ping(ctx context.Context) error
}

// Reader reads what a Store keeps.
type Reader interface {
	// Latest returns the newest reading of each property of a device, by property.
	Latest(ctx context.Context, device string) ([]history.Point, error)

	// History returns the readings of one property with from <= time < to, newest
	// first, at most limit and at most history.MaxPoints.
	History(ctx context.Context, device, property string, from, to time.Time, limit int) ([]history.Point, error)

	// Holes returns the sequence numbers of a device that were passed over and
	// have not come since, by epoch and number, at most history.MaxPoints runs of them.
	Holes(ctx context.Context, device string) ([]history.Hole, error)
}
