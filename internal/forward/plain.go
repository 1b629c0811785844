package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/twinline/twinline/pkg/twin"
)

// table is the samples of one device that have the same properties: the rows of
// a table whose columns are the properties.
type table struct {
	device     twin.DeviceID
	properties []string
	rows       []int // indexes into Batch.Samples, ascending
}

// appendPlain appends the plain content of b.
func appendPlain(out []byte, b *Batch) ([]byte, error) {
	if err := checkBatch(b); err != nil {
		return nil, err
	}
	tables, of, err := tabulate(b.Samples)
	if err != nil {
		return nil, err
	}
	out = appendString(out, b.Stream)
	out = binary.AppendUvarint(out, b.First)
	out = binary.AppendUvarint(out, b.Last)
	out = appendTables(out, tables)
	out = binary.AppendUvarint(out, uint64(len(b.Samples)))
	for _, t := range of {
		out = binary.AppendUvarint(out, uint64(t))
	}
	for i := range tables {
		out = appendRowHeads(out, &tables[i], b.Samples)
		for p := range tables[i].properties {
			column := make([]twin.Reading, len(tables[i].rows))
			for row, s := range tables[i].rows {
				column[row] = b.Samples[s].Readings[p]
			}
			out = appendColumn(out, column)
		}
	}
	return out, nil
}

// checkBatch checks what does not depend on single samples.
func checkBatch(b *Batch) error {
	if n := len(b.Stream); n == 0 || n > MaxStream || !utf8.ValidString(b.Stream) {
		return fmt.Errorf("stream %.40q: want 1 to %d bytes of UTF-8", b.Stream, MaxStream)
	}
	if b.First > b.Last {
		return fmt.Errorf("first record %d is after the last %d", b.First, b.Last)
	}
	n := uint64(len(b.Samples))
	if n > 0 && (b.First == 0 || n-1 > b.Last-b.First) {
		return fmt.Errorf("%d samples in records %d to %d", n, b.First, b.Last)
	}
	if n == 0 && b.First != b.Last {
		return fmt.Errorf("a heartbeat of records %d to %d; want one number", b.First, b.Last)
	}
	if n > MaxSamples {
		return fmt.Errorf("%d samples, at most %d are allowed: %w", n, MaxSamples, ErrTooLarge)
	}
	return nil
}

// tabulate groups the samples; of[i] is the table of sample i.
func tabulate(samples []twin.Sample) (tables []table, of []int, err error) {
	index := map[string]int{}
	of = make([]int, len(samples))
	var key []byte
	readings := 0
	for i := range samples {
		s := &samples[i]
		if err := checkSample(s); err != nil {
			return nil, nil, err
		}
		if readings += len(s.Readings); readings > MaxReadings {
			return nil, nil, fmt.Errorf("more than %d readings: %w", MaxReadings, ErrTooLarge)
		}
		key = append(append(append(key[:0], s.Device.Namespace...), '/'), s.Device.Name...)
		for r := range s.Readings {
			key = append(append(key, 0), s.Readings[r].Property...)
		}
		t, ok := index[string(key)]
		if !ok {
			t = len(tables)
			index[string(key)] = t
			tables = append(tables, table{device: s.Device, properties: propertiesOf(s)})
		}
		of[i] = t
		tables[t].rows = append(tables[t].rows, i)
	}
	return tables, of, nil
}

func propertiesOf(s *twin.Sample) []string {
	names := make([]string, len(s.Readings))
	for i := range s.Readings {
		names[i] = s.Readings[i].Property
	}
	return names
}

// checkSample checks the contract of twin.Sample, but for its device id, which
// is checked once per table.
func checkSample(s *twin.Sample) error {
	if s.Device.IsZero() || s.Epoch == 0 || s.Seq == 0 || s.Time.IsZero() {
		return fmt.Errorf("sample of %s: device, epoch, seq and time are all needed, and not zero", s.Device)
	}
	if year := s.Time.UTC().Year(); year < 0 || year > 9999 {
		return fmt.Errorf("sample of %s: the year %d has no JSON form", s.Device, year)
	}
	if len(s.Readings) > twin.MaxSampleReadings {
		return fmt.Errorf("sample of %s: %d properties, at most %d are allowed", s.Device, len(s.Readings), twin.MaxSampleReadings)
	}
	last := ""
	for i := range s.Readings {
		r := &s.Readings[i]
		if err := checkProperty(last, r.Property); err != nil {
			return fmt.Errorf("sample of %s: %w", s.Device, err)
		}
		if !r.Quality.Valid() || r.Quality.IsBad() != r.Value.IsZero() {
			return fmt.Errorf("sample of %s: property %q has value %.40s and quality %.80q", s.Device, r.Property, r.Value, r.Quality)
		}
		last = r.Property
	}
	return nil
}

