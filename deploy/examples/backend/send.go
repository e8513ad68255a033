package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/url"
	"slices"
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
	mine := slices.IndexFunc(from.Accounts, func(a account) bool { return a.holds(w.Symbol, w.Network) })
	if mine < 0 {
		return transfer{State: "STOPPED", Reason: "the customer has no such account"}
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
	priced := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	code := b.ask("/v1/verifications", map[string]any{
		"keyType": "PerVasp", "beneficiaryVaspId": w.BeneficiaryVaspID, "requiredBeneficiaryInfo": "ACCOUNT_NUMBER,NATURAL_PERSON_NAME",
		"assetInfo": asset{w.Symbol, w.Network, w.Amount, true, w.Value, "USD", priced},
		"payload": map[string]any{"version": "1.0", "ivms101": ivms101{
			Originator:  &party{OriginatorPersons: []person{sender}, AccountNumber: []string{from.Accounts[mine].Number}},
			Beneficiary: &to,
		}},
	}, &accepted)
	if code == noAnswer { // it may have been taken all the same
		accepted.VerificationUUID, code = b.search(w, from.Accounts[mine].Number, priced)
	}
	switch code {
	case "":
	case noAnswer:
		return transfer{State: "UNSURE", Reason: "the enclave is silent: look into its list before you try again"}
	default:
		return transfer{State: "STOPPED", Reason: code}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.withdrawals[accepted.VerificationUUID]
	if t == nil {
		t = &transfer{State: "ASKED"}
		b.withdrawals[accepted.VerificationUUID] = t
	}
	return map[string]string{"verificationUuid": accepted.VerificationUUID, "state": t.State}
}

// search looks into the enclave's list for a verification whose answer was
// lost: one of ours to that account, priced at that millisecond, that belongs
// to no other withdrawal. It looks several times, as a request that got no
// answer may still be on its way. The code is NOT-TAKEN when there is none.
func (b *backend) search(w *withdrawal, from, priced string) (id, code string) {
	filters := url.Values{
		"actionType": {"SEND"}, "oppositeVaspId": {w.BeneficiaryVaspID}, "symbol": {w.Symbol}, "fromDate": {priced[:len(time.DateOnly)]},
		"originatorAccountNumber": {from}, "beneficiaryAccountNumber": {w.Account}, "rpp": {"1000"},
	}
	for range 4 {
		time.Sleep(b.race / 60)
		var list struct {
			Verifications []struct {
				VerificationUUID string
				AssetInfo        asset
			}
		}
		if code = b.ask("/v1/verifications?"+filters.Encode(), nil, &list); code != "" {
			continue
		}
		code = "NOT-TAKEN"
		for _, row := range list.Verifications {
			if row.AssetInfo.Amount == w.Amount && row.AssetInfo.TradeISODatetime == priced && !b.known(row.VerificationUUID) {
				return row.VerificationUUID, ""
			}
		}
	}
	if code != "NOT-TAKEN" {
		code = noAnswer
	}
	return "", code
}

func (b *backend) known(withdrawal string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.withdrawals[withdrawal] != nil
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
// nothing. What nobody here began is kept for a person and taken, or it would
// come again without end: coins that came although we had said no, and all
// that this program forgot when it ended. Only a result may be faster than the
// answer to the withdrawal's own request, and for that it is put off a while.
func (b *backend) callback(q *callbackQuestion) any {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := q.Data.VerificationUUID
	transfers := b.deposits
	if q.CallbackType == "VERIFICATION_RESULT" {
		transfers = b.withdrawals
		if transfers[id] == nil && b.tooEarly(id) {
			return nil // withdraw has not got its answer yet
		}
	}
	t := transfers[id]
	if t == nil {
		t = &transfer{State: "UNEXPECTED"}
		transfers[id] = t
	}
	delete(b.early, id)
	switch {
	case t.State == "UNEXPECTED":
		t.TxHash, t.Reason = cmp.Or(q.Data.TxHash, t.TxHash), cmp.Or(q.Data.Reason, t.Reason)
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

// tooEarly tells whether a result of what we do not know may be one that
// overtook the answer to our own request.
func (b *backend) tooEarly(id string) bool {
	first, again := b.early[id]
	if !again {
		first = time.Now()
		b.early[id] = first
	}
	return time.Since(first) < b.race
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
