// Command robotvasp is a sandbox VASP backend that answers by rule. The
// program is the package robotcmd.
package main

import (
	"os"

	"github.com/vasp-enclave/vasp-enclave/cmd/robotcmd"
)

func main() {
	os.Exit(robotcmd.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
