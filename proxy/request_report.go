package proxy

import (
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// What our backend may send about a verification that there is already
// (contract 2.7 to 2.9).

// txReport says in which transaction the coins of a verification moved.
type txReport struct {
	id         uuid.UUID
	hash, vout string
}

// errorReport says that a transfer will never happen.
type errorReport struct {
	id              uuid.UUID
	result          storage.Result
	reason, message string
}

func readTxReport(body []byte) (*txReport, error) {
	var in struct {
		UUID *string `json:"verificationUuid"`
		Hash *string `json:"txHash"`
		VOut *string `json:"vout"`
	}
	if err := readJSON(body, &in); err != nil {
		return nil, err
	}
	var r txReport
	var err error
	if r.id, err = readUUID(in.UUID); err != nil {
		return nil, err
	}
	if r.hash, err = required(in.Hash, "txHash"); err != nil {
		return nil, err
	}
	if r.vout, err = optional(in.VOut, "vout"); err != nil {
		return nil, err
	}
	return &r, nil
}

func readErrorReport(body []byte) (*errorReport, error) {
	var in struct {
		UUID    *string `json:"verificationUuid"`
		Result  *string `json:"result"`
		Reason  *string `json:"reason"`
		Message *string `json:"message"`
	}
	if err := readJSON(body, &in); err != nil {
		return nil, err
	}
	var r errorReport
	result, err := required(in.Result, "result")
	if err != nil {
		return nil, err
	}
	if r.result, err = storage.ParseResult(result); err != nil || r.result == storage.Wait {
		return nil, invalid("INVALID-RESULT", "`result` should be one of `VERIFIED`, `DENIED`, `ERROR`.")
	}
	if in.Reason == nil || *in.Reason == "" {
		return nil, missing("reason")
	}
	if r.reason = *in.Reason; utf8.RuneCountInString(r.reason) > maxReason {
		return nil, invalid("INVALID-REASON", "`reason` is invalid value: longer than %d characters.", maxReason)
	}
	if r.id, err = readUUID(in.UUID); err != nil {
		return nil, err
	}
	if in.Message != nil {
		r.message = clip(*in.Message, maxMessage)
	}
	return &r, nil
}

func readInquiry(body []byte) (id uuid.UUID, err error) {
	var in struct {
		UUID *string `json:"verificationUuid"`
	}
	if err := readJSON(body, &in); err != nil {
		return id, err
	}
	return readUUID(in.UUID)
}

// readUUID reads verificationUuid in its one form of 36 characters.
func readUUID(given *string) (uuid.UUID, error) {
	const name = "verificationUuid"
	s, err := required(given, name)
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return uuid.Nil, invalid("INVALID-VERIFICATION-UUID", "`%s` is invalid value: give it as the enclave did.", name)
	}
	return id, nil
}
