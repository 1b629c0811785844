package spool

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

// The small files beside the segments. FORMAT.md.
const (
	lockFile     = "lock"
	identityFile = "identity"
	cursorFile   = "cursor"
	lostFile     = "lost"
	tempSuffix   = ".new"
)

// identity names a spool for ever.
type identity [16]byte

func (id identity) String() string { return hex.EncodeToString(id[:]) }

// cursor is what is acknowledged.
type cursor struct {
	Acked uint64 `json:"acked"`
}

// losses counts what is gone without having been acknowledged.
type losses struct {
	Keys    map[string]uint64 `json:"keys"`    // dropped by the bound, by key
	Through uint64            `json:"through"` // every record up to here is dropped or acknowledged
	Damaged uint64            `json:"damaged"` // lost to damage on the disk
	Met     uint64            `json:"met"`     // damage up to this number is counted
}

func (l *losses) copy() losses {
	c := *l
	c.Keys = maps.Clone(l.Keys)
	if c.Keys == nil {
		c.Keys = map[string]uint64{}
	}
	return c
}

func (l *losses) dropped() (sum uint64) {
	for _, n := range l.Keys {
		sum += n
	}
	return sum
}

// add counts one dropped record.
func (l *losses) add(key string) {
	if _, ok := l.Keys[key]; !ok && len(l.Keys) >= MaxLostKeys {
		key = ""
	}
	l.Keys[key]++
}

// damage counts the records from low to below high, but for those counted before.
func (l *losses) damage(low, high uint64) (counted bool) {
	low = max(low, l.Met+1)
	if low >= high {
		return false
	}
	l.Damaged += high - low
	l.Met = high - 1
	return true
}

// errState is a state file that cannot be believed.
var errState = errors.New("the checksum does not match")

// writeState replaces a state file: a line of checksum, then JSON. When it
// returns nil, the new content is on disk; otherwise the old one is.
func writeState(dir, name string, id identity, content any) error {
	body, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return replaceFile(dir, name, fmt.Appendf(nil, "%08x\n%s\n", newChecksums(id).sumText(body), body))
}

// replaceFile writes a file beside, syncs it, and renames it over the old one.
func replaceFile(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+tempSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(path+tempSuffix, path)
	}
	if err != nil {
		_ = os.Remove(path + tempSuffix)
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// readState reads a state file into content, which is left alone if there is none.
// The error wraps errState if it is damaged.
func readState(dir, name string, id identity, content any) error {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sum, body, _ := bytes.Cut(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	if string(sum) != fmt.Sprintf("%08x", newChecksums(id).sumText(body)) {
		return fmt.Errorf("%s: %w", name, errState)
	}
	if err := json.Unmarshal(body, content); err != nil {
		return fmt.Errorf("%s: %w: %w", name, errState, err)
	}
	return nil
}

func (c checksums) sumText(body []byte) uint32 {
	return c.sum(append(make([]byte, 8), body...))
}

// loadIdentity reads the spool's identity; from the segments if its file is gone or
// damaged; or draws a new one.
func loadIdentity(dir string, segments []segment) (identity, error) {
	var id identity
	data, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	stored, err := hex.DecodeString(string(bytes.TrimSpace(data)))
	if err == nil && len(stored) == len(id) && !contradicted(identity(stored), segments) {
		return identity(stored), nil
	}
	for i := range segments {
		if found, ok := identityOf(segments[i].path); ok {
			return found, saveIdentity(dir, found)
		}
	}
	if _, err := rand.Read(id[:]); err != nil {
		return id, err
	}
	return id, saveIdentity(dir, id)
}

// contradicted reports whether the segments that can be read all have another identity.
func contradicted(id identity, segments []segment) bool {
	others := 0
	for i := range segments {
		found, ok := identityOf(segments[i].path)
		if ok && found == id {
			return false
		}
		if ok {
			others++
		}
	}
	return others > 0
}

func saveIdentity(dir string, id identity) error {
	return replaceFile(dir, identityFile, []byte(id.String()+"\n"))
}
