package iec62056

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/twinline/twinline/internal/telegram"
)

// data receives the data message. A meter of mode C that did not understand the
// option select message sends at the initial rate (section 6.4.3), which at another rate is noise or
// nothing; so if no message is seen at the new rate, it is looked for at the old one.
func (d *dialogue) data(ctx context.Context, id Identification) (telegram.Telegram, error) {
	t, err := d.receive(ctx, id, false)
	if d.framed || d.rate == d.StartBaud || !errors.Is(err, ErrSilent) && !errors.Is(err, ErrDamaged) {
		return t, err
	}
	if err := d.back(ctx); err != nil {
		return telegram.Telegram{}, err
	}
	t, again := d.receive(ctx, id, true)
	if errors.Is(again, ErrSilent) {
		return telegram.Telegram{}, err // which says more
	}
	return t, again
}

// receive receives one data message, and has it repeated while it is damaged
// (section 6.3.6). prompt asks for it even if nothing comes: it may be over.
func (d *dialogue) receive(ctx context.Context, id Identification, prompt bool) (telegram.Telegram, error) {
	var damage error
	for repeats := 0; ; repeats++ {
		raw, err := d.line.Receive(ctx, d.Timeout, messageEnd)
		if err != nil {
			return telegram.Telegram{}, err
		}
		t, err := d.judge(raw, id)
		silent := errors.Is(err, ErrSilent)
		if !silent && !errors.Is(err, ErrDamaged) {
			return t, err
		}
		if damage == nil || !silent {
			damage = err
		}
		if repeats == maxRepeats || silent && (!prompt || repeats > 0) {
			return telegram.Telegram{}, damage
		}
		if err := d.answer(ctx, []byte{nak}); err != nil {
			return telegram.Telegram{}, err
		}
	}
}

// messageEnd is where a message with a block check character ends; 0: not yet.
// One without has no end that could be told from that of a message whose STX was lost: silence
// ends it.
func messageEnd(b []byte) int {
	if len(b) >= MaxMessage {
		return len(b)
	}
	start := bytes.IndexAny(b, "\x01\x02")
	if start < 0 {
		return 0
	}
	end := bytes.IndexByte(b[start:], etx)
	if end < 0 || start+end+2 > len(b) {
		return 0
	}
	return start + end + 2
}

// judge decodes what came in the place of the data message.
func (d *dialogue) judge(raw []byte, id Identification) (telegram.Telegram, error) {
	if len(raw) == 0 {
		return telegram.Telegram{}, ErrSilent
	}
	if len(raw) == 1 && raw[0] == nak {
		return telegram.Telegram{}, fmt.Errorf("%w: the meter answers NAK", ErrRefused)
	}
	start := bytes.IndexAny(raw, "\x01\x02")
	if start < 0 {
		return d.bare(raw, id)
	}
	raw = raw[start:]
	if raw[0] == soh && bytes.HasPrefix(raw[1:], []byte("B0\x03")) && len(raw) == 5 && bcc(raw[1:4]) == raw[4] { // section 6.3.12
		return telegram.Telegram{}, fmt.Errorf("%w: the meter breaks the session off", ErrRefused)
	}
	d.framed = d.framed || raw[0] == stx && bytes.IndexByte(raw, etx) > 0
	block, err := unwrap(raw)
	if err != nil {
		return telegram.Telegram{}, fmt.Errorf("data message: %w", err)
	}
	if bytes.HasPrefix(block, []byte("(")) && !bytes.ContainsRune(block, '!') { // section 6.3.11
		return telegram.Telegram{}, fmt.Errorf("%w: the meter answers %s", ErrRefused, quoted(string(block)))
	}
	return id.decode(block)
}

// bare decodes a message without a block check character, which is for modes A
// and B only. What cannot be decoded is damaged: nothing else says whether it is whole.
func (d *dialogue) bare(raw []byte, id Identification) (telegram.Telegram, error) {
	if id.Mode == ModeC {
		return telegram.Telegram{}, fmt.Errorf("data message: %w: no STX", ErrDamaged)
	}
	t, err := id.message(raw)
	if errors.Is(err, ErrFormat) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return t, err
}
