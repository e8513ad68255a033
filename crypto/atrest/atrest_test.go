package atrest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
)

const month = 30 * 24 * time.Hour

var instance = [16]byte{1, 2, 3}

func newKEK(t testing.TB, fill byte) *atrest.KEK {
	t.Helper()
	kek, err := atrest.NewKEK(insecure.Seed(fill))
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func newKeys(t testing.TB, periods ...uint32) *atrest.Keys {
	t.Helper()
	k, err := atrest.NewKeys(instance, month)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range periods {
		if err := k.AddPeriod(n); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func personal(t testing.TB, k *atrest.Keys, n uint32) atrest.Cipher {
	t.Helper()
	c, err := k.Personal(n)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKEKHasExactly32Bytes(t *testing.T) {
	for _, n := range []int{0, 1, 16, 24, 31, 33, 44, 64} {
		key := bytes.Repeat([]byte{0x41}, n)
		_, err := atrest.NewKEK(key)
		if err == nil {
			t.Errorf("NewKEK of %d bytes succeeds, want an error", n)
			continue
		}
		if want := fmt.Sprintf("%d bytes, want 32", n); !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("NewKEK of %d bytes = %v, want the lengths and no key", n, err)
		}
	}
}

func TestKEKIDNamesTheKey(t *testing.T) {
	a, again, b := newKEK(t, 1), newKEK(t, 1), newKEK(t, 2)
	if a.ID() != again.ID() || a.ID() == b.ID() || len(a.ID()) != 16 {
		t.Errorf("ids: %s, %s, %s", a.ID(), again.ID(), b.ID())
	}
	if strings.Contains(a.ID(), "0101") {
		t.Errorf("id %s shows the key", a.ID())
	}
}

func TestSealedValueComesBack(t *testing.T) {
	k := newKeys(t, 5)
	place := atrest.Place{Bucket: "history", Record: []byte{0, 1}, Version: 2}
	for name, c := range map[string]atrest.Cipher{"private": k.Private(), "personal": personal(t, k, 5)} {
		for _, plaintext := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("long"), 4096)} {
			sealed, err := c.Seal(place, []byte("clear"), plaintext)
			if err != nil {
				t.Fatal(err)
			}
			if len(sealed) != len(plaintext)+atrest.Overhead {
				t.Errorf("%s: %d bytes sealed to %d", name, len(plaintext), len(sealed))
			}
			got, err := c.Open(place, []byte("clear"), sealed)
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("%s: Open = %q, %v", name, got, err)
			}
		}
	}
}

// Attack S2: a value opens at its place, in its version, beside its clear
// bytes, in its database, under its key. Nowhere else.
func TestOpenRefusesAnotherPlace(t *testing.T) {
	k := newKeys(t, 5, 6)
	c := personal(t, k, 5)
	here := atrest.Place{Bucket: "history", Record: []byte("ab"), Version: 2}
	sealed, err := c.Seal(here, []byte("clear"), []byte("Kim"))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, c atrest.Cipher, p atrest.Place, clear string, sealed []byte) {
		t.Helper()
		if got, err := c.Open(p, []byte(clear), sealed); !errors.Is(err, atrest.ErrCorrupt) {
			t.Errorf("%s: Open = %q, %v, want ErrCorrupt", name, got, err)
		}
	}
	for name, p := range map[string]atrest.Place{
		"other bucket":                   {Bucket: "receipts", Record: here.Record, Version: 2},
		"other record":                   {Bucket: "history", Record: []byte("ac"), Version: 2},
		"old version":                    {Bucket: "history", Record: here.Record, Version: 1},
		"border of bucket moved":         {Bucket: "historya", Record: []byte("b"), Version: 2},
		"border of record moved":         {Bucket: "histor", Record: []byte("yab"), Version: 2},
		"nowhere":                        {},
		"record with the version's byte": {Bucket: "history", Record: append([]byte("ab"), 0, 0, 0, 0, 0, 0, 0, 2), Version: 0},
	} {
		refused(name, c, p, "clear", sealed)
	}
	refused("other clear bytes", c, here, "Clear", sealed)
	refused("no clear bytes", c, here, "", sealed)
	refused("other period", personal(t, k, 6), here, "clear", sealed)
	refused("private key", k.Private(), here, "clear", sealed)
	refused("other database", personal(t, newKeys(t, 5), 5), here, "clear", sealed)
	refused("empty", c, here, "clear", nil)
	refused("trailing byte", c, here, "clear", append(bytes.Clone(sealed), 0))
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		refused(fmt.Sprintf("byte %d changed", i), c, here, "clear", bad)
		refused(fmt.Sprintf("cut to %d", i), c, here, "clear", sealed[:i])
	}
}

