package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

var (
	// errDoesNotOpen: the token is well and the value does not open.
	errDoesNotOpen = errors.New("does not open: it was changed, or the key in the token is another")
	// errPIN is not tried again: a token locks itself after a few wrong PINs.
	errPIN = errors.New("the token refuses the PIN")
)

// token wraps and unwraps with AES keys that never leave a PKCS#11 token. Its
// methods may be called concurrently; the token does one thing at a time.
//
// Sessions end for many reasons: a token that was taken out, a network HSM
// that was restarted, a time-out. Whatever the error, a token that fails a
// probe is opened anew and asked once more.
type token struct {
	module, label, pinFile string
	keys                   []string // labels, the first one wraps
	log                    *slog.Logger

	mu      sync.Mutex
	library *pkcs11.Ctx
	session pkcs11.SessionHandle
	handles map[string]pkcs11.ObjectHandle // by label; nil: not open
	locked  bool                           // after errPIN
}

// openToken loads the library and opens a session that can use all keys.
func openToken(c *config, log *slog.Logger) (*token, error) {
	t := &token{module: c.Module, label: c.TokenLabel, pinFile: c.PINFile, keys: c.Keys, log: log}
	if t.library = pkcs11.New(t.module); t.library == nil {
		return nil, fmt.Errorf("%s is no PKCS#11 library that can be loaded", t.module)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.open()
	if err == nil {
		err = t.find()
	}
	if err != nil {
		t.shut()
		t.library.Destroy()
		return nil, err
	}
	return t, nil
}

// Close ends the session and unloads the library.
func (t *token) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shut()
	t.library.Destroy()
}

func (t *token) open() error {
	if t.locked {
		return errPIN
	}
	pin, err := os.ReadFile(t.pinFile)
	if err != nil {
		return err
	}
	defer clear(pin)
	if err := t.library.Initialize(); err != nil && !is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return fmt.Errorf("the PKCS#11 library does not start: %w", err)
	}
	slot, err := t.slot()
	if err != nil {
		return err
	}
	if t.session, err = t.library.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	err = t.library.Login(t.session, pkcs11.CKU_USER, strings.TrimRight(string(pin), "\r\n"))
	switch {
	case is(err, pkcs11.CKR_PIN_INCORRECT), is(err, pkcs11.CKR_PIN_LOCKED), is(err, pkcs11.CKR_PIN_LEN_RANGE), is(err, pkcs11.CKR_PIN_INVALID):
		t.locked = true
		return errPIN
	case err != nil && !is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

// shut forgets everything; what fails of it does not matter.
func (t *token) shut() {
	_ = t.library.CloseSession(t.session)
	_ = t.library.Finalize()
	t.handles = nil
}

func is(err error, code uint) bool {
	var e pkcs11.Error
	return errors.As(err, &e) && uint(e) == code
}

// slot is where the one token of our label is.
func (t *token) slot() (uint, error) {
	slots, err := t.library.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("list tokens: %w", err)
	}
	var found []uint
	for _, s := range slots {
		if info, err := t.library.GetTokenInfo(s); err == nil && info.Label == t.label {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d tokens have the label %q, want one", len(found), t.label)
	}
	return found[0], nil
}

// find looks up all keys, and refuses one that the token would hand out.
func (t *token) find() error {
	handles := map[string]pkcs11.ObjectHandle{}
	for _, label := range t.keys {
		key, err := t.findOne(label)
		if err != nil {
			return err
		}
		got, err := t.library.GetAttributeValue(t.session, key, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil),
		})
		if err != nil {
			return fmt.Errorf("key %s: %w", label, err)
		}
		if !bytes.Equal(got[0].Value, []byte{1}) || !bytes.Equal(got[1].Value, []byte{0}) {
			return fmt.Errorf("key %s can leave the token (it must be sensitive and not extractable): make another with decryptapi keys init", label)
		}
		handles[label] = key
	}
	t.handles = handles
	return nil
}

func (t *token) findOne(label string) (pkcs11.ObjectHandle, error) {
	keys, err := t.search(label)
	switch {
	case err != nil:
		return 0, err
	case len(keys) == 0:
		return 0, fmt.Errorf("the token has no AES key %s: make it with decryptapi keys init", label)
	case len(keys) > 1:
		return 0, fmt.Errorf("the token has more than one AES key %s", label)
	}
	return keys[0], nil
}

