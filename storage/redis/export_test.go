package redis

// Replies gives a fresh watcher of what a server says.
func Replies() (pass func([]byte) error, restart func()) {
	r := new(replies)
	return r.pass, r.restart
}

// Bounds that tests reach.
const (
	MaxReply = maxReply
	MaxLine  = maxLine
	MaxItems = maxItems
	MaxBulk  = maxBulk
	MaxDebts = maxDebts
)

// ErrReply is what every reply out of bounds is.
var ErrReply = errReply

// Debts says how many entries are still to be deleted.
func (c *Cache) Debts() int {
	c.owed.mu.Lock()
	defer c.owed.mu.Unlock()
	return len(c.owed.names)
}
