package rfc2217

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dialed(t *testing.T, s Settings, change func(*server)) (*Conn, *server) {
	t.Helper()
	srv, near := serve(t, change)
	s, err := s.complete()
	require.NoError(t, err)
	c, err := open(t.Context(), "test:7", near, s)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c, srv
}

func TestDialSetsThePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, srv := dialed(t, Settings{Baud: 300, DataBits: 7, Parity: "even", RTS: Off, DTR: On}, nil)
		synctest.Wait()
		requests, data := srv.took()
		require.Equal(t, []string{
			"\x0a\x1e", "\x0b\x00", "\x01\x00\x00\x01\x2c", "\x02\x07", "\x03\x03", "\x04\x01", "\x05\x01", "\x05\x08", "\x0c\x03", "\x05\x0c",
		}, requests)
		require.Empty(t, data)
	})
}

func TestSettingsAreChecked(t *testing.T) {
	for name, test := range map[string]struct {
		s    Settings
		want string
	}{
		"no baud":   {Settings{}, "0 baud; use 1 to 4000000"},
		"fast":      {Settings{Baud: MaxBaud + 1}, "4000001 baud"},
		"few bits":  {Settings{Baud: 1, DataBits: 4}, "4 data bits; use 5 to 8"},
		"many bits": {Settings{Baud: 1, DataBits: 9}, "9 data bits"},
		"parity":    {Settings{Baud: 1, Parity: "mark"}, `parity "mark"; use none, even or odd`},
		"stop":      {Settings{Baud: 1, StopBits: 3}, "3 stop bits; use 1 or 2"},
		"rts":       {Settings{Baud: 1, RTS: "high"}, `"high" is no position of RTS or DTR`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Dial(t.Context(), "127.0.0.1:1", test.s)
			require.ErrorContains(t, err, "open rfc2217 port 127.0.0.1:1: "+test.want)
		})
	}
	for _, s := range []Settings{{Baud: 1, DataBits: 5}, {Baud: MaxBaud, Parity: "odd", StopBits: 2, RTS: On, DTR: Off}} {
		_, err := s.complete()
		require.NoError(t, err)
	}
}

func TestServersThatCannotBeUsedAreSaidToBe(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*server)
		want   string
		is     error
	}{
		"no COM-PORT-OPTION": {func(s *server) {
			s.options = func(verb, option byte) []byte {
				if option == optComPort {
					return appendOption(nil, cmdDont, option)
				}
				return agreed(verb, option)
			}
		}, "use tcp:// for a raw device server", ErrNoComPort},
		"raw": {func(s *server) { s.options = func(verb, option byte) []byte { return nil } }, "use tcp:// for a raw device server", ErrNoComPort},
		"raw, with noise": {func(s *server) {
			s.options = func(verb, option byte) []byte { return []byte{cmdIAC, cmdSB, cmdIAC, 7} }
		}, "malformed", ErrNoComPort},
		"not binary": {func(s *server) {
			s.options = func(verb, option byte) []byte {
				if option == optBinary && verb == cmdDo {
					return appendOption(nil, cmdWont, option)
				}
				return agreed(verb, option)
			}
		}, "the server refuses binary transmission; switch", nil},
		"another rate": {func(s *server) {
			s.answer = func(code byte, body []byte) []byte {
				if code == codeBaud {
					body = rateBody(9600)
				}
				return confirmed(code, body)
			}
		}, "the server set the baud rate to 9600, not to 300", nil},
		"another parity": {func(s *server) {
			s.answer = func(code byte, body []byte) []byte {
				if code == codeParity {
					body = []byte{1}
				}
				return confirmed(code, body)
			}
		}, "the server set the parity (1 none, 2 odd, 3 even) to 1, not to 3", nil},
		"no DTR": {func(s *server) {
			s.answer = func(code byte, body []byte) []byte {
				if code == codeControl && body[0] == dtrOn {
					body = []byte{dtrOff}
				}
				return confirmed(code, body)
			}
		}, "the server set the signal DTR (8 on, 9 off) to 9, not to 8", nil},
		"unanswered": {func(s *server) {
			s.answer = func(code byte, body []byte) []byte {
				if code == codeStopSize {
					return nil
				}
				return confirmed(code, body)
			}
		}, "set the stop bits to 1: the server did not answer in time", nil},
		"closes": {func(s *server) {
			s.answer = func(byte, []byte) []byte { _ = s.conn.Close(); return nil }
		}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, near := serve(t, test.change)
				s, err := Settings{Baud: 300, Parity: "even", DTR: On}.complete()
				require.NoError(t, err)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err = open(ctx, "test:7", near, s)
				require.ErrorContains(t, err, "open rfc2217 port test:7: ")
				require.ErrorContains(t, err, test.want)
				if test.is != nil {
					require.ErrorIs(t, err, test.is)
				}
				require.LessOrEqual(t, time.Since(began), time.Second)
				_, err = near.Write([]byte{1})
				require.Error(t, err, "it is closed")
			})
		})
	}
}

func TestDialEndsWithItsContextAndByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(s *server) { s.options = func(verb, option byte) []byte { return nil } }
		why := errors.New("test is over")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, near := serve(t, silent)
		_, err := open(ctx, "test:7", near, Settings{Baud: 300, DataBits: 8, StopBits: 1, Parity: "none"})
		require.ErrorIs(t, err, why)
		began := time.Now()
		_, near = serve(t, silent)
		_, err = open(t.Context(), "test:7", near, Settings{Baud: 300, DataBits: 8, StopBits: 1, Parity: "none"})
		require.ErrorIs(t, err, ErrNoComPort)
		require.Equal(t, dialTimeout, time.Since(began))
	})
}

func TestBytesPassBothWaysUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, srv := dialed(t, Settings{Baud: 9600}, func(s *server) { s.echo = true })
		all := make([]byte, 3*maxChunk)
		for i := range all {
			all[i] = byte(i)
		}
		n, err := c.Write(all)
		require.NoError(t, err)
		require.Len(t, all, n)
		require.Equal(t, all, readAll(t, c, len(all)))
		_, data := srv.took()
		require.Equal(t, string(all), data)
	})
}

func TestDataFromBeforeIsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := dialed(t, Settings{Baud: 9600}, func(s *server) {
			s.echo = true
			s.answer = func(code byte, body []byte) []byte {
				return append([]byte("old"), confirmed(code, body)...)
			}
		})
		_, err := c.Write([]byte("new"))
		require.NoError(t, err)
		require.Equal(t, "new", string(readAll(t, c, 3)))
	})
}

func TestReadEndsWithItsDeadlineAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, srv := dialed(t, Settings{Baud: 9600}, nil)
		go srv.say([]byte("a\xff")) // cut in the middle of a doubled byte
		require.Equal(t, "a", string(readAll(t, c, 1)))
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		_, err := c.Read(make([]byte, 8))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.EqualError(t, err, "read test:7: i/o timeout")
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		go srv.say([]byte("\xffb"))
		require.Equal(t, "\xffb", string(readAll(t, c, 2)))
		ended := make(chan error)
		go func() { _, err := c.Read(make([]byte, 8)); ended <- err }()
		synctest.Wait()
		require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
		require.ErrorIs(t, <-ended, os.ErrDeadlineExceeded)
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		go func() { _, err := c.Read(make([]byte, 8)); ended <- err }()
		synctest.Wait()
		require.NoError(t, c.Close())
		require.Error(t, <-ended)
		require.NoError(t, c.Close())
		_, err = c.Write([]byte{1})
		require.Error(t, err)
		require.Error(t, c.SetBaud(300))
		n, err := c.Read(nil)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestAServerThatClosesIsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, srv := dialed(t, Settings{Baud: 9600}, nil)
		require.NoError(t, srv.conn.Close())
		_, err := c.Read(make([]byte, 8))
		require.ErrorIs(t, err, io.EOF)
		require.ErrorContains(t, err, "read test:7: the server closed the connection")
		_, err = c.Write([]byte{1})
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestSetBaud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, srv := dialed(t, Settings{Baud: 300, Parity: "even", DataBits: 7}, func(s *server) {
			s.answer = func(code byte, body []byte) []byte {
				if code == codeBaud && string(body) == string(rateBody(1200)) {
					return append([]byte("mean"), append(confirmed(code, body), "while"...)...)
				}
				return confirmed(code, body)
			}
		})
		began := time.Now()
		require.NoError(t, c.SetBaud(600))
		require.Zero(t, time.Since(began)) // nothing was written
		_, err := c.Write([]byte("\x06050\r\n"))
		require.NoError(t, err)
		require.NoError(t, c.SetBaud(1200))
		require.Equal(t, 6*(time.Second*10/600)+drainSlack, time.Since(began)) // six characters of ten bits
		requests, data := srv.took()
		require.Equal(t, "\x06050\r\n", data)
		require.Equal(t, []string{"\x01\x00\x00\x02\x58", "\x01\x00\x00\x04\xb0"}, requests[len(requests)-2:])
		require.Equal(t, "meanwhile", string(readAll(t, c, 9)))
		require.ErrorContains(t, c.SetBaud(0), "set test:7 to 0 baud: 0 baud; use 1 to 4000000")
	})
}

func TestSetBaudWhileAReadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, srv := dialed(t, Settings{Baud: 300}, nil)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		got := make(chan string)
		go func() {
			b := make([]byte, 8)
			n, err := c.Read(b)
			if err != nil {
				got <- err.Error()
				return
			}
			got <- string(b[:n])
		}()
		synctest.Wait()
		require.NoError(t, c.SetBaud(9600)) // that Read brings the confirmation
		require.NoError(t, c.SetBaud(19200))
		srv.say([]byte("x"))
		require.Equal(t, "x", <-got)
	})
}

func TestARateThatIsRefusedOrNotConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mute := false
		c, _ := dialed(t, Settings{Baud: 300}, func(s *server) {
			s.answer = func(code byte, body []byte) []byte {
				if mute {
					return nil
				}
				if code == codeBaud && string(body) != string(rateBody(300)) {
					body = rateBody(9600)
				}
				return confirmed(code, body)
			}
		})
		require.NoError(t, c.SetBaud(9600))
		var refused *RefusedError
		err := c.SetBaud(19200)
		require.ErrorAs(t, err, &refused)
		require.Equal(t, RefusedError{"baud rate", 19200, 9600}, *refused)
		require.NoError(t, c.SetBaud(9600)) // it lasts
		synctest.Wait()
		mute = true
		began := time.Now()
		err = c.SetBaud(300)
		require.ErrorIs(t, err, errUnconfirmed)
		require.ErrorContains(t, err, "set test:7 to 300 baud: set the baud rate to 300: the server did not answer in time")
		require.Equal(t, confirmTimeout, time.Since(began))
		_, err = c.Write([]byte{1})
		require.ErrorIs(t, err, errUnconfirmed)
	})
}

func TestSetBaudRefusesToWaitBeyondTheWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := dialed(t, Settings{Baud: 300}, nil)
		_, err := c.Write(make([]byte, 30)) // a second
		require.NoError(t, err)
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
		require.ErrorIs(t, c.SetBaud(600), os.ErrDeadlineExceeded)
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second+drainSlack)))
		require.NoError(t, c.SetBaud(600))
		_, err = c.Write(make([]byte, 60))
		require.NoError(t, err)
		require.NoError(t, c.SetWriteDeadline(time.Time{}))
		ended := make(chan error)
		go func() { ended <- c.SetBaud(300) }()
		synctest.Wait()
		require.NoError(t, c.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
}

func TestWhatComesWhileSetBaudWaitsIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		size int
		good bool
	}{"at the bound": {maxPending, true}, "above": {maxPending + 1, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := dialed(t, Settings{Baud: 300}, func(s *server) {
					s.answer = func(code byte, body []byte) []byte {
						if code == codeBaud && string(body) == string(rateBody(600)) {
							return append(make([]byte, test.size), confirmed(code, body)...)
						}
						return confirmed(code, body)
					}
				})
				err := c.SetBaud(600)
				if test.good {
					require.NoError(t, err)
					readAll(t, c, test.size)
					return
				}
				require.ErrorContains(t, err, "more than 65536 bytes came")
			})
		})
	}
}

func TestTheServersOwnWishesAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := newConn("test:7", near, Settings{Baud: 300, DataBits: 8, StopBits: 1, Parity: "none"})
		c.options = options{comPort: yes, sendBinary: yes, receiveBinary: yes}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			require.Equal(t, "x", string(readAll(t, c, 1)))
		}()
		exchange := func(say, want string) {
			_, err := far.Write([]byte(say))
			require.NoError(t, err)
			if want != "" {
				require.Equal(t, want, string(readAll(t, far, len(want))))
			}
		}
		exchange("\xff\xfb\x01", "\xff\xfe\x01")                                     // WILL ECHO: DONT
		exchange("\xff\xfd\x18", "\xff\xfc\x18")                                     // DO TERMINAL-TYPE: WONT
		exchange("\xff\xfb\x2c", "\xff\xfd\x2c")                                     // WILL COM-PORT-OPTION: DO
		exchange("\xff\xfb\x2c\xff\xfd\x00\xff\xfe\x01\xff\xfc\x01\xff\xfb\x03", "") // known already, off already
		exchange("\xff\xfa\x2c\x64\xff\xf0", "\xff\xfa\x2c\x00twinline\xff\xf0")     // SIGNATURE
		exchange("\xff\xfa\x2c\x6a\x1e\xff\xf0\xff\xfa\x2c\x6a\x04\xff\xf0", "")     // NOTIFY-LINESTATE
		exchange("\xff\xfa\x2c\x6b\x10\xff\xf0\xff\xfa\x2c\xff\xf0\xff\xf1x", "")    // NOTIFY-MODEMSTATE, nothing, NOP
		<-ended
		require.Equal(t, []uint64{1, 2, 1, 1}, []uint64{c.LineErrors().Overrun.Load(), c.LineErrors().Parity.Load(), c.LineErrors().Framing.Load(), c.LineErrors().Break.Load()})
		go exchange("\xff\xfc\x00", "")
		_, err := c.Read(make([]byte, 8))
		require.ErrorContains(t, err, "read test:7: the server took back telnet option 0")
		require.NoError(t, c.Close())
	})
}

func TestAWriteThatIsCutIsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := newConn("test:7", near, Settings{Baud: 300, DataBits: 8, StopBits: 1, Parity: "none"})
		defer func() { require.NoError(t, c.Close()) }()
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err := c.Write([]byte{1, cmdIAC, 2})
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Zero(t, n)
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second))) // nothing is out: it goes on
		go readAll(t, far, 2)
		n, err = c.Write([]byte{1, cmdIAC, 2})
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 1, n)
		require.NoError(t, c.SetWriteDeadline(time.Time{}))
		_, err = c.Write([]byte{3})
		require.ErrorContains(t, err, "write test:7: i/o timeout")
	})
}
