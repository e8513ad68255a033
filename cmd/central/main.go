// Command central is the mediator of a Travel Rule alliance. The program is
// the package centralcmd; a build of your own is a copy of this file.
package main

import (
	"os"

	"github.com/vasp-enclave/vasp-enclave/cmd/centralcmd"
)

func main() {
	os.Exit(centralcmd.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
