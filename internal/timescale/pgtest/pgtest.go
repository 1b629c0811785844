// Package pgtest runs a real PostgreSQL for tests: a cluster of its own in a
// temporary folder, on a port of its own.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// BinEnv names the environment variable with the folder of initdb and pg_ctl.
const BinEnv = "TWINLINE_POSTGRES_BIN"

// DefaultBin is where Debian 12 has them.
const DefaultBin = "/usr/lib/postgresql/15/bin"

// TimescaleEnv names the environment variable with the DSN of a server that
// offers TimescaleDB, of a role that may create databases.
const TimescaleEnv = "TWINLINE_TEST_TIMESCALE"

// Server is a PostgreSQL server.
type Server struct {
	bin, dir string
	port     int
	as       *syscall.Credential // nil: the user who runs the test
	base     string              // DSN of a server that is not ours
	made     atomic.Int64        // databases
}

// Start starts a server, and stops it and removes its files when the test
// ends. Root is not allowed to run PostgreSQL: then it runs as the
// user postgres, or nobody. What is missing fails the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{bin: os.Getenv(BinEnv)}
	if s.bin == "" {
		s.bin = DefaultBin
	}
	var err error
	s.dir, err = os.MkdirTemp("", "pgtest")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	s.as, err = credential()
	require.NoError(t, err)
	if s.as != nil {
		require.NoError(t, os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)))
	}
	s.port, err = freePort(t.Context())
	require.NoError(t, err)
	s.run(t, "initdb", "-D", s.data(), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	s.Up(t)
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// Timescale returns the server that TimescaleEnv names; without it the test
// fails. Up, Down and Kill do not work on it.
func Timescale(t testing.TB) *Server {
	t.Helper()
	dsn := os.Getenv(TimescaleEnv)
	require.NotEmpty(t, dsn, "$%s names no server with TimescaleDB", TimescaleEnv)
	return &Server{base: dsn}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Up starts the server again after Down or Kill.
func (s *Server) Up(t testing.TB) {
	t.Helper()
	s.run(t, "pg_ctl", "start", "-w", "-D", s.data(), "-l", filepath.Join(s.dir, "log"),
		"-o", fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s -c max_connections=50", s.port, s.dir))
}

// Down stops the server as an administrator would; connections are cut.
func (s *Server) Down(t testing.TB) {
	t.Helper()
	s.run(t, "pg_ctl", "stop", "-w", "-m", "fast", "-D", s.data())
}

// Kill stops the server without letting it write anything, as a crash does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(s.data(), "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
		return
	}
	s.run(t, "pg_ctl", "stop", "-w", "-m", "immediate", "-D", s.data())
}

func (s *Server) run(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(s.bin, name), args...) // also when the test has ended
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	logFile, err := os.Create(filepath.Join(s.dir, name+".out")) // a pipe would be held open by the server
	require.NoError(t, err)
	defer func() { _ = logFile.Close() }()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(logFile.Name())
		server, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		require.NoError(t, err, "%s: %s%s", name, out, server)
	}
}

// drop drops a database. While an autovacuum worker or a job of TimescaleDB's own is in it, which
// run as the superuser, that is refused to its owner (procarray.c, TerminateOtherDBBackends).
func drop(t testing.TB, try func() error) {
	t.Helper()
	const insufficientPrivilege = "42501"
	var err error
	require.Eventually(t, func() bool {
		var refused *pgconn.PgError
		err = try()
		return !errors.As(err, &refused) || refused.Code != insufficientPrivilege
	}, 20*time.Second, 20*time.Millisecond, "the server's workers stay in it")
	require.NoError(t, err)
}

// Database makes an empty database and returns its DSN. A server that is not
// ours has it dropped when the test ends.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	admin := s.base
	if admin == "" {
		admin = fmt.Sprintf("postgres://test@127.0.0.1:%d/postgres", s.port)
	}
	cfg, err := pgx.ParseConfig(admin)
	require.NoError(t, err)
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), s.made.Add(1))
	exec := func(ctx context.Context, sql string) error {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		require.NoError(t, err)
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, sql)
		return err
	}
	require.NoError(t, exec(t.Context(), "CREATE DATABASE "+name))
	t.Attr("real", version(t, cfg))
	if s.base != "" {
		t.Cleanup(func() {
			drop(t, func() error { return exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+name+" WITH (FORCE)") })
		})
	}
	dsn := fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", cfg.Host, cfg.Port, cfg.User, name)
	if cfg.Password != "" {
		dsn += " password=" + cfg.Password
	}
	return dsn
}

// version names the server for the summary of a test run.
func version(t testing.TB, cfg *pgx.ConnConfig) string {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	const query = `SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1) ||
		coalesce((SELECT ' with TimescaleDB ' || default_version FROM pg_available_extensions WHERE name = 'timescaledb'), '')`
	var text string
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&text))
	return text
}

// credential returns whom to run the server as; nil if as ourselves.
func credential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("neither user postgres nor nobody exists")
}

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
