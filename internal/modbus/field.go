package modbus

import (
	"encoding/binary"
	"fmt"

	"github.com/twinline/twinline/internal/number"
	"github.com/twinline/twinline/pkg/twin"
)

// Table is one of the four tables of a Modbus device.
type Table uint8

// The tables.
const (
	Coils     Table = iota // single bits, writable
	Discretes              // single bits
	Holdings               // registers of 16 bits, writable
	Inputs                 // registers of 16 bits
	Tables    = 4          // how many there are
)

// Bits reports whether the table holds single bits.
func (t Table) Bits() bool { return t <= Discretes }

// String returns the spelling of a visitor's register key.
func (t Table) String() string { return tableNames()[t] }

func tableNames() []string { return []string{"coil", "discrete", "holding", "input"} }

// The types that are not numbers.
const (
	typeBool   = "bool"
	typeString = "string"
)

// typeNames are those of number.BinaryTypes that come in whole registers.
func typeNames() []string {
	return []string{typeBool, "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bcd16", "bcd32", typeString}
}

// Field is one property on a device: where it is and how its bits become a
// value. A Field is immutable and safe for concurrent use.
type Field struct {
	Property string
	Table    Table
	Address  uint16 // of the first bit or register
	Count    uint16 // of bits or registers
	Writable bool

	format number.Format
	mask   uint16 // of a single bit of a register, in the order of the wire; else 0
}

// End is the first address behind the field.
func (f *Field) End() int { return int(f.Address) + int(f.Count) }

// Mask returns the bits of the register that belong to the field, in the order of the
// wire, and whether it is a single bit of a register that others may share.
func (f *Field) Mask() (uint16, bool) {
	if f.mask == 0 {
		return 0xFFFF, false
	}
	return f.mask, true
}

// Decode returns the field's value in the data of an answer (goburrow's form:
// registers big-endian, bits packed from the lowest) that starts index bits or registers before the field.
// The data must reach to the field's end. The value is zero where the quality is bad, see number.Format.
func (f *Field) Decode(data []byte, index int) (twin.Value, twin.Quality) {
	if f.Table.Bits() {
		register := [2]byte{1: data[index/8] >> (index % 8) & 1}
		return f.format.Decode(register[:])
	}
	return f.format.Decode(data[2*index : 2*(index+int(f.Count))])
}

// Encode returns the words that make a read of the field show value, one
// for each bit (0 or 1) or register, and the value that such a read shows: the nearest the
// field can hold. Of a single bit in a register the word holds that bit alone, see
// Mask. What the field cannot hold is an error that says what it can; nothing is cut off to
// fit. value is of the property's declared type.
func (f *Field) Encode(value twin.Value) ([]uint16, twin.Value, error) {
	data, held, err := f.format.Encode(value)
	if err != nil {
		return nil, twin.Value{}, fmt.Errorf("write %s: %w", f.Property, err)
	}
	return wordsOf(data), held, nil
}

func wordsOf(data []byte) []uint16 {
	words := make([]uint16, len(data)/2)
	for i := range words {
		words[i] = binary.BigEndian.Uint16(data[2*i:])
	}
	return words
}
