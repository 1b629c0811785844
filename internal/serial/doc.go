// Package serial reads declarations of instruments on serial lines, and speaks
// with them: frames in, values out. What an instrument says is described by its
// Device, or by a profile that stands for a piece of such a description.
package serial

// Protocol is the protocolName of serial devices.
const Protocol = "serial"
