package mapperapp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// maxStateFile bounds a file of the state: twice what Kubernetes lets an object be.
const maxStateFile = 4 << 20

// Errors of a FileStore.
var (
	ErrCorrupt = errors.New("corrupt")
	ErrInUse   = errors.New("in use by another process")
)

// FileStore is a mapper.Store in a folder: the file "epoch", and for each device
// the file "desired/<namespace>/<name>". Each begins with the CRC-32 of the JSON that
// follows. A file is written beside, synced and renamed, and the folder is synced,
// so after a crash it is the old one or the new one. Calls are safe for concurrent use.
type FileStore struct {
	dir  string
	lock *os.File
	mu   sync.Mutex // one write at a time
}

var _ mapper.Store = (*FileStore)(nil)

// OpenFileStore opens the folder, makes it where it is missing, and keeps other
// processes out of it until Close: an epoch must not be given out twice.
// The error wraps ErrInUse if one is there already.
func OpenFileStore(dir string) (*FileStore, error) {
	if err := os.MkdirAll(filepath.Join(dir, "desired"), 0o750); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("open state %s: %w; give each mapper a folder of its own", dir, err)
	}
	return &FileStore{dir: dir, lock: lock}, nil
}

// Close lets other processes in.
func (s *FileStore) Close() error { return s.lock.Close() }

type epochFile struct {
	Epoch uint64 `json:"epoch"`
}

// NextEpoch implements mapper.Store. The error wraps ErrCorrupt if the file cannot be understood.
func (s *FileStore) NextEpoch() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var e epochFile
	err := s.read("epoch", &e, "delete it: the epochs begin anew, and uplinks say where that is too low")
	if errors.Is(err, fs.ErrNotExist) {
		e.Epoch = mapper.FirstEpoch()
		return e.Epoch, s.write("epoch", e)
	}
	if err != nil {
		return 0, err
	}
	if e.Epoch == math.MaxUint64 {
		return 0, fmt.Errorf("%s: %w: there is no epoch after %d", s.path("epoch"), ErrCorrupt, e.Epoch)
	}
	e.Epoch++
	return e.Epoch, s.write("epoch", e)
}

// LastDesired implements mapper.Store. The error wraps ErrCorrupt if the file cannot be understood.
func (s *FileStore) LastDesired(id twin.DeviceID) (map[string]string, error) {
	desired := map[string]string{}
	err := s.read(desiredPath(id), &desired, "delete it: the desired values that are declared are then written to the device at the next start")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return desired, nil
}

// SetLastDesired implements mapper.Store.
func (s *FileStore) SetLastDesired(id twin.DeviceID, desired map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := desiredPath(id)
	folder := filepath.Dir(s.path(name))
	if err := os.Mkdir(folder, 0o750); err == nil {
		if err := syncFolder(filepath.Dir(folder)); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write state: %w", err)
	}
	return s.write(name, desired)
}

// desiredPath has no extension: a name of Kubernetes' 253 characters just fits a file name.
func desiredPath(id twin.DeviceID) string { return filepath.Join("desired", id.Namespace, id.Name) }

func (s *FileStore) path(name string) string { return filepath.Join(s.dir, name) }

func (s *FileStore) read(name string, into any, remedy string) error {
	path := s.path(name)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if err := decodeState(data, into); err != nil {
		return fmt.Errorf("%s: %w: %w; %s", path, ErrCorrupt, err, remedy)
	}
	return nil
}

// write replaces a file and returns when the new one is on disk.
func (s *FileStore) write(name string, v any) error {
	data, err := encodeState(v)
	if err != nil {
		return fmt.Errorf("write state %s: %w", name, err)
	}
	temp := s.path("new")
	if err := writeSynced(temp, data); err != nil {
		return fmt.Errorf("write state %s: %w", name, err)
	}
	if err := os.Rename(temp, s.path(name)); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return syncFolder(filepath.Dir(s.path(name)))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

func encodeState(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) > maxStateFile-9 {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(body), maxStateFile-9)
	}
	return append(fmt.Appendf(nil, "%08x\n", crc32.ChecksumIEEE(body)), body...), nil
}

func decodeState(data []byte, into any) error {
	if len(data) > maxStateFile {
		return fmt.Errorf("more than %d bytes", maxStateFile)
	}
	sum, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return errors.New("it has no checksum")
	}
	if want := fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)); string(sum) != want {
		return fmt.Errorf("the checksum is %.20q, and %s is right", sum, want)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return err
	}
	return nil
}
