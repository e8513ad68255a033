package vasp

// RefuseOddAddresses is what the dialer asks before it connects.
func RefuseOddAddresses(address string) error { return refuseOddAddresses("tcp", address, nil) }
