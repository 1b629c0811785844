// Package dsmr decodes the telegrams that the P1 port of smart meters sends:
// DSMR 2.2, 3, 4 and 5, ESMR 5, and what follows them in Belgium (e-MUCS P1), Luxembourg (after
// decryption), Sweden, Hungary and elsewhere. It keeps no state; everything is safe for concurrent use.
//
// The fields are named after the OBIS codes, as the meter writes them:
// "1-0:1.8.1". What stands in the parentheses behind a code are its groups:
//
//   - The first is the field of that name, and the second, third and so on "1-0:99.97.0#2", "#3".
//     The power failure log and the monthly peaks of Belgian meters are such lists.
//   - A time and a reading, "0-1:24.2.1(101209112500W)(12785.123*m3)", are the reading under the
//     plain name and the time as "0-1:24.2.1@time". Both are bad:time if there is no
//     such time: a meter writes one (632525252525S) where it has no reading yet.
//   - The two lines in which DSMR 2 and 3 have the gas meter, "0-1:24.3.0(time)(00)(60)(1)(0-1:24.2.1)(m3)"
//     and "(00024.123)", are the reading with its unit as "0-1:24.3.0", the time as "0-1:24.3.0@time", and
//     what is between them "#2" to "#6".
//   - A code that comes again gets "#2" and so on, whichever is free.
//
// The text of a field keeps the digits and leading zeros of the telegram, times too
// ("101209113020W": W is winter time, UTC+1, S is summer time, UTC+2). What
// the companion standards send as hexadecimal text, device numbers and messages (0-n:96.1.0 to 96.1.2,
// 0-0:42.0.0, 96.13.0 and 96.13.1), is that text if it is printable; else it stays as it is.
//
// Time is that of 0-0:1.0.0. Sender is the device number 0-0:96.1.1, or, where there is none, the
// identification line without "/".
package dsmr

import "errors"

// Kinds of errors, for errors.Is.
var (
	// ErrChecksum says that the CRC of a telegram is wrong, or missing where the version has one.
	ErrChecksum = errors.New("wrong checksum")
	// ErrFormat says that what came is no P1 telegram.
	ErrFormat = errors.New("no P1 telegram")
	// ErrEncrypted says that the telegram is encrypted, as in Luxembourg and Austria.
	ErrEncrypted = errors.New("the telegram is encrypted, which is not supported")
)

// Bounds. A message of DSMR 3 to 5 has 1024 characters (P1 Companion Standard
// 5.0.2, section 6.12), which are 2048 hexadecimal digits; the longest telegrams have about 4000 bytes.
const (
	MaxTelegram = 16 << 10
	maxLine     = 2048 + 64
)
