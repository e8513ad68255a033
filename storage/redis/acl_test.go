package redis_test

import (
	"testing"
)

// grant makes the user of the package's description on each node, and fails
// the test when that user tried more than it may.
func grant(t *testing.T, nodes []*instance, more ...any) {
	t.Helper()
	for _, i := range nodes {
		rules := []any{"acl", "setuser", "enclave", "reset", "on", ">s3cret/pass", "resetkeys", "~vasp-enclave:peer-key:*", "resetchannels", "-@all", "+get", "+set", "+del"}
		i.tell(t, append(rules, more...)...)
		i.tell(t, "acl", "log", "reset")
		t.Cleanup(func() {
			if denied := i.tell(t, "acl", "log").([]any); len(denied) > 0 {
				t.Errorf("denied: %v", denied)
			}
		})
	}
}

func TestThreeCommandsAreEnough(t *testing.T) {
	i := start(t)
	grant(t, []*instance{i})
	suite(t, "unix://enclave:s3cret%2Fpass@"+i.socket(), []*instance{i})
}

func TestOtherDatabase(t *testing.T) {
	i := start(t)
	grant(t, []*instance{i}, "+select")
	o := open(t, "unix://enclave:s3cret%2Fpass@"+i.socket()+"?db=3")
	put(t, o, address(1), "bundle")
	wantBundle(t, o, address(1), "bundle")
	if n := i.tell(t, "dbsize"); n != int64(0) {
		t.Errorf("%v entries in database 0", n)
	}
}
