package proxy

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Inquire asks the originating VASP where a transfer stands whose beneficiary
// we are, while our backend waits (contract 2.9). Nothing is stored of the
// answer: a transaction gets into the history by its report.
func (e *Enclave) Inquire(ctx context.Context, id uuid.UUID) (*inquiryAnswer, error) {
	const op = "inquire"
	row, err := e.rowOf(ctx, id, "beneficiary", func(row *storage.Verification) bool { return row.Received })
	if err != nil {
		return nil, err
	}
	if err := e.mayVerify(ctx, row.Originating); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	answer, err := e.askWhereItStands(ctx, row)
	entry := audit.Verification(e.Now(), audit.Backend, audit.Inquire, id, row.Originating, outcome(err), "")
	if err := e.record(context.WithoutCancel(ctx), entry); err != nil {
		return nil, fail("audit an inquiry", Storage, err)
	}
	if err != nil {
		return nil, timeoutWords(fail(op, Unavailable, err))
	}
	return answer, nil
}

func (e *Enclave) askWhereItStands(ctx context.Context, row *storage.Verification) (*inquiryAnswer, error) {
	payload, err := e.ask(ctx, question{
		to: row.Originating, kind: envelope.TxInquiry, want: envelope.TxInquiryAnswer, id: row.UUID, keyType: row.KeyType,
		scope:   e.scope(row.KeyType, row.Originating, row.Asset.Symbol, row.Asset.Network, row.BeneficiaryAccount),
		payload: []byte(`{}`), life: syncTimeout,
	})
	if err != nil {
		return nil, err
	}
	return e.readInquiryAnswer(payload)
}

// transactionStatuses are the words of contract 6.3.
var transactionStatuses = []string{"PENDING", "PROCESSING", "WAIT-CONFIRM", "CONFIRMED", "CANCELED"}

// Codes of an inquiry that has no answer.
const (
	inquiryNotFound = "VERIFICATION-NOT-FOUND" // no such verification of the asker's
	inquiryNoAnswer = "UNDEFINED-ERROR"        // the backend was asked, and said nothing usable
)

func (e *Enclave) readInquiryAnswer(payload []byte) (*inquiryAnswer, error) {
	const op = "read the answer"
	answer, err := decode[inquiryAnswer](payload)
	switch {
	case err != nil:
		return nil, e.metrics.refuse(op, "answer", err)
	case answer.Code == inquiryNotFound:
		return nil, &Error{Op: op, Kind: Invalid, Code: inquiryNotFound, Message: "The originating VASP has no such verification."}
	case answer.Code != "":
		return nil, &Error{Op: op, Kind: Misanswered, Code: "COUNTERPARTY-ERROR", Message: "The originating VASP's backend gave no usable answer."}
	case !slices.Contains(transactionStatuses, answer.Status):
		return nil, e.metrics.refuse(op, "answer", errors.New("the answer has none of the transaction statuses"))
	case len(answer.TxHash) > maxText || len(answer.VOut) > maxText:
		return nil, e.metrics.refuse(op, "answer", errors.New("the answer's hash is too long to be one"))
	}
	return answer, nil
}

// text appends the answer to what stands before it.
func (a *inquiryAnswer) text(t *text) []byte {
	t.str("transactionStatus", a.Status).str("txHash", a.TxHash)
	if a.VOut != "" {
		t.str("vout", a.VOut)
	}
	return t.end()
}
