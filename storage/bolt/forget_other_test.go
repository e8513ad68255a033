//go:build !linux

package bolt_test

import "testing"

// forgetFile is not done here.
func forgetFile(testing.TB, string) {}
