// Package modbus speaks Modbus as a client: it reads declarations, plans
// requests, carries them over TCP, UDP and serial lines, and turns registers into
// values and back. Protocol data units and frames are goburrow/modbus's; the
// transports are its own, see DESIGN.md.
package modbus
