package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A segment file begins with a magic, the spool's identity, the number of its
// first record, and the checksum of these. FORMAT.md.
const (
	segmentMagic  = "TWSEG001"
	segmentHead   = 8 + 16 + 8 + 4
	segmentSuffix = ".seg"
	segmentDigits = 20 // of the largest uint64
)

// segment is one file. The numbers of its records are from first to below the
// next segment's first.
type segment struct {
	path  string
	first uint64
	size  int64 // bytes that are written and synced
}

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%0*d%s", segmentDigits, first, segmentSuffix))
}

// listSegments returns the segments in dir, ascending.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var segments []segment
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok || len(digits) != segmentDigits {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || first == 0 {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		segments = append(segments, segment{path: filepath.Join(dir, e.Name()), first: first, size: info.Size()})
	}
	slices.SortFunc(segments, func(a, b segment) int {
		if a.first < b.first {
			return -1
		}
		return 1 // names are unique
	})
	return segments, nil
}

func segmentHeader(id identity, first uint64) []byte {
	b := append([]byte(segmentMagic), id[:]...)
	b = binary.LittleEndian.AppendUint64(b, first)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// identityOf reads the identity from a segment's header.
func identityOf(path string) (id identity, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return id, false
	}
	defer f.Close()
	b := make([]byte, segmentHead)
	if n, _ := f.ReadAt(b, 0); n < len(b) || string(b[:8]) != segmentMagic {
		return id, false
	}
	copy(id[:], b[8:])
	return id, string(segmentHeader(id, binary.LittleEndian.Uint64(b[24:]))) == string(b)
}

// disk is the calls that fail in practice; tests put failures there.
type disk struct {
	create func(path string) (*os.File, error)
	write  func(f *os.File, b []byte, offset int64) error
	sync   func(f *os.File) error
}

func realDisk() disk {
	return disk{
		create: func(path string) (*os.File, error) { return os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600) },
		write: func(f *os.File, b []byte, offset int64) error {
			_, err := f.WriteAt(b, offset)
			return err
		},
		sync: fdatasync,
	}
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// syncDir makes created and renamed names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lockDir takes the directory for this process. The lock ends with the file or the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}
