package bolt

import "hash/crc32"

// bucket is one of the file's top level buckets. FORMAT.md is the same list
// with the reasons.
type bucket struct {
	name    string
	cells   bool   // holds cells; else an index, whose values are clear
	keyset  keyset // of its cells
	extra   int    // bytes of its cells' header after the common part
	appends bool   // keys rise with time, so its pages may be filled
	seed    uint32 // where the checksums of its headers begin: its name's
}

func define(b bucket) *bucket {
	b.seed = crc32.Checksum([]byte(b.name), castagnoli)
	return &b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// meta holds the schema version and the keyring record, both without a
	// cell, and the cell "state".
	meta = define(bucket{name: "meta", cells: false, keyset: private})

	verifications = define(bucket{name: "verifications", cells: true, keyset: personal, extra: rowExtra, appends: true})
	outbox        = define(bucket{name: "outbox", cells: true, keyset: personal, appends: true})
	receipts      = define(bucket{name: "receipts", cells: true, keyset: personal, extra: 8})
	peers         = define(bucket{name: "peers", cells: true, keyset: private})
	ownKeys       = define(bucket{name: "own_keys", cells: true, keyset: private})
	ownIdentity   = define(bucket{name: "identity", cells: true, keyset: private})
	directory     = define(bucket{name: "directory", cells: true, keyset: private})
	auditLog      = define(bucket{name: "audit", cells: true, keyset: private, appends: true})

	// holds keep rows, and periods, from being erased.
	holds = define(bucket{name: "holds", cells: true, keyset: private})

	// chapters say of the rows what lists ask of them.
	chapters = define(bucket{name: "chapters", cells: true, keyset: private, appends: true})

	byUUID               = define(bucket{name: "by_uuid"})
	byOriginatorAccount  = define(bucket{name: "by_originator_account"})
	byBeneficiaryAccount = define(bucket{name: "by_beneficiary_account"})
	byTxHash             = define(bucket{name: "by_tx_hash"})
	byExpiry             = define(bucket{name: "receipts_by_expiry"})
)

var allBuckets = []*bucket{
	meta, verifications, outbox, receipts, peers, ownKeys, ownIdentity, directory, auditLog, chapters, holds,
	byUUID, byOriginatorAccount, byBeneficiaryAccount, byTxHash, byExpiry,
}

var (
	schemaKey   = []byte("schema")   // in meta
	keyringKey  = []byte("keyring")  // in meta
	stateKey    = []byte("state")    // in meta
	rotationKey = []byte("rotation") // in meta, while data keys are replaced
	selfKey     = []byte("self")     // in identity
	lastKey     = []byte("last")     // in directory
	shippedKey  = []byte("shipped")  // in directory
)
