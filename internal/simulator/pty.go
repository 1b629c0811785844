package simulator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// openPTY makes a pseudo terminal and a symbolic link to its far end at path,
// replacing a link that is there; anything else there is an error.
func openPTY(path string) (near, far *os.File, err error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink == 0 {
		return nil, nil, fmt.Errorf("make serial line %s: something else is there; remove it or choose another path", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, fmt.Errorf("make serial line %s: %w", path, err)
	}
	near, far, err = NewPTY()
	if err != nil {
		return nil, nil, fmt.Errorf("make serial line %s: %w", path, err)
	}
	fail := func(err error) (*os.File, *os.File, error) {
		_ = near.Close()
		_ = far.Close()
		return nil, nil, fmt.Errorf("make serial line %s: %w", path, err)
	}
	if err := far.Chmod(0o666); err != nil {
		return fail(err)
	}
	_ = os.Remove(path)
	if err := os.Symlink(far.Name(), path); err != nil {
		return fail(err)
	}
	return near, far, nil
}

// holdPTY lets serve use a pseudo terminal of openPTY, and takes it away when that returns, which it is to do
// when near is closed: at the end of ctx.
func holdPTY(ctx context.Context, path string, near, far *os.File, serve func(ctx context.Context)) {
	// far stays open here, so that the line lives on while no client has it open.
	defer func() { _ = os.Remove(path); _ = far.Close() }()
	var unlocking sync.WaitGroup
	defer unlocking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unlocking.Go(func() { keepUnlocked(ctx, far) })
	defer closeWith(ctx, near)()
	serve(ctx)
}

// raw switches off what a terminal does to bytes (cfmakeraw, termios(3)).
func raw(f *os.File) error {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	return unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// unlockEvery is how long a line stays locked by a client that was killed.
const unlockEvery = time.Second

// keepUnlocked takes back, until ctx ends, that a client has the line for itself
// (TIOCEXCL, tty_ioctl(4)). A real port forgets it at its last close; a pseudo terminal
// does not, so a client that was killed would lock out its successor for good.
func keepUnlocked(ctx context.Context, far *os.File) {
	tick := time.NewTicker(unlockEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = unix.IoctlSetInt(int(far.Fd()), unix.TIOCNXCL, 0) // it cannot fail on a terminal
		case <-ctx.Done():
			return
		}
	}
}

// NewPTY opens a pseudo terminal (pty(7)) that passes bytes on as they are. The near end
// does not block a thread, so that closing it ends a Read. The caller closes both.
func NewPTY() (near, far *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	near = os.NewFile(uintptr(fd), "/dev/ptmx")
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		far, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a pseudo terminal: %w", err), near.Close())
	}
	if err := raw(far); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a pseudo terminal raw: %w", err), near.Close(), far.Close())
	}
	return near, far, nil
}
