package enclavecmd

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// progress says how far something long has come: a bar on a terminal, else a
// plain line now and then.
type progress struct {
	w        io.Writer
	of       string // what is mebibytes
	terminal bool
	total    int // 0: nobody knows
	done     int
	begun    time.Time
	shown    time.Time
	width    int // of the bar as it was last shown
}

const (
	barCells   = 30
	barEvery   = 100 * time.Millisecond
	linesEvery = 5 * time.Second
)

func newProgress(w io.Writer, total, of string) *progress {
	n, _ := strconv.Atoi(total)
	return &progress{w: w, of: of, total: n, terminal: isTerminal(w), begun: time.Now(), shown: time.Now()}
}

// isTerminal tells a character device from a file or a pipe.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) step() {
	p.done++
	if p.done%64 == 0 {
		p.showNow()
	}
}

// at is for what counts by itself.
func (p *progress) at(done, total uint64) {
	p.done, p.total = int(done), int(total)
	p.showNow()
}

// showNow shows it when it is time to.
func (p *progress) showNow() {
	every := linesEvery
	if p.terminal {
		every = barEvery
	}
	if time.Since(p.shown) >= every {
		p.show()
	}
}

func (p *progress) show() {
	p.shown = time.Now()
	text := p.text()
	if !p.terminal {
		fmt.Fprintln(p.w, text)
		return
	}
	fmt.Fprintf(p.w, "\r%-*s", p.width, text)
	p.width = len([]rune(text))
}

func (p *progress) text() string {
	took := time.Since(p.begun)
	rate := float64(p.done) / max(took.Seconds(), .001)
	if p.total <= 0 {
		return fmt.Sprintf("%d %s, %.0f/s", p.done, p.of, rate)
	}
	part := min(1, float64(p.done)/float64(p.total))
	if !p.terminal {
		return fmt.Sprintf("%d of %d %s (%.0f %%), %.0f/s", p.done, p.total, p.of, 100*part, rate)
	}
	cells := int(part * barCells)
	return fmt.Sprintf("[%s%s] %3.0f %%  %d of %d  %.0f/s", strings.Repeat("#", cells), strings.Repeat(".", barCells-cells), 100*part, p.done, p.total, rate)
}

// end shows the last state and goes to a new line; of nothing it says nothing.
func (p *progress) end() {
	if p.done == 0 {
		return
	}
	p.show()
	if p.terminal {
		fmt.Fprintln(p.w)
	}
}

// mebibytes shows how many MiB were read.
type mebibytes struct {
	io.Reader
	bar   *progress
	bytes uint64
}

func (c *mebibytes) Read(b []byte) (n int, err error) {
	n, err = c.Reader.Read(b)
	c.bytes += uint64(n)
	c.bar.at(c.bytes>>20, 0)
	return n, err
}