// checkProperty checks a name that comes after another in a sample.
func checkProperty(before, name string) error {
	if n := len(name); n == 0 || n > twin.MaxPropertyLength || !utf8.ValidString(name) {
		return fmt.Errorf("property name %.80q: want 1 to %d bytes of UTF-8", name, twin.MaxPropertyLength)
	}
	if name <= before {
		return fmt.Errorf("property %q after %q: want ascending order", name, before)
	}
	return nil
}

// appendTables appends the dictionary of property names and the tables' heads.
func appendTables(out []byte, tables []table) []byte {
	index := map[string]uint64{}
	var names []string
	for i := range tables {
		for _, p := range tables[i].properties {
			if _, ok := index[p]; !ok {
				index[p] = uint64(len(names))
				names = append(names, p)
			}
		}
	}
	out = binary.AppendUvarint(out, uint64(len(names)))
	for _, n := range names {
		out = appendString(out, n)
	}
	out = binary.AppendUvarint(out, uint64(len(tables)))
	for i := range tables {
		out = appendString(out, tables[i].device.String())
		out = binary.AppendUvarint(out, uint64(len(tables[i].properties)))
		for _, p := range tables[i].properties {
			out = binary.AppendUvarint(out, index[p])
		}
	}
	return out
}

// appendRowHeads appends the epochs, sequence numbers and times of a table's rows.
func appendRowHeads(out []byte, t *table, samples []twin.Sample) []byte {
	var prev uint64
	for _, s := range t.rows {
		out = appendDelta(out, samples[s].Epoch, &prev)
	}
	prev = 0
	for _, s := range t.rows {
		out = appendDelta(out, samples[s].Seq, &prev)
	}
	var step uint64 // times are mostly equally spaced: the difference of differences is small
	prev = 0
	for _, s := range t.rows {
		at := uint64(samples[s].Time.UnixMicro())
		out = appendDelta(out, at-prev, &step)
		prev = at
	}
	return out
}

// parsePlain reads what appendPlain wrote.
func parsePlain(data []byte) (Batch, error) {
	in := &input{data: data}
	b := Batch{Stream: in.string(MaxStream), First: in.uvarint(), Last: in.uvarint()}
	tables := parseTables(in)
	samples := int(in.count(MaxSamples))
	if in.err != nil {
		return Batch{}, in.err
	}
	if err := assignRows(in, tables, samples); err != nil {
		return Batch{}, err
	}
	b.Samples = makeSamples(tables, samples)
	if err := checkBatch(&b); err != nil {
		return Batch{}, err
	}
	for i := range tables {
		if err := parseRows(in, &tables[i], b.Samples); err != nil {
			return Batch{}, err
		}
	}
	if len(in.data) > 0 {
		return Batch{}, fmt.Errorf("%d bytes are left over", len(in.data))
	}
	return b, nil
}

func parseTables(in *input) []table {
	names := make([]string, in.count(MaxReadings))
	for i := range names {
		names[i] = in.string(twin.MaxPropertyLength)
	}
	tables := make([]table, in.count(MaxSamples))
	total := 0
	for i := range tables {
		id, err := twin.ParseDeviceID(in.string(twin.MaxNamespaceLength + 1 + twin.MaxNameLength))
		in.fail(err)
		n := in.count(twin.MaxSampleReadings)
		if total += int(n); total > MaxReadings {
			in.fail(fmt.Errorf("more than %d columns", MaxReadings))
		}
		if in.err != nil {
			return nil
		}
		tables[i] = table{device: id, properties: make([]string, n)}
		last := ""
		for p := range tables[i].properties {
			name := in.index(names)
			in.fail(checkProperty(last, name))
			tables[i].properties[p], last = name, name
		}
	}
	return tables
}

