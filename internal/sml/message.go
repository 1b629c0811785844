package sml

import (
	"strconv"

	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// getListResponse is the body of a message that reports values (SML 1.04, 5.1.5).
const getListResponse = 0x0701

// file collects what the messages of one file say.
type file struct {
	sum      crc
	out      telegram.Telegram
	seen     map[string]int // how often each name came
	server   string         // the server of the lists so far
	reported bool           // a list came
}

// message reads one message: transaction, group, what to do on errors, body, checksum, end.
func (f *file) message(c *cursor) error {
	from := c.at
	if err := c.sequence(6, "message"); err != nil {
		return err
	}
	for range 3 {
		if err := c.skip(1); err != nil {
			return err
		}
	}
	body := c.at
	if err := c.skip(1); err != nil {
		return err
	}
	end := c.at
	want, err := c.unsigned("checksum")
	if err != nil {
		return err
	}
	if c.at >= len(c.b) || c.b[c.at] != endMessage {
		return errorf("no end of message at byte %d", c.at)
	}
	c.at++
	if want > 0xffff || !f.sum.matches(c.b[from:end], uint16(want)) {
		return ErrChecksum
	}
	return f.body(&cursor{b: c.b[:end], at: body})
}

// body reads the body of a message if it reports values. Opening and closing
// say nothing of them, and others are not for us.
func (f *file) body(c *cursor) error {
	if err := c.sequence(2, "body"); err != nil {
		return err
	}
	tag, err := c.unsigned("type of message")
	if err != nil || tag != getListResponse {
		return err
	}
	return f.list(c)
}

// list reads a GetListResponse: client, server, name, time of the sensor,
// values, signature, time of the gateway.
func (f *file) list(c *cursor) error {
	if err := c.sequence(7, "list response"); err != nil {
		return err
	}
	if err := c.pass(); err != nil {
		return err
	}
	server, err := c.next()
	if err != nil {
		return err
	}
	if server.kind != octets {
		return errorf("the server is no octet string")
	}
	if f.reported && f.server != string(server.data) {
		return errorf("lists of two meters, %X and %X", f.server, server.data)
	}
	f.server, f.reported = string(server.data), true
	if err := c.pass(); err != nil {
		return err
	}
	at, err := c.moment()
	if err != nil {
		return err
	}
	if f.out.Time.IsZero() {
		f.out.Time = at.clock
	}
	values, err := c.next()
	if err != nil {
		return err
	}
	if values.kind != list {
		return errorf("the values are no list")
	}
	for range values.count {
		if err := f.entry(c); err != nil {
			return err
		}
	}
	return nil
}

// entry reads one value: name, status, time, unit, scaler, value, signature.
func (f *file) entry(c *cursor) error {
	if err := c.sequence(7, "value"); err != nil {
		return err
	}
	name, err := c.next()
	if err != nil {
		return err
	}
	if name.kind != octets || len(name.data) != obisSize {
		return errorf("a name is no OBIS code: %X", name.data)
	}
	status, err := c.optional(unsigned, "status")
	if err != nil {
		return err
	}
	at, err := c.moment()
	if err != nil {
		return err
	}
	if f.out.Time.IsZero() {
		f.out.Time = at.clock
	}
	unit, err := c.optional(unsigned, "unit")
	if err != nil {
		return err
	}
	scaler, err := c.optional(integer, "scaler")
	if err != nil {
		return err
	}
	field, err := f.value(c, name.data, scaler.data)
	if err != nil {
		return err
	}
	field.Unit = unitText(bits(unit.data))
	if err := f.add(field, status.data); err != nil {
		return err
	}
	return c.pass()
}

// value reads the value of an entry.
func (f *file) value(c *cursor, name, scaler []byte) (telegram.Field, error) {
	field := telegram.Field{Name: obis(name)}
	if c.absent() {
		field.Quality = twin.Bad("empty")
		return field, nil
	}
	if c.isNext(list) {
		var err error
		if field.Text, err = c.structure(); err == nil && field.Text == "" {
			field.Quality = twin.Bad("unsupported")
		}
		return field, err
	}
	e, err := c.next()
	if err != nil {
		return telegram.Field{}, err
	}
	var exponent int64
	if len(scaler) > 0 {
		exponent = signed(scaler)
	}
	if exponent != int64(int8(exponent)) {
		return telegram.Field{}, errorf("scaler %d", exponent)
	}
	e = asMeant(e, name, f.server)
	switch e.kind {
	case octets:
		field.Text = octetText(e.data)
	case boolean:
		field.Text = strconv.FormatBool(e.data[0] != 0)
	case integer:
		field.Text = scaled(strconv.FormatInt(signed(e.data), 10), int(exponent))
	case unsigned:
		field.Text = scaled(strconv.FormatUint(bits(e.data), 10), int(exponent))
	}
	return field, nil
}

// add appends a field, and its status where it has one, under names of their own.
func (f *file) add(field telegram.Field, status []byte) error {
	if n := f.seen[field.Name] + 1; n > 1 {
		f.seen[field.Name] = n
		field.Name += "#" + strconv.Itoa(n)
	} else {
		f.seen[field.Name] = n
	}
	f.out.Fields = append(f.out.Fields, field)
	if status != nil {
		f.out.Fields = append(f.out.Fields, telegram.Field{Name: field.Name + "#status", Text: strconv.FormatUint(bits(status), 10)})
	}
	if len(f.out.Fields) > telegram.MaxFields {
		return errorf("more than %d fields", telegram.MaxFields)
	}
	return nil
}

// nameSender says who sent the file: the server, or the meter's own number
// where the server is empty.
func (f *file) nameSender() {
	if f.server != "" {
		f.out.Sender = octetText([]byte(f.server))
		return
	}
	for _, name := range []string{"1-0:96.1.0", "1-0:0.0.9", "0-0:96.1.255"} {
		if field, ok := f.out.Field(name); ok {
			f.out.Sender = field.Text
			return
		}
	}
}

// optional reads an element of kind k, or passes over one that is left out; its data are nil then.
func (c *cursor) optional(k kind, what string) (element, error) {
	at := c.at
	if c.absent() {
		return element{}, nil
	}
	e, err := c.next()
	if err != nil {
		return element{}, err
	}
	if e.kind != k {
		return element{}, errorf("%s at byte %d is of type %d", what, at, e.kind)
	}
	return e, nil
}
