package bus

import "time"

// SetStall shortens how long a handler may stall a persistent session.
func (c *Client) SetStall(d time.Duration) { c.stall = d }
