package reactor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// maxStateSize bounds the state file, in bytes: MaxRules times their actions.
const maxStateSize = 16 << 20

// FileStore is a Store that keeps the state in one file, replaced as a whole.
type FileStore struct {
	path string
	log  *slog.Logger
}

// NewFileStore returns the store in a folder, which is made if it is missing.
func NewFileStore(dir string, log *slog.Logger) (*FileStore, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	return &FileStore{path: filepath.Join(dir, "reactor.json"), log: log}, nil
}

// Load implements Store. A file that cannot be read as a state is put aside as
// reactor.json.bad, with a log line: what it claimed ends by its TTL.
func (s *FileStore) Load() (State, error) {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("state: %w", err)
	}
	var state State
	if info.Size() <= maxStateSize {
		var data []byte
		if data, err = os.ReadFile(s.path); err != nil {
			return State{}, fmt.Errorf("state: %w", err)
		}
		err = json.Unmarshal(data, &state)
	} else {
		err = fmt.Errorf("%d bytes", info.Size())
	}
	if err == nil {
		return state, nil
	}
	s.log.Error("state is unreadable and put aside; claims made before end by their ttl", "file", s.path, "err", err)
	if err := os.Rename(s.path, s.path+".bad"); err != nil {
		return State{}, fmt.Errorf("put state aside: %w", err)
	}
	return State{}, nil
}

// Save implements Store.
func (s *FileStore) Save(state State) error {
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	next := s.path + ".new"
	if err := writeSynced(next, data); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := os.Rename(next, s.path); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return syncDir(filepath.Dir(s.path))
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// NoStore keeps nothing: claims of before a restart end by their TTL.
type NoStore struct{}

// Load implements Store.
func (NoStore) Load() (State, error) { return State{}, nil }

// Save implements Store.
func (NoStore) Save(State) error { return nil }
