package vasp

import "time"

// RefuseOddAddresses is what the dialer asks before it connects.
func RefuseOddAddresses(address string) error { return refuseOddAddresses("tcp", address, nil) }

// Deadline is how long a call of one API may take.
func Deadline(api string) time.Duration { return deadlines[api] }
