package bolt_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// childVariable makes the test binary be a program that tests kill or limit.
const childVariable = "BOLT_TEST_CHILD"

var background = context.Background()

// children are the programs, given the path of a file.
var children = map[string]func(path string) error{}

func init() { children["write"] = writeForEver }

func child(what string, arguments ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], arguments...)
	c.Env = append(os.Environ(), childVariable+"="+what)
	return c
}

func runChild(what string) int {
	if err := children[what](os.Args[1]); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func openInChild(path string) (*bolt.DB, error) {
	kek, err := atrest.NewKEK(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		return nil, err
	}
	return bolt.Open(bolt.Options{Path: path, KEK: kek, Now: func() time.Time { return noon }})
}

// breakPeer makes the pin of VASP 1 one that cannot be replaced.
func breakPeer(tx *bbolt.Tx) error {
	return tx.Bucket([]byte("peers")).Put([]byte{7: 1}, []byte("broken"))
}
