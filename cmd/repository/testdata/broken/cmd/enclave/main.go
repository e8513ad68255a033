// Command enclave imports what another package owns, and test code.
package main

import (
	_ "encoding/json"
	_ "testing"
)

func main() {}
