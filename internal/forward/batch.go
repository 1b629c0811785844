package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"

	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of a batch. Encode and Decode refuse what is beyond.
const (
	// MaxEncoded bounds an encoded batch, in bytes. ServiceBus takes 5 000 000 bytes
	// (edge/pkg/servicebus/servicebus.go, maxBodySize), which base64 and the
	// envelope leave 3.7 MB of.
	MaxEncoded = 3_600_000
	// MaxPlain bounds a batch before compression, in bytes.
	MaxPlain = 32 << 20
	// MaxSamples bounds the samples of a batch.
	MaxSamples = 1 << 16
	// MaxReadings bounds the readings of all samples of a batch: a reading of
	// 64 bytes in memory may take one byte on the wire, so this bounds what a
	// batch takes when decoded to 32 MiB and its strings.
	MaxReadings = 1 << 19
	// MaxStream bounds the name of a stream, in bytes: a node name (253) and a
	// spool identity.
	MaxStream = 320
)

// ErrTooLarge is returned by Encode for a batch beyond the bounds. Half of it may fit.
var ErrTooLarge = errors.New("batch too large")

// ErrCorrupt is wrapped by every error of Decode: the bytes are not a batch. A
// sender's retry of the same bytes may help only if they were damaged on the way.
var ErrCorrupt = errors.New("not a batch")

// Batch is a run of records of one uplink's spool.
type Batch struct {
	// Stream names the spool that the records' numbers belong to: the node and
	// the spool's identity. 1 to MaxStream bytes.
	Stream string
	// First and Last are the numbers of the first and the last record. Some
	// between may be missing: they were damaged on disk, or refused.
	// Of a heartbeat both are the highest number acknowledged so far.
	First, Last uint64
	// Samples are in the order of their records. Their readings are sorted by
	// property, each property once. None: the batch is a heartbeat, which the
	// cloud acknowledges when it could have stored samples.
	Samples []twin.Sample
}

// IsHeartbeat reports whether the batch only asks for an acknowledgement.
func (b *Batch) IsHeartbeat() bool { return len(b.Samples) == 0 }

// The head of an encoded batch; all integers are little-endian.
const (
	magic      = "TWB1"
	offPlain   = 4  // uint32: size of the plain content
	offSum     = 8  // uint32: CRC32C of all bytes but these four
	headSize   = 12 //
	windowSize = 1 << 20
)

// Codec encodes and decodes batches. It is safe for concurrent use, keeps a few
// megabytes of buffers, and owns no goroutine.
type Codec struct {
	enc   *zstd.Encoder
	dec   *zstd.Decoder
	table *crc32.Table
}

// NewCodec returns a Codec that does up to concurrent encodings and decodings
// at a time; more wait. Each takes about 2 MiB when in use, and a decoding the
// plain size of its batch.
func NewCodec(concurrent int) *Codec {
	concurrent = max(concurrent, 1)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(concurrent), zstd.WithWindowSize(windowSize),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(concurrent), zstd.WithDecoderMaxWindow(windowSize),
		zstd.WithDecoderMaxMemory(MaxPlain), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return &Codec{enc: enc, dec: dec, table: crc32.MakeTable(crc32.Castagnoli)}
}

// Encode returns the batch's bytes. The error wraps ErrTooLarge, or says what of the
// batch breaks its contract.
func (c *Codec) Encode(b *Batch) ([]byte, error) {
	plain, err := appendPlain(nil, b)
	if err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	if len(plain) > MaxPlain {
		return nil, fmt.Errorf("encode batch: %d bytes plain, at most %d are allowed: %w", len(plain), MaxPlain, ErrTooLarge)
	}
	out := make([]byte, headSize, headSize+len(plain)/4)
	copy(out, magic)
	binary.LittleEndian.PutUint32(out[offPlain:], uint32(len(plain)))
	out = c.enc.EncodeAll(plain, out)
	if len(out) > MaxEncoded {
		return nil, fmt.Errorf("encode batch: %d bytes, at most %d are allowed: %w", len(out), MaxEncoded, ErrTooLarge)
	}
	binary.LittleEndian.PutUint32(out[offSum:], c.sum(out))
	return out, nil
}

// Decode reads what Encode wrote. It refuses, with an error that wraps
// ErrCorrupt, everything else: bytes that do not match the checksum, content
// beyond the bounds, samples that break twin.Sample's contract, bytes left over. It
// takes no more memory than the bounds say, whatever data holds.
func (c *Codec) Decode(data []byte) (Batch, error) {
	plain, err := c.unpack(data)
	if err != nil {
		return Batch{}, fmt.Errorf("decode batch: %w: %w", ErrCorrupt, err)
	}
	b, err := parsePlain(plain)
	if err != nil {
		return Batch{}, fmt.Errorf("decode batch: %w: %w", ErrCorrupt, err)
	}
	return b, nil
}

func (c *Codec) unpack(data []byte) ([]byte, error) {
	switch {
	case len(data) < headSize:
		return nil, fmt.Errorf("%d bytes are too few", len(data))
	case len(data) > MaxEncoded:
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(data), MaxEncoded)
	case string(data[:offPlain]) != magic:
		return nil, fmt.Errorf("begins with %q, want %q", data[:offPlain], magic)
	case binary.LittleEndian.Uint32(data[offSum:]) != c.sum(data):
		return nil, errors.New("the checksum does not match")
	}
	size := binary.LittleEndian.Uint32(data[offPlain:])
	if size > MaxPlain {
		return nil, fmt.Errorf("%d bytes plain, at most %d are allowed", size, MaxPlain)
	}
	plain, err := c.dec.DecodeAll(data[headSize:], make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if len(plain) != int(size) {
		return nil, fmt.Errorf("%d bytes plain, and %d announced", len(plain), size)
	}
	return plain, nil
}

// sum is the CRC32C of data without the four bytes of the sum itself.
func (c *Codec) sum(data []byte) uint32 {
	return crc32.Update(crc32.Checksum(data[:offSum], c.table), c.table, data[headSize:])
}
