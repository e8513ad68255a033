package bolt

import (
	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// rowRecord is the JSON object of a row's plaintext. What the row's key and
// header say is not said twice. Times are Unix milliseconds, 0 for null.
type rowRecord struct {
	UUID                  uuid.UUID   `json:"uuid"`
	Originating           uint64      `json:"originating"`
	Beneficiary           uint64      `json:"beneficiary"`
	Reason                string      `json:"reason,omitzero"`
	Message               string      `json:"message,omitzero"`
	KeyType               uint8       `json:"keyType,omitzero"`
	Asset                 assetRecord `json:"asset,omitzero"`
	RequiredInfo          string      `json:"requiredInfo,omitzero"`
	PayloadVersion        string      `json:"payloadVersion,omitzero"`
	TxHash                string      `json:"txHash,omitzero"`
	VOut                  string      `json:"vout,omitzero"`
	OriginatorAccount     string      `json:"originatorAccount,omitzero"`
	BeneficiaryAccount    string      `json:"beneficiaryAccount,omitzero"`
	OriginatingVASPSource string      `json:"originatingVaspSource,omitzero"`
	BeneficiaryVASPSource string      `json:"beneficiaryVaspSource,omitzero"`
	VerifiedAt            int64       `json:"verifiedAt,omitzero"`
	OrderedAt             int64       `json:"orderedAt,omitzero"`
	Deadline              int64       `json:"deadline,omitzero"`
}

type assetRecord struct {
	Symbol           string `json:"symbol,omitzero"`
	Network          string `json:"network,omitzero"`
	Amount           string `json:"amount,omitzero"`
	ExceedsThreshold bool   `json:"exceedsThreshold,omitzero"`
	TradeCurrency    string `json:"tradeCurrency,omitzero"`
	TradePrice       string `json:"tradePrice,omitzero"`
	TradeISODatetime string `json:"tradeDatetime,omitzero"`
}

const rowSections = 5 // the four IVMS101 parts, and the answer

func encodeRow(v *storage.Verification) ([]byte, error) {
	return encodeRecord(&rowRecord{
		UUID:                  v.UUID,
		Originating:           uint64(v.Originating),
		Beneficiary:           uint64(v.Beneficiary),
		Reason:                v.Reason,
		Message:               v.Message,
		KeyType:               uint8(v.KeyType),
		Asset:                 assetRecord(v.Asset),
		RequiredInfo:          v.RequiredBeneficiaryInfo,
		PayloadVersion:        v.PayloadVersion,
		TxHash:                v.TxHash,
		VOut:                  v.VOut,
		OriginatorAccount:     v.OriginatorAccount,
		BeneficiaryAccount:    v.BeneficiaryAccount,
		OriginatingVASPSource: v.OriginatingVASPSource,
		BeneficiaryVASPSource: v.BeneficiaryVASPSource,
		VerifiedAt:            millis(v.VerifiedAt),
		OrderedAt:             millis(v.OrderedAt),
		Deadline:              millis(v.Deadline),
	}, v.IVMS101.Originator, v.IVMS101.OriginatingVASP, v.IVMS101.Beneficiary, v.IVMS101.BeneficiaryVASP, v.Answer)
}

// decodeRow reads a plaintext; decodeRow of encodeRow is the same row but
// for what the key and the header hold.
func decodeRow(plaintext []byte) (*storage.Verification, error) {
	var r rowRecord
	sections, err := decodeRecord(plaintext, &r, rowSections)
	if err != nil {
		return nil, err
	}
	return &storage.Verification{
		UUID:                    r.UUID,
		Originating:             identity.VASPID(r.Originating),
		Beneficiary:             identity.VASPID(r.Beneficiary),
		Reason:                  r.Reason,
		Message:                 r.Message,
		KeyType:                 identity.KeyType(r.KeyType),
		Asset:                   storage.Asset(r.Asset),
		RequiredBeneficiaryInfo: r.RequiredInfo,
		PayloadVersion:          r.PayloadVersion,
		TxHash:                  r.TxHash,
		VOut:                    r.VOut,
		OriginatorAccount:       r.OriginatorAccount,
		BeneficiaryAccount:      r.BeneficiaryAccount,
		OriginatingVASPSource:   r.OriginatingVASPSource,
		BeneficiaryVASPSource:   r.BeneficiaryVASPSource,
		VerifiedAt:              fromMillis(r.VerifiedAt),
		OrderedAt:               fromMillis(r.OrderedAt),
		Deadline:                fromMillis(r.Deadline),
		IVMS101: storage.Parts{
			Originator: sections[0], OriginatingVASP: sections[1],
			Beneficiary: sections[2], BeneficiaryVASP: sections[3],
		},
		Answer: sections[4],
	}, nil
}
