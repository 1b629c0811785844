package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// positionsFile holds the tracker's positions: the records that told them may be gone
// from the spool. It is a line with the CRC-32 of the JSON after it.
const positionsFile = "positions"

// Bounds of one read while the spool is looked through at the start.
const (
	scanRecords = 1000
	scanBytes   = 4 << 20
)

type savedPositions struct {
	Spool   string                          `json:"spool"`   // whose records they are
	Through uint64                          `json:"through"` // every record up to here is in them
	Devices map[twin.DeviceID]twin.Position `json:"devices"`
}

// restorePositions fills the tracker from the file and from the records after
// it. Without the file it reads the whole spool.
func (s *session) restorePositions(ctx context.Context) error {
	saved, err := readPositions(s.cfg.Dir)
	if err != nil {
		s.log.Warn("positions are read from the spool instead", "error", err)
	}
	if saved.Spool != s.store.ID() {
		saved = savedPositions{}
	}
	s.tracker.restore(saved.Devices)
	for from := saved.Through + 1; ctx.Err() == nil; {
		records, err := s.store.Read(from, scanRecords, scanBytes)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			from = r.Number + 1
			var sample twin.Sample
			if err := sample.UnmarshalJSON(r.Data); err == nil { // else delivery deals with it
				s.tracker.stored(sample.Device, twin.Position{Epoch: sample.Epoch, Seq: sample.Seq}, time.Now())
			}
		}
	}
	s.through.Store(s.store.Stats().Last)
	return ctx.Err()
}

// keepPositions writes the positions now and then, and when ctx ends.
func (s *session) keepPositions(ctx context.Context) error {
	written := uint64(0)
	for {
		more := pause(ctx, positionsEvery)
		// The number first: positions may be ahead of it, never behind.
		if through := s.through.Load(); through != written {
			err := writePositions(s.cfg.Dir, savedPositions{Spool: s.store.ID(), Through: through, Devices: s.tracker.positions()})
			if err == nil {
				written = through
			} else {
				s.log.Debug("positions not written", "error", err) // a restart reads them from the spool
			}
		}
		s.warnOfLosses()
		if !more {
			return nil
		}
	}
}

// warnOfLosses logs samples that the byte bound has forced out since it was last called.
func (s *session) warnOfLosses() {
	st := s.store.Stats()
	if gone := st.Dropped + st.Damaged; gone > s.counts.warned.Swap(gone) {
		s.log.Warn("samples are lost before they could be sent; see /api/v1/spool", "dropped", st.Dropped, "damaged", st.Damaged)
	}
}

func readPositions(dir string) (savedPositions, error) {
	var saved savedPositions
	data, err := os.ReadFile(filepath.Join(dir, positionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return saved, nil
	}
	if err != nil {
		return saved, err
	}
	sum, body, _ := bytes.Cut(data, []byte("\n"))
	if string(sum) != positionsSum(body) {
		return saved, errors.New("the checksum of the positions file does not match")
	}
	if err := json.Unmarshal(body, &saved); err != nil {
		return savedPositions{}, fmt.Errorf("read positions: %w", err)
	}
	return saved, nil
}

func positionsSum(body []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)) }

func writePositions(dir string, saved savedPositions) error {
	body, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, positionsFile), append([]byte(positionsSum(body)+"\n"), body...))
}

// replaceFile writes a file beside, syncs it, and renames it over the old one, if there is one.
func replaceFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = os.Remove(path + ".new")
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
