package sml

// kind is the type of an element, bits 6 to 4 of its first byte (SML 1.04, 6.3).
type kind uint8

const (
	octets   kind = 0
	boolean  kind = 4
	integer  kind = 5
	unsigned kind = 6
	list     kind = 7
)

const (
	tlMore     = 0x80 // another byte of type and length follows
	tlType     = 0x70
	tlLength   = 0x0f
	maxTL      = 4    // bytes of type and length: 65535 bytes, more than a file has
	endMessage = 0x00 // the last element of a message; it has no length
	leftOut    = 0x01 // an optional element that is not there; also an empty octet string
	maxInteger = 8    // bytes
)

// element is one element: the bytes of its value, or the number of elements of a list, which follow.
type element struct {
	kind  kind
	data  []byte
	count int
}

// cursor reads elements from b.
type cursor struct {
	b  []byte
	at int
}

// next reads an element; of a list only its head.
func (c *cursor) next() (element, error) {
	from := c.at
	if from >= len(c.b) {
		return element{}, errorf("it ends within a message")
	}
	e := element{kind: kind(c.b[from] & tlType >> 4)}
	length := 0
	for {
		if c.at >= len(c.b) {
			return element{}, errorf("it ends within a length")
		}
		tl := c.b[c.at]
		if c.at-from == maxTL || c.at > from && tl&tlType != 0 {
			return element{}, errorf("length %X at byte %d", c.b[from:c.at+1], from)
		}
		c.at++
		length = length<<4 | int(tl&tlLength)
		if tl&tlMore == 0 {
			break
		}
	}
	if e.kind == list {
		if length > MaxList || length > len(c.b)-c.at {
			return element{}, errorf("list of %d at byte %d", length, from)
		}
		e.count = length
		return e, nil
	}
	end := from + length // the length of a value counts its own bytes
	if end < c.at || end > len(c.b) {
		return element{}, errorf("element of %d bytes at byte %d", length, from)
	}
	e.data = c.b[c.at:end]
	c.at = end
	return e, e.check(from)
}

// check refuses what is no value of its type.
func (e element) check(at int) error {
	switch e.kind {
	case octets:
		return nil
	case boolean:
		if len(e.data) == 1 {
			return nil
		}
	case integer, unsigned:
		if len(e.data) >= 1 && len(e.data) <= maxInteger {
			return nil
		}
	}
	return errorf("element of type %d with %d bytes at byte %d", e.kind, len(e.data), at)
}

// skip passes over an element with all that it holds. depth is how many lists are around it.
func (c *cursor) skip(depth int) error {
	e, err := c.next()
	if err != nil || e.kind != list {
		return err
	}
	if depth >= MaxDepth {
		return errorf("lists are more than %d deep", MaxDepth)
	}
	for range e.count {
		if err := c.skip(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// pass passes over an element of a message that was skipped once, so that its depth is known to be right.
func (c *cursor) pass() error { return c.skip(0) }

// absent passes over an optional element that is not there.
func (c *cursor) absent() bool {
	if c.at < len(c.b) && c.b[c.at] == leftOut {
		c.at++
		return true
	}
	return false
}

// isNext reports whether the next element is of kind k.
func (c *cursor) isNext(k kind) bool {
	return c.at < len(c.b) && kind(c.b[c.at]&tlType>>4) == k
}

// sequence reads the head of a list of n elements: a structure.
func (c *cursor) sequence(n int, what string) error {
	at := c.at
	e, err := c.next()
	if err != nil {
		return err
	}
	if e.kind != list || e.count != n {
		return errorf("%s at byte %d is no list of %d", what, at, n)
	}
	return nil
}

// unsigned reads an unsigned integer.
func (c *cursor) unsigned(what string) (uint64, error) {
	at := c.at
	e, err := c.next()
	if err != nil {
		return 0, err
	}
	if e.kind != unsigned {
		return 0, errorf("%s at byte %d is no unsigned integer", what, at)
	}
	return bits(e.data), nil
}

// bits returns the number that big-endian bytes are, without a sign; at most eight.
func bits(b []byte) uint64 {
	var n uint64
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n
}

// signed returns the number that big-endian bytes are in two's complement, of one to eight bytes.
func signed(b []byte) int64 {
	free := 8 * (maxInteger - len(b))
	return int64(bits(b)<<free) >> free
}
