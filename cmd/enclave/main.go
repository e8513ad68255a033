// Command enclave is the Travel Rule enclave of one VASP. The program is the
// package enclavecmd; a build of your own is a copy of this file.
package main

import (
	"os"

	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
)

func main() {
	os.Exit(enclavecmd.Main(standard.Catalog(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
