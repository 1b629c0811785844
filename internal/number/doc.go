// Package number turns the bytes or the text in which a device holds a value
// into a twin.Value and back: types, orders of bytes, scale, names and sentinels. It is what the
// drivers share once they have cut out what belongs to a property. See DESIGN.md.
package number
