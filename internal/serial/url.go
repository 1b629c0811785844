package serial

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/twinline/twinline/internal/serialport"
)

// Scheme is a way to reach a serial line.
type Scheme string

// The schemes.
const (
	TTY     Scheme = "serial"  // a port of this machine
	TCP     Scheme = "tcp"     // a device server that passes bytes on
	RFC2217 Scheme = "rfc2217" // a device server that also takes the settings of the line
)

// Endpoint is one physical line. Endpoints are comparable; equal ones are the same line.
type Endpoint struct {
	Scheme   Scheme
	Address  string            // host:port; "" for a port of this machine
	Settings serialport.Config // of the line; its Path is the port of this machine; zero for tcp
}

// Line names the physical line whatever its settings.
func (e Endpoint) Line() string {
	if e.Scheme == TTY {
		return e.Settings.Path
	}
	return "tcp/" + e.Address
}

// String returns the endpoint as a URL.
func (e Endpoint) String() string {
	switch e.Scheme {
	case TTY:
		return "serial://" + e.Settings.Path + "?" + e.Settings.Query()
	case RFC2217:
		return "rfc2217://" + e.Address + "?" + e.Settings.Query()
	}
	return string(e.Scheme) + "://" + e.Address
}

// mistake is a problem that does not know its place yet.
type mistake struct{ what, remedy string }

const urlRemedy = "write serial:///dev/ttyUSB0?baud=9600, tcp://host:port or rfc2217://host:port?baud=9600"

// defaults are the settings of a line whose URL has none: those of most instruments' manuals.
func defaults() serialport.Config {
	return serialport.Config{Baud: 9600, Parity: serialport.None, StopBits: 1, DataBits: 8}
}

// ParseURL reads the url of a device. usual are the settings that hold where the URL says nothing.
func ParseURL(text string, usual serialport.Config) (Endpoint, error) {
	e, wrong := parseURL(text, usual)
	if wrong != nil {
		return Endpoint{}, fmt.Errorf("%s; %s", wrong.what, wrong.remedy)
	}
	return e, nil
}

func parseURL(text string, usual serialport.Config) (Endpoint, *mistake) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return Endpoint{}, &mistake{fmt.Sprintf("%.80q is not a URL", text), urlRemedy}
	}
	if u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return Endpoint{}, &mistake{fmt.Sprintf("%.80q has more than the URL of a serial line may have", text), urlRemedy}
	}
	switch scheme := Scheme(strings.ToLower(u.Scheme)); scheme {
	case TTY:
		return parseTTY(u, usual)
	case TCP, RFC2217:
		return parseServer(scheme, u, usual)
	case "rtu", "ascii", "rtuovertcp":
		return Endpoint{}, &mistake{fmt.Sprintf("the scheme %s is Modbus's", scheme), "declare protocolName: modbus, or " + urlRemedy}
	default:
		return Endpoint{}, &mistake{fmt.Sprintf("unknown scheme %.40q", string(scheme)), urlRemedy}
	}
}

func parseTTY(u *url.URL, usual serialport.Config) (Endpoint, *mistake) {
	if u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/" {
		return Endpoint{}, &mistake{"the URL has no absolute path of a serial port", "write serial:///dev/ttyUSB0?baud=9600, with three slashes"}
	}
	c, wrong := settings(u.Path, u, usual)
	return Endpoint{Scheme: TTY, Settings: c}, wrong
}

func settings(path string, u *url.URL, usual serialport.Config) (serialport.Config, *mistake) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return serialport.Config{}, &mistake{fmt.Sprintf("%.80q are not URL parameters", u.RawQuery), "write baud=9600&parity=even&stop=1&bits=8"}
	}
	c, err := serialport.ParseSettings(path, query, usual)
	var wrong *serialport.Mistake
	switch {
	case errors.As(err, &wrong):
		return c, &mistake{wrong.What, wrong.Remedy}
	case err != nil:
		return c, &mistake{err.Error(), urlRemedy}
	}
	return c, nil
}

func parseServer(scheme Scheme, u *url.URL, usual serialport.Config) (Endpoint, *mistake) {
	port, err := strconv.Atoi(u.Port())
	switch {
	case u.Hostname() == "":
		return Endpoint{}, &mistake{"the URL has no host", urlRemedy}
	case err != nil || port < 1 || port > 65535:
		return Endpoint{}, &mistake{fmt.Sprintf("%.40q is not a port", u.Port()), "write the port of the device server, 1 to 65535"}
	case u.Path != "" && u.Path != "/":
		return Endpoint{}, &mistake{fmt.Sprintf("the URL has the path %.40q", u.Path), "end it after the port"}
	}
	e := Endpoint{Scheme: scheme, Address: net.JoinHostPort(strings.ToLower(u.Hostname()), u.Port())}
	if scheme == TCP {
		if u.RawQuery != "" {
			return Endpoint{}, &mistake{fmt.Sprintf("tcp passes no settings on, but the URL has %.40q", u.RawQuery), "set the line at the device server and end the URL after the port, or write rfc2217:// if the server speaks it"}
		}
		return e, nil
	}
	c, wrong := settings("", u, usual)
	if wrong == nil && c.RS485 != (serialport.RS485{}) {
		wrong = &mistake{"RFC 2217 has no setting for RS-485", "set it at the device server, and leave rs485 out"}
	}
	e.Settings = c
	return e, wrong
}
