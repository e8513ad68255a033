// Package openapi is the two OpenAPI 3.1 documents of an enclave, one for each
// direction in which it speaks to its VASP's backend.
//
// They are written by hand, in enclave.yaml and vasp.yaml. What is embedded
// and served is the same as JSON, so that a program needs no YAML; a test
// writes it with -update and fails when it is behind. The tests of the exchange
// hold every answer and every call against the documents, and run every
// example in them.
package openapi

import _ "embed"

// Enclave describes what the backend calls at its enclave (contract section
// 2), as JSON. Do not change it.
//
//go:embed enclave.json
var Enclave []byte

// VASP describes what the enclave calls at the backend (contract section 3),
// as JSON. Do not change it.
//
//go:embed vasp.json
var VASP []byte

// Where an enclave serves its documents, without asking for a token: they are
// the same for every VASP.
const (
	EnclavePath = "/openapi.json"
	VASPPath    = "/openapi-vasp.json"
)
