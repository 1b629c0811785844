package modbus

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
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
	Baud     int    // of a serial port, as the next three
	Parity   string // none, even or odd
	StopBits int    // 1 or 2
	DataBits int    // 7 or 8
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
		return fmt.Sprintf("%s://%s?baud=%d&parity=%s&stop=%d&bits=%d", e.Scheme, e.Address, e.Baud, e.Parity, e.StopBits, e.DataBits)
	}
	return string(e.Scheme) + "://" + e.Address
}

// Defaults and bounds of endpoints.
const (
	defaultPort   = "502" // registered for Modbus
	defaultBaud   = 19200 // Modbus over Serial Line V1.02, section 2.5: 19200 8E1
	defaultParity = "even"
	minBaud       = 50
	maxBaud       = 4_000_000
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
	e := Endpoint{Scheme: scheme, Address: u.Path}
	for key, values := range query {
		if !slices.Contains([]string{"baud", "parity", "stop", "bits"}, key) || len(values) != 1 {
			return Endpoint{}, &mistake{fmt.Sprintf("the URL parameter %.40q is unknown, or there twice", key), "use baud, parity, stop and bits, each once"}
		}
	}
	return e.withSettings(query.Get("baud"), query.Get("parity"), query.Get("stop"), query.Get("bits"))
}

// withSettings completes a serial endpoint; empty settings have their defaults.
func (e Endpoint) withSettings(baud, parity, stop, bits string) (Endpoint, *mistake) {
	e.Baud, e.Parity, e.StopBits, e.DataBits = defaultBaud, defaultParity, 1, 8
	if e.Scheme == ASCII {
		e.DataBits = 7 // Modbus over Serial Line V1.02, section 2.5.2
	}
	if baud != "" {
		n, err := strconv.Atoi(baud)
		if err != nil || n < minBaud || n > maxBaud {
			return e, &mistake{fmt.Sprintf("%.40q is not a baud rate", baud), fmt.Sprintf("use %d to %d, such as 9600", minBaud, maxBaud)}
		}
		e.Baud = n
	}
	switch strings.ToLower(parity) {
	case "":
	case "none", "n":
		e.Parity = "none"
	case "even", "e":
		e.Parity = "even"
	case "odd", "o":
		e.Parity = "odd"
	default:
		return e, &mistake{fmt.Sprintf("%.40q is not a parity", parity), "use none, even or odd"}
	}
	if stop != "" {
		if stop != "1" && stop != "2" {
			return e, &mistake{fmt.Sprintf("%.40q is not a number of stop bits", stop), "use 1 or 2"}
		}
		e.StopBits = int(stop[0] - '0')
	}
	if bits != "" {
		if bits != "8" && (bits != "7" || e.Scheme != ASCII) {
			return e, &mistake{fmt.Sprintf("%.40q data bits do not carry %s", bits, e.Scheme), "use 8; only ascii goes with 7 as well"}
		}
		e.DataBits = int(bits[0] - '0')
	}
	return e, nil
}
