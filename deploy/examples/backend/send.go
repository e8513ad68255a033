package main

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"time"
)

// The sending side: one of our customers withdraws to another VASP.

type withdrawal struct {
	Customer          string `json:"customer"`
	BeneficiaryVaspID string `json:"beneficiaryVaspId"`
	Symbol            string `json:"symbol"`
	Network           string `json:"network"`
	Amount            string `json:"amount"`
	Value             string `json:"value"` // in USD
	Account           string `json:"account"`
	First             string `json:"first"` // of who receives, as the customer gave it
	Last              string `json:"last"`
}

// withdraw begins a withdrawal: is the account the receiver's, and then, may
// the coins come in? The answer to the second question is a callback.
func (b *backend) withdraw(w *withdrawal) any {
	from, ours := customers[w.Customer]
	if !ours {
		return transfer{State: "STOPPED", Reason: "no such customer"}
	}
	to := party{BeneficiaryPersons: []person{named(customer{First: w.First, Last: w.Last})}, AccountNumber: []string{w.Account}}
	var checked struct{ AccountVerificationResult, Reason string }
	if code := b.ask("/v1/verifications/account", map[string]any{
		"keyType": "PerVasp", "beneficiaryVaspId": w.BeneficiaryVaspID, "symbol": w.Symbol, "network": w.Network,
		"payload": map[string]any{"version": "1.0", "ivms101": ivms101{Beneficiary: &to}},
	}, &checked); code != "" || checked.AccountVerificationResult != "VERIFIED" {
		return transfer{State: "STOPPED", Reason: code + checked.Reason}
	}
	sender := named(from)
	sender.NaturalPerson.Birth = &birth{from.Born, from.In}
	var accepted struct{ VerificationUUID string }
	if code := b.ask("/v1/verifications", map[string]any{
		"keyType": "PerVasp", "beneficiaryVaspId": w.BeneficiaryVaspID, "requiredBeneficiaryInfo": "ACCOUNT_NUMBER,NATURAL_PERSON_NAME",
		"assetInfo": asset{w.Symbol, w.Network, w.Amount, true, w.Value, "USD", time.Now().UTC().Format("2006-01-02T15:04:05.000Z")},
		"payload": map[string]any{"version": "1.0", "ivms101": ivms101{
			Originator:  &party{OriginatorPersons: []person{sender}, AccountNumber: []string{from.Accounts[w.Symbol]}},
			Beneficiary: &to,
		}},
	}, &accepted); code != "" {
		return transfer{State: "STOPPED", Reason: code}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withdrawals[accepted.VerificationUUID] = &transfer{State: "ASKED"}
	return map[string]string{"verificationUuid": accepted.VerificationUUID, "state": "ASKED"}
}

type callbackQuestion struct {
	CallbackType string `json:"callbackType"`
	Data         struct {
		VerificationUUID   string `json:"verificationUuid"`
		VerificationResult string `json:"verificationResult"`
		Reason             string `json:"reason"`
		TxHash             string `json:"txHash"`
	} `json:"data"`
}

// callback is what became of a transfer. The same one may come twice, or two
// at once: each moves a transfer on from one state only, so the second does
// nothing. What is not known yet is not taken, and comes again.
func (b *backend) callback(q *callbackQuestion) any {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := q.Data.VerificationUUID
	t := b.deposits[id]
	if q.CallbackType == "VERIFICATION_RESULT" {
		t = b.withdrawals[id]
	}
	switch {
	case t == nil:
		return nil // withdraw has not got its answer yet
	case q.CallbackType == "TX_REPORT":
		t.State, t.TxHash = "DEPOSITED", q.Data.TxHash
	case q.CallbackType == "ERROR_REPORT" && t.State == "EXPECTED":
		t.State, t.Reason = "CANCELED", q.Data.Reason
	case t.State == "ASKED" && q.Data.VerificationResult == "VERIFIED":
		t.State, t.TxHash = "SENT", broadcast(id)
		go b.report(id, t.TxHash)
	case t.State == "ASKED":
		t.State, t.Reason = "STOPPED", q.Data.Reason
	}
	return map[string]bool{"result": true}
}

// broadcast is where your wallet sends the coins, and gives the hash.
func broadcast(id string) (hash string) {
	sum := sha256.Sum256([]byte(id))
	return "0x" + hex.EncodeToString(sum[:])
}

// report tells the enclave in which transaction the coins went. The enclave
// keeps it when it says so; until then it is ours to try again.
func (b *backend) report(id, hash string) {
	for pause := time.Second / 4; ; pause = min(2*pause, time.Minute) {
		var taken struct{ Result bool }
		code := b.ask("/v1/verifications/tx", map[string]string{"verificationUuid": id, "txHash": hash}, &taken)
		if code == "" && taken.Result {
			return
		}
		slog.Warn("the enclave has not taken a transaction report", "verification", id, "code", code)
		time.Sleep(pause)
	}
}

type statusQuestion struct {
	VerificationUUID string `json:"verificationUuid"`
}

// transactionStatus is where a withdrawal of ours stands, for a receiver that
// misses its coins. It has 1 s.
func (b *backend) transactionStatus(q *statusQuestion) any {
	b.mu.Lock()
	defer b.mu.Unlock()
	status := map[string]string{"verificationUuid": q.VerificationUUID, "transactionStatus": "PENDING"}
	switch t := b.withdrawals[q.VerificationUUID]; {
	case t == nil:
	case t.State == "STOPPED":
		status["transactionStatus"] = "CANCELED"
	case t.TxHash != "":
		status["transactionStatus"], status["txHash"] = "PROCESSING", t.TxHash // CONFIRMED, when your node says so
	}
	return status
}