// assignRows reads which table each sample belongs to.
func assignRows(in *input, tables []table, samples int) error {
	readings := 0
	for s := range samples {
		t := in.uvarint()
		if in.err != nil {
			return in.err
		}
		if t >= uint64(len(tables)) {
			return fmt.Errorf("sample %d is in table %d of %d", s, t, len(tables))
		}
		tables[t].rows = append(tables[t].rows, s)
		if readings += len(tables[t].properties); readings > MaxReadings {
			return fmt.Errorf("more than %d readings", MaxReadings)
		}
	}
	for i := range tables {
		if len(tables[i].rows) == 0 {
			return fmt.Errorf("table %d is empty", i)
		}
	}
	return nil
}

// makeSamples allocates the samples with their device and property names.
func makeSamples(tables []table, n int) []twin.Sample {
	if n == 0 {
		return nil
	}
	samples := make([]twin.Sample, n)
	for i := range tables {
		t := &tables[i]
		width := len(t.properties)
		readings := make([]twin.Reading, width*len(t.rows))
		for row, s := range t.rows {
			samples[s].Device = t.device
			samples[s].Readings = readings[row*width : (row+1)*width : (row+1)*width]
			for p, name := range t.properties {
				samples[s].Readings[p].Property = name
			}
		}
	}
	return samples
}

// parseRows reads the rows of a table into its samples.
func parseRows(in *input, t *table, samples []twin.Sample) error {
	var prev uint64
	for _, s := range t.rows {
		samples[s].Epoch = in.delta(&prev)
	}
	prev = 0
	for _, s := range t.rows {
		samples[s].Seq = in.delta(&prev)
	}
	var step uint64
	prev = 0
	for _, s := range t.rows {
		prev += in.delta(&step)
		samples[s].Time = time.UnixMicro(int64(prev)).UTC()
	}
	for p := range t.properties {
		parseColumn(in, len(t.rows), func(row int) *twin.Reading { return &samples[t.rows[row]].Readings[p] })
	}
	if in.err != nil {
		return in.err
	}
	for _, s := range t.rows {
		if err := checkSample(&samples[s]); err != nil {
			return err
		}
	}
	return nil
}

// appendDelta appends v as its difference to *prev, and makes it the new *prev. It
// is exact for all values: the difference wraps around.
func appendDelta(out []byte, v uint64, prev *uint64) []byte {
	d := int64(v - *prev)
	*prev = v
	return binary.AppendUvarint(out, uint64(d<<1)^uint64(d>>63))
}

func appendString(out []byte, s string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(s))), s...)
}

// input reads plain content. After the first mistake err is set and every
// read gives zero.
type input struct {
	data []byte
	err  error
}

var errShort = errors.New("ends too early")

func (in *input) fail(err error) {
	if in.err == nil && err != nil {
		in.err = err
		in.data = nil
	}
}

func (in *input) uvarint() uint64 {
	v, n := binary.Uvarint(in.data)
	if n <= 0 {
		in.fail(errShort)
		return 0
	}
	in.data = in.data[n:]
	return v
}

// count reads a number of things, each of which takes a byte at least.
func (in *input) count(limit int) uint64 {
	n := in.uvarint()
	if n > uint64(limit) {
		in.fail(fmt.Errorf("%d things where at most %d are allowed", n, limit))
		return 0
	}
	if n > uint64(len(in.data)) {
		in.fail(errShort)
		return 0
	}
	return n
}

func (in *input) delta(prev *uint64) uint64 {
	u := in.uvarint()
	*prev += uint64(int64(u>>1) ^ -int64(u&1))
	return *prev
}

func (in *input) bytes(n int) []byte {
	if n > len(in.data) {
		in.fail(errShort)
		return nil
	}
	b := in.data[:n]
	in.data = in.data[n:]
	return b
}

func (in *input) string(limit int) string {
	n := in.count(limit)
	return string(in.bytes(int(n)))
}

func (in *input) index(names []string) string {
	i := in.uvarint()
	if i >= uint64(len(names)) {
		in.fail(fmt.Errorf("name %d of %d", i, len(names)))
		return ""
	}
	return names[i]
}
