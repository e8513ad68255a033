package storage_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

func TestResultsAreSpelledAsInTheContract(t *testing.T) {
	for result, want := range map[storage.Result]string{
		storage.Wait: "WAIT", storage.Verified: "VERIFIED", storage.Denied: "DENIED", storage.Unknown: "UNKNOWN",
		storage.Error: "ERROR", storage.Pending: "PENDING", storage.TransferError: "TRANSFER_ERROR",
	} {
		if got := result.String(); got != want {
			t.Errorf("Result(%d).String() = %q, want %q", uint8(result), got, want)
		}
		if got, err := storage.ParseResult(want); got != result || err != nil {
			t.Errorf("ParseResult(%q) = %v, %v", want, got, err)
		}
	}
	for _, s := range []string{"", "wait", "VERIFIED ", "Result(1)"} {
		if got, err := storage.ParseResult(s); err == nil {
			t.Errorf("ParseResult(%q) = %v, want an error", s, got)
		}
	}
	if got := storage.Result(8).String(); got != "Result(8)" {
		t.Errorf("Result(8).String() = %q", got)
	}
}

func entry() storage.AuditEntry {
	return storage.AuditEntry{
		Seq: 2, Prev: [32]byte{1}, Hash: [32]byte{9}, Time: time.UnixMilli(1_700_000_000_123),
		Actor: "backend", Verb: "accept", Object: "id", Peer: 7, Outcome: "ok", Reason: "",
	}
}

// Frozen: exports of the audit log are verified with it.
func TestAuditSumIsFrozen(t *testing.T) {
	e := entry()
	const want = "8b2f5fc5b86ec2caeda2aa7666ed0405f79b7dfe0cb8f777312d0b6be2c270d1"
	if got := e.Sum(); hex.EncodeToString(got[:]) != want {
		t.Errorf("Sum = %x, want %s", got, want)
	}
	e.Hash = [32]byte{}
	if got := e.Sum(); hex.EncodeToString(got[:]) != want {
		t.Error("Hash is part of the sum")
	}
}

// No field can change, and no byte move from one field to the next, without
// another sum (attack L1: an entry cannot be made to tell another story).
func TestAuditSumCoversEveryField(t *testing.T) {
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(*storage.AuditEntry){
		"nothing":         func(*storage.AuditEntry) {},
		"seq":             func(e *storage.AuditEntry) { e.Seq++ },
		"prev":            func(e *storage.AuditEntry) { e.Prev[31]++ },
		"time":            func(e *storage.AuditEntry) { e.Time = e.Time.Add(time.Millisecond) },
		"actor":           func(e *storage.AuditEntry) { e.Actor = "peer" },
		"verb":            func(e *storage.AuditEntry) { e.Verb = "open" },
		"object":          func(e *storage.AuditEntry) { e.Object = "" },
		"peer":            func(e *storage.AuditEntry) { e.Peer = 0 },
		"outcome":         func(e *storage.AuditEntry) { e.Outcome = "OK" },
		"reason":          func(e *storage.AuditEntry) { e.Reason = "ok" },
		"a byte moved":    func(e *storage.AuditEntry) { e.Actor, e.Verb = "backen", "daccept" },
		"outcome moved":   func(e *storage.AuditEntry) { e.Outcome, e.Reason = "", "ok" },
		"a field in zero": func(e *storage.AuditEntry) { e.Object = "id\x00" },
	} {
		e := entry()
		change(&e)
		if other, ok := seen[e.Sum()]; ok {
			t.Errorf("%s and %s have one sum", name, other)
		}
		seen[e.Sum()] = name
	}
}
