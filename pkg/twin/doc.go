// Package twin holds the words every part of Twinline speaks: devices and their
// properties, values with quality and time, samples, commands, and the messages
// and topics by which the parts exchange them. It imports the standard library
// only and does no I/O.
package twin
