package number

import "strings"

// Order is the way a device lays out the bytes of its numbers. The letters of its
// names stand for the bytes of a number, A the most significant, in the order they
// come over the wire. The zero Order is ABCD, the most significant byte first.
type Order struct {
	swapBytes bool // within each word of 16 bits
	swapWords bool // the least significant word comes first
}

// RegisterOrders are the orders of a device that holds its numbers in words of 16 bits.
func RegisterOrders() []string { return []string{"ABCD", "BADC", "CDAB", "DCBA"} }

// ByteOrders are the orders of a device that holds its numbers in bytes: big
// and little, which are ABCD and DCBA, and BADC and CDAB.
func ByteOrders() []string { return []string{"big", "little", "BADC", "CDAB"} }

// NewOrder returns the Order with the bytes of each word of 16 bits swapped, and
// with the least significant word first.
func NewOrder(swapBytes, swapWords bool) Order { return Order{swapBytes, swapWords} }

// OrderOf returns the order of one of RegisterOrders or ByteOrders.
func OrderOf(name string) (Order, bool) {
	switch strings.ToUpper(name) {
	case "ABCD", "BIG":
		return Order{}, true
	case "BADC":
		return Order{swapBytes: true}, true
	case "CDAB":
		return Order{swapWords: true}, true
	case "DCBA", "LITTLE":
		return Order{swapBytes: true, swapWords: true}, true
	}
	return Order{}, false
}

// perm is where on the wire the bytes of a number are, the most significant first.
type perm [8]uint8

// perm returns the places of the bytes of a number of width bytes; false where
// they do not part into words.
func (o Order) perm(width int) (perm, bool) {
	var p perm
	if width == 1 {
		return p, true
	}
	if width%2 == 1 {
		for k := range width {
			p[k] = uint8(k)
			if o.swapBytes {
				p[k] = uint8(width - 1 - k)
			}
		}
		return p, o.swapBytes == o.swapWords
	}
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
	return p, true
}

// permOf reads the order of one number of width bytes: big or little, AB or BA
// for two bytes, RegisterOrders for whole words from four bytes on, and the letters of the bytes in any
// order for three, six and eight.
func permOf(name string, width int) (perm, bool) {
	name = strings.ToUpper(name)
	switch {
	case width == 1:
		return perm{}, false
	case name == "BIG" || (width == 2 && name == "AB"):
		return Order{}.perm(width)
	case name == "LITTLE" || (width == 2 && name == "BA"):
		return Order{true, true}.perm(width)
	case width >= 4 && len(name) == 4:
		o, ok := OrderOf(name)
		p, fits := o.perm(width)
		return p, ok && fits
	case width == len(name) && (width == 3 || width == 6 || width == 8):
		return spelledPerm(name)
	}
	return perm{}, false
}

func spelledPerm(name string) (perm, bool) {
	var p perm
	seen := 0
	for i, c := range []byte(name) {
		if c < 'A' || int(c-'A') >= len(name) {
			return perm{}, false
		}
		seen |= 1 << (c - 'A')
		p[c-'A'] = uint8(i)
	}
	return p, seen == 1<<len(name)-1
}

// ordersFor says which orders fit width bytes.
func ordersFor(width int) string {
	orders := "ABCD, BADC, CDAB or DCBA"
	switch width {
	case 2:
		orders = "AB or BA"
	case 3:
		orders = "ABC or CBA"
	case 6:
		orders = "ABCD, BADC, CDAB, DCBA, or the six letters A to F in any order"
	case 8:
		orders = "ABCD, BADC, CDAB, DCBA, or the eight letters A to H in any order"
	}
	return orders + ", or big or little"
}
