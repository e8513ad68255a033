package life

import "context"

// Beside runs something beside the rest, until stop is called, which waits for
// its end. What ends with ctx ends by itself, too.
func Beside(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}
