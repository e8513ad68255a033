package keyring

import (
	"container/list"
	"sync"
)

// recent remembers what was used last, and forgets what was not used for the
// longest time when there is more than size.
type recent[K comparable, V any] struct {
	mu    sync.Mutex
	size  int
	byKey map[K]*list.Element
	order *list.List // of *entry[K, V], the last used in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](size int) *recent[K, V] {
	return &recent[K, V]{size: size, byKey: map[K]*list.Element{}, order: list.New()}
}

// get gives what is remembered of a key.
func (r *recent[K, V]) get(key K) (value V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.byKey[key]
	if !ok {
		return value, false
	}
	r.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// put remembers a value, in place of another one of that key.
func (r *recent[K, V]) put(key K, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.byKey[key]; ok {
		e.Value.(*entry[K, V]).value = value
		r.order.MoveToFront(e)
		return
	}
	r.byKey[key] = r.order.PushFront(&entry[K, V]{key, value})
	if r.order.Len() > r.size {
		r.remove(r.order.Back())
	}
}

// drop forgets a key; an absent one is no error.
func (r *recent[K, V]) drop(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.byKey[key]; ok {
		r.remove(e)
	}
}

// keepOnly forgets what may not stay.
func (r *recent[K, V]) keepOnly(may func(V) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var next *list.Element
	for e := r.order.Front(); e != nil; e = next {
		next = e.Next()
		if !may(e.Value.(*entry[K, V]).value) {
			r.remove(e)
		}
	}
}

func (r *recent[K, V]) remove(e *list.Element) {
	delete(r.byKey, r.order.Remove(e).(*entry[K, V]).key)
}
