package redis

import "sync"

// maxDebts bounds what is remembered: some 150 bytes each.
const maxDebts = 10_000

// debts remembers the entries that must be deleted before Redis is asked for
// them again. When there are too many, any one is forgotten: a bundle that was
// dropped may then be read once more, which costs its user a refusal by the
// counterparty and another lookup.
type debts struct {
	mu    sync.Mutex
	names map[string]struct{}
}

func (d *debts) add(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil {
		d.names = map[string]struct{}{}
	}
	if _, there := d.names[name]; !there && len(d.names) >= maxDebts {
		for any := range d.names {
			delete(d.names, any)
			break
		}
	}
	d.names[name] = struct{}{}
}

func (d *debts) remove(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, name)
}

func (d *debts) has(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, owed := d.names[name]
	return owed
}
