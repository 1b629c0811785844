package uplink

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/spool"
)

// rejectedDir holds the samples that the cloud will never take, one file each.
const rejectedDir = "rejected"

// rejectedFile is what is kept of one.
type rejectedFile struct {
	Record uint64          `json:"record"`
	Device string          `json:"device"`
	Time   time.Time       `json:"time"`
	Reason string          `json:"reason"`
	Sample json.RawMessage `json:"sample,omitempty"`
	Data   []byte          `json:"data,omitempty"` // base64, of what is not JSON
}

// saveRejected writes a record beside the spool. The oldest files make room.
func saveRejected(dir string, r spool.Record, reason string, now time.Time) error {
	file := rejectedFile{Record: r.Number, Device: r.Key, Time: now.UTC(), Reason: reason}
	if json.Valid(r.Data) {
		file.Sample = r.Data
	} else {
		file.Data = r.Data
	}
	data, err := json.Marshal(file)
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, rejectedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := makeRoom(dir, int64(len(data))); err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, fmt.Sprintf("%020d.json", r.Number)), data)
}

// makeRoom removes the oldest files in dir until size more are within maxRejectedBytes.
func makeRoom(dir string, size int64) error {
	entries, err := os.ReadDir(dir) // sorted by name, which is by number
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".json") })
	sizes := make([]int64, len(entries))
	total := size
	for i, e := range entries {
		if info, err := e.Info(); err == nil {
			sizes[i] = info.Size()
			total += info.Size()
		}
	}
	for i := 0; i < len(entries) && total > maxRejectedBytes; i++ {
		if err := os.Remove(filepath.Join(dir, entries[i].Name())); err != nil {
			return err
		}
		total -= sizes[i]
	}
	return nil
}