func TestPrivateAEADIsBoundToItsPlace(t *testing.T) {
	k := newKeys(t)
	wrapped, err := k.PrivateAEAD().Encrypt([]byte("key"), []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.PrivateAEAD().Decrypt(wrapped, []byte("place")); err != nil || string(got) != "key" {
		t.Errorf("Decrypt = %q, %v", got, err)
	}
	for name, err := range map[string]error{
		"other place":    decryptError(k, wrapped, "Place"),
		"other database": decryptError(newKeys(t), wrapped, "place"),
	} {
		if err == nil {
			t.Errorf("%s: Decrypt succeeds, want refusal", name)
		}
	}
	if _, err := k.Private().Open(atrest.Place{}, []byte("place"), append([]byte{1}, wrapped...)); err == nil {
		t.Error("a wrapped key opens as a value")
	}
}

func decryptError(k *atrest.Keys, wrapped []byte, place string) error {
	_, err := k.PrivateAEAD().Decrypt(wrapped, []byte(place))
	return err
}

func TestPeriodsAreAddedAndErased(t *testing.T) {
	k := newKeys(t)
	if _, err := k.Personal(5); !errors.Is(err, atrest.ErrNoPeriod) {
		t.Errorf("Personal(5) before AddPeriod = %v, want ErrNoPeriod", err)
	}
	for range 2 { // the second time changes nothing
		if err := k.AddPeriod(5); err != nil {
			t.Fatal(err)
		}
	}
	sealed, err := personal(t, k, 5).Seal(atrest.Place{}, nil, []byte("Kim"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.AddPeriod(5); err != nil {
		t.Fatal(err)
	}
	if _, err := personal(t, k, 5).Open(atrest.Place{}, nil, sealed); err != nil {
		t.Errorf("after AddPeriod again: %v", err)
	}
	if err := k.AddPeriod(3); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(k.Periods()); got != "[3 5]" {
		t.Errorf("Periods = %s, want [3 5]", got)
	}
	if err := k.DropPeriod(5); err != nil {
		t.Fatal(err)
	}
	if err := k.DropPeriod(5); !errors.Is(err, atrest.ErrNoPeriod) {
		t.Errorf("DropPeriod twice = %v, want ErrNoPeriod", err)
	}
	if err := k.AddPeriod(5); err != nil {
		t.Fatal(err)
	}
	if _, err := personal(t, k, 5).Open(atrest.Place{}, nil, sealed); !errors.Is(err, atrest.ErrCorrupt) {
		t.Errorf("what was erased opens again: %v", err)
	}
}

func TestPeriodNumbers(t *testing.T) {
	k := newKeys(t)
	for _, c := range []struct {
		at   time.Time
		want uint32
	}{
		{time.Time{}, 0}, {time.UnixMilli(-1), 0}, {time.UnixMilli(0), 0},
		{time.UnixMilli(month.Milliseconds() - 1), 0}, {time.UnixMilli(month.Milliseconds()), 1},
		{time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), 681},
	} {
		if got := k.Period(c.at); got != c.want {
			t.Errorf("Period(%v) = %d, want %d", c.at, got, c.want)
		}
	}
	if k.PeriodLength() != month || k.Instance() != instance {
		t.Errorf("PeriodLength = %v, Instance = %x", k.PeriodLength(), k.Instance())
	}
	for _, bad := range []time.Duration{0, -month, time.Second - time.Millisecond, time.Second + time.Microsecond} {
		if _, err := atrest.NewKeys(instance, bad); err == nil {
			t.Errorf("NewKeys with period %v succeeds, want an error", bad)
		}
	}
}

// Attack S9: equal values are found again, and nothing else is to be learned.
func TestIndexIsKeyedAndSeparatesPurposes(t *testing.T) {
	k := newKeys(t)
	first, again := k.Index("account", []byte("0xabc")), k.Index("account", []byte("0xabc"))
	if first != again {
		t.Error("an index is not repeatable")
	}
	mac := k.MAC("account", []byte("0xabc"))
	for name, other := range map[string][16]byte{
		"other value":    k.Index("account", []byte("0xabd")),
		"other purpose":  k.Index("tx", []byte("0xabc")),
		"border moved":   k.Index("account0", []byte("xabc")),
		"other database": newKeys(t).Index("account", []byte("0xabc")),
		"MAC":            [16]byte(mac[:16]),
	} {
		if other == k.Index("account", []byte("0xabc")) {
			t.Errorf("%s: same index", name)
		}
	}
}

func TestKeysServeManyAtOnce(t *testing.T) {
	k := newKeys(t, 0)
	kek := newKEK(t, 1)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			n := uint32(i % 3)
			if err := k.AddPeriod(n); err != nil {
				t.Error(err)
			}
			c, err := k.Personal(n)
			if err != nil {
				t.Error(err)
				return
			}
			sealed, err := c.Seal(atrest.Place{}, nil, []byte("x"))
			if err != nil {
				t.Error(err)
			}
			// Whoever added the period, all use one key.
			if c, err = k.Personal(n); err != nil {
				t.Error(err)
			}
			if _, err := c.Open(atrest.Place{}, nil, sealed); err != nil {
				t.Error(err)
			}
			if _, err := k.WrapRecord(kek); err != nil {
				t.Error(err)
			}
			k.Index("p", []byte("v"))
		})
	}
	wg.Wait()
}

func TestSecretsPrintNothing(t *testing.T) {
	k := newKeys(t, 5)
	c := personal(t, k, 5)
	kek := newKEK(t, 0x41)
	var out bytes.Buffer
	for _, secret := range []any{kek, *kek, k, c, k.PrivateAEAD()} {
		fmt.Fprintf(&out, "%v %+v %#v %x %d ", secret, secret, secret, secret, secret)
		if err := json.NewEncoder(&out).Encode(secret); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("log", "secret", secret)
	}
	if got := strings.Count(out.String(), "[redacted]"); got != 5*7 || strings.Contains(out.String(), "4141") {
		t.Errorf("%d times redacted, want 35: %s", got, out.String())
	}
}
