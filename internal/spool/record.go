package spool

import (
	"encoding/binary"
	"hash/crc32"
	"unicode/utf8"
)

// The layout of a record; all integers are little-endian. FORMAT.md.
const (
	recordHead = 16 // length uint32, checksum uint32, number uint64
	keyHead    = 2  // the payload begins with the key's length, uint16
)

func recordSize(r *Record) int64 { return int64(recordHead + keyHead + len(r.Key) + len(r.Data)) }

// checksums computes the checksums of one spool. They begin with the spool's
// identity, so that bytes of another spool are never taken for a record.
type checksums struct {
	table *crc32.Table
	seed  uint32
}

func newChecksums(id identity) checksums {
	table := crc32.MakeTable(crc32.Castagnoli)
	return checksums{table: table, seed: crc32.Checksum(id[:], table)}
}

// sum returns the checksum of a whole record: all of it but the checksum itself.
func (c checksums) sum(record []byte) uint32 {
	return crc32.Update(crc32.Update(c.seed, c.table, record[:4]), c.table, record[8:])
}

// appendRecord appends r's bytes.
func (c checksums) appendRecord(out []byte, r *Record) []byte {
	start := len(out)
	out = binary.LittleEndian.AppendUint32(out, uint32(keyHead+len(r.Key)+len(r.Data)))
	out = append(out, 0, 0, 0, 0)
	out = binary.LittleEndian.AppendUint64(out, r.Number)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(r.Key)))
	out = append(out, r.Key...)
	out = append(out, r.Data...)
	binary.LittleEndian.PutUint32(out[start+4:], c.sum(out[start:]))
	return out
}

// parseRecord reads the record at the start of b, whose number must be from
// low to below high. Data is a part of b. ok is false if there is no whole record
// with a right checksum.
func (c checksums) parseRecord(b []byte, low, high uint64) (r Record, size int, ok bool) {
	if len(b) < recordHead+keyHead {
		return Record{}, 0, false
	}
	length := uint64(binary.LittleEndian.Uint32(b))
	number := binary.LittleEndian.Uint64(b[8:])
	if length < keyHead || length > uint64(len(b)-recordHead) || number < low || number >= high {
		return Record{}, 0, false
	}
	b = b[:recordHead+length]
	keyEnd := recordHead + keyHead + int(binary.LittleEndian.Uint16(b[recordHead:]))
	if keyEnd > len(b) || keyEnd-recordHead-keyHead > MaxKey || binary.LittleEndian.Uint32(b[4:]) != c.sum(b) {
		return Record{}, 0, false
	}
	key := b[recordHead+keyHead : keyEnd]
	if !utf8.Valid(key) {
		return Record{}, 0, false
	}
	return Record{Number: number, Key: string(key), Data: b[keyEnd:]}, len(b), true
}

// scan calls yield for every record in b, with the offset behind it, in
// ascending order of numbers from low to below high, until yield returns false. It steps over
// damage: from there it looks for the next whole record byte by byte. It
// returns the offset behind the last record.
func (c checksums) scan(b []byte, low, high uint64, yield func(r Record, end int) bool) (end int) {
	// So many records fit in b at most, which bounds their numbers and makes
	// it most unlikely that damage is taken for the head of a record.
	high = min(high, low+uint64(len(b)/(recordHead+keyHead))+1)
	for i := 0; i < len(b); {
		r, size, ok := c.parseRecord(b[i:], low, high)
		if !ok {
			i++
			continue
		}
		i += size
		end, low = i, r.Number+1
		if !yield(r, end) {
			return end
		}
	}
	return end
}
