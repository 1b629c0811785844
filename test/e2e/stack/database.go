package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// databaseArtifact is a folder with a small Debian that has TimescaleDB.
func databaseArtifact() artifact {
	bin := filepath.Join("rootfs", postgresBin)
	return artifact{
		name: "timescaledb", version: databaseSuite + "-" + databaseMajor,
		files: []string{filepath.Join(bin, "postgres"), filepath.Join(bin, "initdb"), "rootfs/twinline"},
		build: func(ctx context.Context, s *Stack, dir string) error {
			what := "fetching TimescaleDB for PostgreSQL " + databaseMajor + " from Debian " + databaseSuite
			return s.progress.long(what, func() error { return debootstrap(ctx, filepath.Join(dir, "rootfs")) })
		},
	}
}

// postgresBin is where the programs of PostgreSQL are in the folder.
const postgresBin = "/usr/lib/postgresql/" + databaseMajor + "/bin"

func debootstrap(ctx context.Context, root string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	mirror, err := machineMirror()
	if err != nil {
		return err
	}
	packages := "postgresql-" + databaseMajor + ",postgresql-" + databaseMajor + "-timescaledb"
	_, err = run(ctx, "debootstrap", "--variant=minbase", "--include="+packages, databaseSuite, root, mirror)
	if err != nil {
		return err
	}
	for _, spare := range []string{"var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"} {
		if err := clearDir(filepath.Join(root, spare)); err != nil {
			return err
		}
	}
	// The run folder is mounted here.
	return os.MkdirAll(filepath.Join(root, "twinline"), 0o755)
}

// machineMirror returns the Debian mirror the machine itself uses.
func machineMirror() (string, error) {
	files := []string{"/etc/apt/sources.list"}
	for _, pattern := range []string{"*.sources", "*.list"} {
		more, err := filepath.Glob("/etc/apt/sources.list.d/" + pattern)
		if err != nil {
			return "", fmt.Errorf("find apt sources: %w", err)
		}
		files = append(files, more...)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if mirror := mirrorIn(string(data), "bookworm"); mirror != "" {
			return mirror, nil
		}
	}
	return "", errors.New("find the Debian mirror: no apt source has the suite bookworm")
}

// mirrorIn returns the address of the first apt source that has the suite, in
// either format of sources files, or "".
func mirrorIn(text, suite string) string {
	uri, has := "", false
	scan := bufio.NewScanner(strings.NewReader(text + "\n\n"))
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		switch {
		case len(fields) == 0:
			if has && uri != "" {
				return uri
			}
			uri, has = "", false
		case fields[0] == "URIs:" && len(fields) > 1:
			uri = fields[1]
		case fields[0] == "Suites:":
			for _, f := range fields[1:] {
				has = has || f == suite
			}
		case fields[0] == "deb":
			if mirror := oneLineMirror(fields[1:], suite); mirror != "" {
				return mirror
			}
		}
	}
	return ""
}

// oneLineMirror reads "[options] URI SUITE COMPONENT…".
func oneLineMirror(fields []string, suite string) string {
	for len(fields) > 0 && strings.HasPrefix(fields[0], "[") {
		for len(fields) > 0 && !strings.HasSuffix(fields[0], "]") {
			fields = fields[1:]
		}
		fields = fields[min(1, len(fields)):]
	}
	if len(fields) >= 2 && fields[1] == suite {
		return fields[0]
	}
	return ""
}

// inDatabaseRoot runs its arguments inside the Debian folder. Its mounts are in
// a namespace of their own, so they end with the process.
// Arguments: root, run folder, uid:gid, program and its arguments.
const inDatabaseRoot = `set -e
root=$1 data=$2 user=$3
shift 3
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$data" "$root/twinline"
cd /
exec chroot --userspec="$user" --groups= "$root" "$@"
`

// databaseCommand returns the command line that runs a program of PostgreSQL.
func (s *Stack) databaseCommand(user, name string, args ...string) []string {
	root := filepath.Join(s.cache.dir(databaseArtifact()), "rootfs")
	argv := []string{
		"unshare", "--mount", "--propagation", "private", "sh", "-c", inDatabaseRoot, "sh",
		root, s.path("timescaledb"), user, postgresBin + "/" + name,
	}
	return append(argv, args...)
}

