package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

const day = 24 * time.Hour

// maxRetention is how many days are more than any law asks for, and fit a
// time.Duration.
const maxRetention = 100 * 365

// retention is how long verifications are kept, 0 for ever: contract 9.4 has
// it that nothing is erased when the setting is not understood, and that less
// than a day is a day.
func (s *Settings) retention() time.Duration {
	days, err := strconv.Atoi(strings.TrimSpace(s.RetentionDays))
	if err != nil || days > maxRetention {
		return 0
	}
	return time.Duration(max(days, 1)) * day
}

// warnOfCustody says what of the settings about keys and erasure is seldom
// meant.
func (s *Settings) warnOfCustody() []string {
	var list []string
	warn := func(when bool, sentence string) {
		if when {
			list = append(list, sentence)
		}
	}
	days, err := strconv.Atoi(strings.TrimSpace(s.RetentionDays))
	warn(s.RetentionDays != "" && (err != nil || days > maxRetention),
		"VEGA_VERIFICATION_RETENTION_DAYS is not a number of days: nothing is erased; write a whole number, such as 1825")
	warn(err == nil && days < 1, "VEGA_VERIFICATION_RETENTION_DAYS is less than 1 and counts as 1: verifications are erased after a day, for good")
	warn(s.PreviousKey.IsSet() && !s.PreviousKey.FromFile(),
		"VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS stands in the environment, which other processes may read: VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS_FILE keeps it in a file")
	return list
}

// with is a copy of the settings with another database key.
func (s *Settings) with(source, value string) *Settings {
	other := *s
	if source != "" {
		other.KeySource, other.DecryptAPI = source, settings.URL{}
	}
	other.EncryptionKey = settings.NewSecret(value)
	return &other
}

// previous are the settings with the key that the history may be under
// instead. It is a value for the same source; where that is a file, for plain:.
func (s *Settings) previous() *Settings {
	source := ""
	if strings.HasPrefix(s.keySource(), "file:") {
		source = defaultKeySource
	}
	return s.with(source, s.PreviousKey.Reveal())
}

// previousKEK reads the key that the history may be under instead, none when
// there is no such setting.
func (s *Settings) previousKEK(ctx context.Context, catalog *plugins.Catalog) ([]*atrest.KEK, error) {
	if !s.PreviousKey.IsSet() {
		return nil, nil
	}
	kek, err := openKEK(ctx, s.previous(), catalog)
	return []*atrest.KEK{kek}, named("VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS", err)
}

func openKEK(ctx context.Context, s *Settings, catalog *plugins.Catalog) (*atrest.KEK, error) {
	key, err := s.KEKFrom(ctx, catalog)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return atrest.NewKEK(key)
}

// kekOpener reads a new key for the operator. Without a source it is that of
// the settings, and without a value, too, the key of the settings.
func kekOpener(s *Settings, catalog *plugins.Catalog) func(context.Context, string, string) (*atrest.KEK, error) {
	return func(ctx context.Context, source, value string) (*atrest.KEK, error) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		switch {
		case source == "" && value == "":
			value = s.EncryptionKey.Reveal()
		case source == "" && strings.HasPrefix(s.keySource(), "file:"):
			source = defaultKeySource
		case source == defaultKeySource && value == "":
			return nil, errors.New("no key was given: name a file with --value-file")
		}
		return openKEK(ctx, s.with(source, value), catalog)
	}
}

// sayWhichKEK tells the operator when the history is under another key than
// the one that is set.
func sayWhichKEK(db *bolt.DB, p *parts, logger *slog.Logger) {
	status, err := db.KeyStatus(context.Background())
	if err != nil || status.KEK == p.kek.ID() {
		return
	}
	logger.Warn("the history is under the key of VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS: wrap it under the present one with enclave keys rotate-kek, or correct the settings",
		"kek", status.KEK, "present", p.kek.ID())
}

// kekAdvice is what an operator must do next, once the history is under
// another key.
func kekAdvice(kek string) string {
	return fmt.Sprintf("The data keys are wrapped under the key %s now. Do this next:\n"+
		"1. let VEGA_ENCRYPTION_KEY_BASE64 (or its _FILE, or what VEGA_KEY_SOURCE names) be this key at the next start; a start with the old key alone fails\n"+
		"2. make a backup: backups of before open with the old key only\n"+
		"3. when the settings have the new key, take away VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS; keep the old key, away from this machine, as long as you keep backups of before, then destroy it\n", kek)
}
