package vasp

import "time"

// Deadline is how long a call of one API may take.
func Deadline(api string) time.Duration { return deadlines[api] }
