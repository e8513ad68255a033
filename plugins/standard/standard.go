// Package standard is what a stock build contains.
package standard

import (
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/plugins/auditsink"
	"github.com/vasp-enclave/vasp-enclave/plugins/keysource"
	"github.com/vasp-enclave/vasp-enclave/plugins/validator"
)

// Catalog is a new catalog with every driver of this repository.
func Catalog() *plugins.Catalog {
	c := new(plugins.Catalog)
	c.KeySources.Register("plain", keysource.Plain)
	c.KeySources.Register("file", keysource.File)
	c.KeySources.Register("decrypt-api", keysource.DecryptAPI)
	c.PayloadValidators.Register("lenient", validator.Lenient)
	c.PayloadValidators.Register("strict", validator.Strict)
	c.AuditSinks.Register("file", auditsink.File)
	c.AuditSinks.Register("stdout", auditsink.Stdout)
	return c
}
