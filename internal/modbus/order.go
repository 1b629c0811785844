package modbus

import "strings"

// order is the way a device lays out the bytes of a number. The letters of its
// names stand for the bytes of the number, A the most significant, in the order they
// come over the wire.
type order struct {
	swapBytes bool // within each register
	swapWords bool // the least significant register comes first
}

// orderNames are the orders of a whole device, and of any number of 32 or 64 bits.
func orderNames() []string { return []string{"ABCD", "BADC", "CDAB", "DCBA"} }

// orderOf returns the order of one of orderNames.
func orderOf(name string) (order, bool) {
	switch strings.ToUpper(name) {
	case "ABCD":
		return order{}, true
	case "BADC":
		return order{swapBytes: true}, true
	case "CDAB":
		return order{swapWords: true}, true
	case "DCBA":
		return order{swapBytes: true, swapWords: true}, true
	}
	return order{}, false
}

// perm is where on the wire the bytes of a number are, the most significant first.
type perm [8]uint8

// perm returns the places of the bytes of a number of width bytes.
func (o order) perm(width int) perm {
	var p perm
	for k := range width {
		word, low := k/2, k%2
		if o.swapWords {
			word = width/2 - 1 - word
		}
		if o.swapBytes {
			low ^= 1
		}
		p[k] = uint8(word*2 + low)
	}
	return p
}

// permOf reads the order of one number of width bytes: AB or BA for one
// register, orderNames for two and four, and any order of the letters A to H for four.
func permOf(name string, width int) (perm, bool) {
	name = strings.ToUpper(name)
	switch {
	case width == 2 && name == "AB":
		return order{}.perm(width), true
	case width == 2 && name == "BA":
		return order{swapBytes: true}.perm(width), true
	case width >= 4 && len(name) == 4:
		o, ok := orderOf(name)
		return o.perm(width), ok
	case width == 8 && len(name) == 8:
		return spelledPerm(name)
	}
	return perm{}, false
}

func spelledPerm(name string) (perm, bool) {
	var p perm
	seen := 0
	for i, c := range []byte(name) {
		if c < 'A' || c > 'H' {
			return perm{}, false
		}
		seen |= 1 << (c - 'A')
		p[c-'A'] = uint8(i)
	}
	return p, seen == 0xFF
}

// ordersFor says which orders fit width bytes.
func ordersFor(width int) string {
	switch width {
	case 2:
		return "AB or BA"
	case 8:
		return "ABCD, BADC, CDAB, DCBA, or the eight letters A to H in any order"
	}
	return "ABCD, BADC, CDAB or DCBA"
}