func (t *token) search(label string) ([]pkcs11.ObjectHandle, error) {
	err := t.library.FindObjectsInit(t.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	})
	if err != nil {
		return nil, fmt.Errorf("look for key %s: %w", label, err)
	}
	keys, _, err := t.library.FindObjects(t.session, 2)
	return keys, errors.Join(err, t.library.FindObjectsFinal(t.session))
}

// makeKey makes a key in the token that cannot leave it.
func makeKey(c *config, label string, log *slog.Logger) error {
	none := *c
	none.Keys = nil
	t, err := openToken(&none, log)
	if err != nil {
		return err
	}
	defer t.Close()
	there, err := t.search(label)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("the token has an AES key %s already; nothing was changed", label)
	}
	_, err = t.library.GenerateKey(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(label)),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keySize), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false), pkcs11.NewAttribute(pkcs11.CKA_SIGN, false), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
	})
	if err != nil {
		return fmt.Errorf("make key %s: %w", label, err)
	}
	return nil
}

// wrap seals a database key for an instance; a nil key is 32 new random bytes
// of the token, which nobody sees.
func (t *token) wrap(instance string, key []byte) (v value, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	err = t.do(func() error {
		v, err = t.wrapOnce(instance, key)
		return err
	})
	return v, err
}

func (t *token) wrapOnce(instance string, key []byte) (value, error) {
	if key == nil {
		made, err := t.library.GenerateRandom(t.session, keySize)
		if err != nil {
			return value{}, fmt.Errorf("random bytes of the token: %w", err)
		}
		defer clear(made)
		key = made
	}
	v := value{label: t.keys[0], instance: instance, nonce: make([]byte, nonceSize)}
	_, _ = rand.Read(v.nonce)
	// Some tokens choose the nonce themselves, and say which it was.
	var err error
	v.nonce, v.sealed, err = t.seal(v, key)
	if err == nil && (len(v.nonce) != nonceSize || len(v.sealed) != keySize+tagSize) {
		err = fmt.Errorf("the token's AES-GCM gave %d bytes and a nonce of %d", len(v.sealed), len(v.nonce))
	}
	return v, err
}

func (t *token) seal(v value, key []byte) (nonce, sealed []byte, err error) {
	params := pkcs11.NewGCMParams(v.nonce, v.associated(), tagSize*8)
	defer params.Free()
	if err := t.library.EncryptInit(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, t.handles[v.label]); err != nil {
		return nil, nil, fmt.Errorf("AES-GCM in the token: %w", err)
	}
	if sealed, err = t.library.Encrypt(t.session, key); err != nil {
		return nil, nil, fmt.Errorf("AES-GCM in the token: %w", err)
	}
	return params.IV(), sealed, nil
}

// unwrap gives the database key, or errDoesNotOpen when the token is well.
func (t *token) unwrap(v value) (key []byte, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	err = t.do(func() error {
		key, err = t.unwrapOnce(v)
		return err
	})
	return key, err
}

func (t *token) unwrapOnce(v value) ([]byte, error) {
	handle, known := t.handles[v.label]
	if !known {
		return nil, errDoesNotOpen
	}
	params := pkcs11.NewGCMParams(v.nonce, v.associated(), tagSize*8)
	defer params.Free()
	err := t.library.DecryptInit(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, handle)
	var key []byte
	if err == nil {
		key, err = t.library.Decrypt(t.session, v.sealed)
	}
	if err != nil || len(key) != keySize {
		// Tokens say in many ways that a tag is wrong. One that does other work
		// means the value.
		if probe := t.probe(); probe != nil {
			return nil, errors.Join(err, probe)
		}
		return nil, errDoesNotOpen
	}
	return key, nil
}

// do does one thing, and once more with a new session when the token is not
// well.
func (t *token) do(work func() error) error {
	if t.handles != nil {
		err := work()
		if err == nil || errors.Is(err, errDoesNotOpen) {
			return err
		}
		t.log.Warn("the token failed and is opened anew", "err", err)
	}
	t.shut()
	if err := t.open(); err != nil {
		return err
	}
	if err := t.find(); err != nil {
		return err
	}
	return work()
}

// probe seals and opens something, to see whether the token is well.
func (t *token) probe() error {
	v, err := t.wrapOnce("probe", make([]byte, keySize))
	if err != nil {
		return err
	}
	params := pkcs11.NewGCMParams(v.nonce, v.associated(), tagSize*8)
	defer params.Free()
	if err := t.library.DecryptInit(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, t.handles[v.label]); err != nil {
		return err
	}
	_, err = t.library.Decrypt(t.session, v.sealed)
	return err
}

// healthy tells whether the token works now, and opens it anew when not.
func (t *token) healthy() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.do(t.probe)
}
