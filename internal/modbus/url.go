package modbus

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/twinline/twinline/internal/serialport"
)

// Scheme is a way to carry Modbus.
type Scheme string

// The schemes.
const (
	TCP          Scheme = "tcp"          // Modbus TCP
	UDP          Scheme = "udp"          // the same frames in datagrams
	RTU          Scheme = "rtu"          // a serial line
	RTUOverTCP   Scheme = "rtuovertcp"   // serial frames through a transparent gateway
	ASCII        Scheme = "ascii"        // a serial line, in hexadecimal digits
	ASCIIOverTCP Scheme = "asciiovertcp" // those through a transparent gateway
)

func schemeNames() []string {
	return []string{string(TCP), string(UDP), string(RTU), string(RTUOverTCP), string(ASCII), string(ASCIIOverTCP)}
}

// Serial reports whether the scheme needs a serial port on this machine.
func (s Scheme) Serial() bool { return s == RTU || s == ASCII }

// Endpoint is one physical line: a network address or a serial port. Endpoints
// are comparable; equal ones are the same line.
type Endpoint struct {
	Scheme   Scheme
	Address  string // host:port, or the path of the serial port
	Baud     int    // of a serial port, as all that follow
	Parity   string // none, even or odd
	StopBits int    // 1 or 2
	DataBits int    // 7 or 8
	RTS, DTR serialport.Switch
	RS485    serialport.RS485
}

// Port returns how the serial port of the endpoint is opened.
func (e Endpoint) Port() serialport.Config {
	return serialport.Config{
		Path: e.Address, Baud: e.Baud, Parity: serialport.Parity(e.Parity), StopBits: e.StopBits, DataBits: e.DataBits,
		RTS: e.RTS, DTR: e.DTR, RS485: e.RS485,
	}
}

// Line names the physical line whatever the scheme and the settings: two endpoints with the
// same Line and different other fields contradict each other.
func (e Endpoint) Line() string {
	if e.Scheme.Serial() {
		return e.Address
	}
	network := "tcp"
	if e.Scheme == UDP {
		network = "udp"
	}
	return network + "/" + e.Address
}

// String returns the endpoint as a URL.
func (e Endpoint) String() string {
	if e.Scheme.Serial() {
		return string(e.Scheme) + "://" + e.Address + "?" + e.Port().Query()
	}
	return string(e.Scheme) + "://" + e.Address
}

// Defaults and bounds of endpoints.
const (
	defaultPort   = "502" // registered for Modbus
	defaultBaud   = 19200 // Modbus over Serial Line V1.02, section 2.5: 19200 8E1
	defaultParity = "even"
	minBaud       = serialport.MinBaud
	maxBaud       = serialport.MaxBaud
)

// mistake is a problem that does not know its place yet.
type mistake struct{ what, remedy string }

const urlRemedy = "write tcp://host:502, rtu:///dev/ttyUSB0?baud=9600&parity=even or rtuovertcp://host:port"

// parseURL reads the url of a device.
func parseURL(text string) (Endpoint, *mistake) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return Endpoint{}, &mistake{fmt.Sprintf("%.80q is not a URL", text), urlRemedy}
	}
	scheme := Scheme(strings.ToLower(u.Scheme))
	if m := refused(scheme); m != nil {
		return Endpoint{}, m
	}
	if u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return Endpoint{}, &mistake{fmt.Sprintf("%.80q has more than a Modbus URL may have", text), urlRemedy}
	}
	if scheme.Serial() {
		return parseSerialURL(scheme, u)
	}
	return parseNetworkURL(scheme, u)
}

// refused says why a scheme is not served, nil if it is.
func refused(scheme Scheme) *mistake {
	switch scheme {
	case TCP, UDP, RTU, RTUOverTCP, ASCII, ASCIIOverTCP:
		return nil
	case "rtuoverudp", "asciioverudp":
		return &mistake{
			fmt.Sprintf("the scheme %s is not served: datagrams may overtake each other, and serial frames have no number by which to tell", scheme),
			"set the gateway to TCP and write rtuovertcp://, or to Modbus TCP and write tcp:// or udp://",
		}
	case "tls", "tcp+tls", "mbaps":
		return &mistake{fmt.Sprintf("the scheme %s is not served", scheme), "run a TLS client such as stunnel on the node and write tcp://127.0.0.1:<its port>"}
	}
	return &mistake{fmt.Sprintf("unknown scheme %.40q", string(scheme)), "use one of " + strings.Join(schemeNames(), ", ")}
}

func parseNetworkURL(scheme Scheme, u *url.URL) (Endpoint, *mistake) {
	switch {
	case u.Hostname() == "":
		return Endpoint{}, &mistake{"the URL has no host", urlRemedy}
	case u.Path != "" && u.Path != "/":
		return Endpoint{}, &mistake{fmt.Sprintf("the URL has the path %.40q", u.Path), "end it after the port"}
	case u.RawQuery != "":
		return Endpoint{}, &mistake{fmt.Sprintf("%s takes no parameters, but the URL has %.40q", scheme, u.RawQuery), "end it after the port"}
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return Endpoint{}, &mistake{fmt.Sprintf("%.40q is not a port", port), "use a port from 1 to 65535"}
	}
	return Endpoint{Scheme: scheme, Address: net.JoinHostPort(strings.ToLower(u.Hostname()), port)}, nil
}

func parseSerialURL(scheme Scheme, u *url.URL) (Endpoint, *mistake) {
	if u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/" {
		return Endpoint{}, &mistake{"the URL has no absolute path of a serial port", fmt.Sprintf("write %s:///dev/ttyUSB0?baud=9600&parity=even, with three slashes", scheme)}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Endpoint{}, &mistake{fmt.Sprintf("%.80q are not URL parameters", u.RawQuery), "write baud=9600&parity=even&stop=1&bits=8"}
	}
	return Endpoint{Scheme: scheme, Address: u.Path}.withSettings(query)
}

// withSettings completes a serial endpoint; empty settings have their defaults.
func (e Endpoint) withSettings(query url.Values) (Endpoint, *mistake) {
	defaults := serialport.Config{Baud: defaultBaud, Parity: defaultParity, StopBits: 1, DataBits: 8}
	if e.Scheme == ASCII {
		defaults.DataBits = 7 // Modbus over Serial Line V1.02, section 2.5.2
	}
	if bits := query.Get("bits"); bits != "" && bits != "8" && (bits != "7" || e.Scheme != ASCII) {
		return e, &mistake{fmt.Sprintf("%.40q data bits do not carry %s", bits, e.Scheme), "use 8; only ascii goes with 7 as well"}
	}
	c, err := serialport.ParseSettings(e.Address, query, defaults)
	var wrong *serialport.Mistake
	if errors.As(err, &wrong) {
		return e, &mistake{wrong.What, wrong.Remedy}
	}
	e.Baud, e.Parity, e.StopBits, e.DataBits = c.Baud, string(c.Parity), c.StopBits, c.DataBits
	e.RTS, e.DTR, e.RS485 = c.RTS, c.DTR, c.RS485
	return e, nil
}
