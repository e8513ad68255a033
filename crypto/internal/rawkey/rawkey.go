// Package rawkey hands raw key bytes to Tink. It is the one place that does,
// so that a reader who looks for keys outside of Tink looks at its importers.
package rawkey

import (
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/secretdata"
)

// Secret copies the bytes of a key. The caller may clear them.
func Secret(raw []byte) secretdata.Bytes {
	return secretdata.NewBytesFromData(raw, insecuresecretdataaccess.Token{})
}
