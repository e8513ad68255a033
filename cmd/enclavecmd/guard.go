package enclavecmd

import (
	"context"
	"fmt"
	"os"
	"time"
)

// guardFile stops the program when the history's file is deleted or replaced
// under it: what is written from then on would be gone with the process.
func guardFile(ctx context.Context, path string, stop context.CancelCauseFunc) {
	opened, err := os.Stat(path)
	look := time.NewTicker(2 * time.Second)
	defer look.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		var now os.FileInfo
		if now, err = os.Stat(path); err == nil && !os.SameFile(opened, now) {
			err = fmt.Errorf("%s is another file now", path)
		}
	}
	stop(fmt.Errorf("the history's file was taken away under the enclave; put it back and start again: %w", err))
}