// databaseUser returns uid:gid of postgres in the Debian folder.
func (s *Stack) databaseUser() (uid, gid int, err error) {
	file := filepath.Join(s.cache.dir(databaseArtifact()), "rootfs/etc/passwd")
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, fmt.Errorf("find user postgres: %w", err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		f := strings.Split(line, ":")
		if len(f) < 4 || f[0] != "postgres" {
			continue
		}
		uid, uidErr := strconv.Atoi(f[2])
		gid, gidErr := strconv.Atoi(f[3])
		return uid, gid, errors.Join(uidErr, gidErr)
	}
	return 0, 0, fmt.Errorf("find user postgres: not in %s", file)
}

func (s *Stack) database() (launch, error) {
	uid, gid, err := s.databaseUser()
	if err != nil {
		return launch{}, err
	}
	settings := []string{
		"listen_addresses=127.0.0.1", fmt.Sprintf("port=%d", s.Ports.Database),
		"unix_socket_directories=", "shared_preload_libraries=timescaledb",
		"timescaledb.telemetry_level=off", "timescaledb.max_background_workers=4",
		"max_connections=100", "shared_buffers=256MB", "log_timezone=UTC", "timezone=UTC",
	}
	args := []string{"-D", "/twinline/data"}
	for _, v := range settings {
		args = append(args, "-c", v)
	}
	return launch{
		argv:        s.databaseCommand(fmt.Sprintf("%d:%d", uid, gid), "postgres", args...),
		env:         []string{"LC_ALL=C.UTF-8"},
		before:      s.removeDatabaseLock,
		ready:       func(ctx context.Context) error { return s.sql(ctx, s.dsn("postgres", "postgres"), "SELECT 1") },
		startWithin: 60 * time.Second,
		stopSignal:  syscall.SIGINT, // do not wait for clients
		stopWithin:  15 * time.Second,
	}, nil
}

// removeDatabaseLock removes what a killed PostgreSQL left. It would refuse to
// start as long as its dead predecessor is not reaped, which some init
// processes are slow to do. The caller knows that the predecessor is dead.
func (s *Stack) removeDatabaseLock() error {
	err := os.Remove(s.path("timescaledb", "data", "postmaster.pid"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove database lock: %w", err)
	}
	return nil
}

// initDatabase makes the data folder. Anyone on this machine may connect.
func (s *Stack) initDatabase(ctx context.Context) error {
	uid, gid, err := s.databaseUser()
	if err != nil {
		return err
	}
	dir := s.path("timescaledb", "data")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close data folder: %w", err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("own data folder: %w", err)
	}
	argv := s.databaseCommand(fmt.Sprintf("%d:%d", uid, gid), "initdb", "-D", "/twinline/data",
		"--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	_, err = command{argv: argv, env: []string{"LC_ALL=C.UTF-8"}}.run(ctx)
	return err
}

func (s *Stack) dsn(user, database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", user, s.Ports.Database, database)
}

// sql runs statements one after the other.
func (s *Stack) sql(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("run %q: %w", statement, err)
		}
	}
	return nil
}

// CreateDatabase makes an empty database with TimescaleDB in it, owned by the
// user twinline, and returns its DSN. One of the same name is dropped first,
// together with its connections.
func (s *Stack) CreateDatabase(ctx context.Context, name string) (string, error) {
	id := pgx.Identifier{name}.Sanitize()
	err := s.sql(ctx, s.dsn("postgres", "postgres"),
		"DROP DATABASE IF EXISTS "+id+" WITH (FORCE)",
		"CREATE DATABASE "+id+" OWNER twinline")
	if err != nil {
		return "", err
	}
	err = s.sql(ctx, s.dsn("postgres", name), "CREATE EXTENSION timescaledb")
	return s.dsn("twinline", name), err
}

// createMainDatabase makes the user and the database twinline.
func (s *Stack) createMainDatabase(ctx context.Context) error {
	err := s.sql(ctx, s.dsn("postgres", "postgres"), "CREATE ROLE twinline LOGIN CREATEDB")
	if err != nil {
		return err
	}
	_, err = s.CreateDatabase(ctx, "twinline")
	return err
}
