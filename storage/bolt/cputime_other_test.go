//go:build !linux

package bolt_test

import (
	"testing"
	"time"
)

// cpuTime is not measured here.
func cpuTime(testing.TB) time.Duration { return 0 }
