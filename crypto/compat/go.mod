module github.com/vasp-enclave/vasp-enclave/crypto/compat

go 1.26.0

require github.com/google/tink/go v1.7.0

require (
	golang.org/x/crypto v0.53.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
