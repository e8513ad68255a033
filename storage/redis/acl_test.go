package redis_test

import (
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage/redis/redistest"
)

// grant makes the user of the package's description on each node, and fails
// the test when that user tried more than it may.
func grant(t *testing.T, nodes []*redistest.Server, more ...any) {
	t.Helper()
	for _, i := range nodes {
		rules := []any{"acl", "setuser", "enclave", "reset", "on", ">s3cret/pass", "resetkeys", "~vasp-enclave:peer-key:*", "resetchannels", "-@all", "+get", "+set", "+del"}
		i.Tell(t, append(rules, more...)...)
		i.Tell(t, "acl", "log", "reset")
		t.Cleanup(func() {
			if denied := i.Tell(t, "acl", "log").([]any); len(denied) > 0 {
				t.Errorf("denied: %v", denied)
			}
		})
	}
}

func TestThreeCommandsAreEnough(t *testing.T) {
	i := redistest.Start(t)
	grant(t, []*redistest.Server{i})
	suite(t, "unix://enclave:s3cret%2Fpass@"+i.Socket(), []*redistest.Server{i})
}

func TestOtherDatabase(t *testing.T) {
	i := redistest.Start(t)
	grant(t, []*redistest.Server{i}, "+select")
	o := open(t, "unix://enclave:s3cret%2Fpass@"+i.Socket()+"?db=3")
	put(t, o, address(1), "bundle")
	wantBundle(t, o, address(1), "bundle")
	if n := i.Tell(t, "dbsize"); n != int64(0) {
		t.Errorf("%v entries in database 0", n)
	}
}
