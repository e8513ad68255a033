package robotcmd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math/big"
	"regexp"
	"strings"
	"sync"
)

// chain is the pretended blockchain of one robot: who has how much, and the
// hashes of what moved. Methods may be called concurrently.
type chain struct {
	book  *book
	mu    sync.Mutex
	moved map[accountKey]*big.Rat // what came in since the start, less what went out
}

func newChain(b *book) *chain { return &chain{book: b, moved: map[accountKey]*big.Rat{}} }

// balance is what an address has. One that nobody knows has nothing.
func (c *chain) balance(at accountKey) *big.Rat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of(at)
}

func (c *chain) of(at accountKey) *big.Rat {
	sum := new(big.Rat)
	if a := c.book.accounts[at]; a != nil {
		sum.Set(a.balance)
	}
	if moved := c.moved[at]; moved != nil {
		sum.Add(sum, moved)
	}
	return sum
}

// errTooLittle says that an account cannot pay.
var errTooLittle = errors.New("the account has too little")

// move moves an amount, all of it or none.
func (c *chain) move(from, to accountKey, amount *big.Rat) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of(from).Cmp(amount) < 0 {
		return errTooLittle
	}
	c.add(from, new(big.Rat).Neg(amount))
	c.add(to, amount)
	return nil
}

// undo takes a move back, even when what came was spent: this chain is
// pretended, and some tests need it to forget.
func (c *chain) undo(from, to accountKey, amount *big.Rat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(from, amount)
	c.add(to, new(big.Rat).Neg(amount))
}

// credit lets coins of elsewhere arrive.
func (c *chain) credit(to accountKey, amount *big.Rat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(to, amount)
}

func (c *chain) add(at accountKey, amount *big.Rat) {
	if c.moved[at] == nil {
		c.moved[at] = new(big.Rat)
	}
	c.moved[at].Add(c.moved[at], amount)
}

// newHash is a transaction's hash as a node of the symbol's chain prints it.
func newHash(symbol string) string {
	b := make([]byte, 32)
	rand.Read(b)
	text := hex.EncodeToString(b)
	switch strings.ToUpper(symbol) {
	case "XRP":
		return strings.ToUpper(text)
	case "BTC", "XMR":
		return text
	}
	return "0x" + text
}

// decimal is an amount as the contract writes it. 40 digits before the point
// and 40 behind it are enough for every coin.
var decimal = regexp.MustCompile(`^[0-9]{1,40}(\.[0-9]{1,40})?$`)

// parseAmount reads a decimal number that is not negative.
func parseAmount(text string) (*big.Rat, error) {
	if !decimal.MatchString(text) {
		return nil, errors.New(`write a decimal number as a string, such as "1.25"`)
	}
	amount, _ := new(big.Rat).SetString(text)
	return amount, nil
}

// formatAmount writes it as parseAmount reads it, without needless zeros.
func formatAmount(amount *big.Rat) string {
	text := amount.FloatString(40)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
