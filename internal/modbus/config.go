package modbus

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/number"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// Protocol is the protocolName of Modbus devices.
const Protocol = "modbus"

// Bounds of the Modbus Application Protocol V1.1b3, section 6.
const (
	maxReadRegisters  = 125
	maxReadCoils      = 2000
	maxWriteRegisters = 123
	lastAddress       = 65535
)

// AutoGap is the Config.Gap that leaves the choice to the cost model.
const AutoGap = -1

// Config is how to reach one device.
type Config struct {
	Endpoint     Endpoint
	Unit         byte
	Timeout      time.Duration // for one answer
	Retries      int           // of a read that was not answered, or badly
	Pause        time.Duration // kept free on the line after each request to the device
	MaxRegisters int           // of one read
	MaxCoils     int           // of one read
	Gap          int           // undeclared registers read rather than a request more, or AutoGap
}

// Declaration is a device as declared, ready to be served.
type Declaration struct {
	Config Config
	Fields []Field // of the properties that are declared without a mistake, in their order
}

// deviceConfig is spec.protocol.configData as written.
type deviceConfig struct {
	URL          string        `key:"url"`
	Unit         uint8         `key:"unitId"`
	Timeout      time.Duration `key:"timeout"`
	Retries      int           `key:"retries"`
	Pause        time.Duration `key:"pause"`
	MaxRegisters int           `key:"maxRegisters"`
	MaxCoils     int           `key:"maxCoils"`
	Order        string        `key:"order"`
	Gap          string        `key:"gap"`

	Mode       string `key:"communicateMode"`
	IP         string `key:"ip"`
	Port       *int   `key:"port"`
	SerialPort string `key:"serialPort"`
	BaudRate   *int   `key:"baudRate"`
	DataBits   *int   `key:"dataBits"`
	StopBits   *int   `key:"stopBits"`
	Parity     string `key:"parity"`
}

// DeviceTable describes the configData of a Modbus device: it decodes it and documents it.
func DeviceTable() *schema.Table {
	return &schema.Table{
		Title: "Modbus: the device",
		Doc: "`spec.protocol.configData`, or `protocolConfigData` of the model; the device's keys override the model's. " +
			"Devices with the same `url` share one line and one connection.",
		Fields: []schema.Field{
			{
				Key: "url", Kind: schema.String, Min: 1, Max: 512, Example: "tcp://10.0.0.7:502",
				Doc: "The line: `tcp://host:502`, `udp://host:502`, `rtu:///dev/ttyUSB0?baud=9600&parity=even&stop=1&bits=8`, `rtuovertcp://host:port`, `ascii:///dev/…`, `asciiovertcp://host:port`. A serial line is 19200 baud, even parity, 1 stop bit where the URL does not say; `rts=on`, `dtr=off` and `rs485=on` are set where the port wants them.",
			},
			{
				Key: "unitId", Aliases: []string{"slaveID", "slaveId"}, Kind: schema.Int, Default: 1, Min: 0, Max: 255,
				Doc: "The device on the line. 1 to 247 on serial lines and through transparent gateways; 0 to 255 over `tcp` and `udp`.",
			},
			{
				Key: "timeout", Kind: schema.Duration, Unit: "ms", Default: "1s", Min: 10 * time.Millisecond, Max: time.Minute,
				Doc: "How long one answer may take.",
			},
			{
				Key: "retries", Kind: schema.Int, Default: 1, Min: 0, Max: 5,
				Doc: "How often a read is repeated that was not answered, or badly. Writes are repeated by the mapper, not by the line.",
			},
			{
				Key: "pause", Kind: schema.Duration, Unit: "ms", Default: "0s", Min: time.Duration(0), Max: 10 * time.Second,
				Doc: "How long the line is left alone after each request to this device.",
			},
			{
				Key: "maxRegisters", Kind: schema.Int, Default: maxReadRegisters, Min: 1, Max: maxReadRegisters,
				Doc: "The most registers the device gives in one answer.",
			},
			{
				Key: "maxCoils", Kind: schema.Int, Default: maxReadCoils, Min: 1, Max: maxReadCoils,
				Doc: "The most coils or discrete inputs it gives in one answer.",
			},
			{
				Key: "order", Kind: schema.Enum, Enum: number.RegisterOrders(), Default: "ABCD",
				Doc: "How numbers are laid out: the bytes of a 32-bit number as they come, A the most significant. `BADC` swaps the bytes of each register, `CDAB` the registers, `DCBA` both. It holds for 16 and 64 bits in the same sense.",
			},
			{
				Key: "gap", Kind: schema.String, Default: "auto", Min: 1, Max: 8,
				Doc: "How many undeclared registers may be read to save a request. `auto` weighs it by the speed of the line and the measured response time; `0` never reads what is not declared.",
			},
			{Key: "communicateMode", Kind: schema.Enum, Enum: []string{"TCP", "RTU"}, Doc: "As in kubeedge/mappers-go, in place of `url`."},
			{Key: "ip", Kind: schema.String, Min: 1, Max: 253, Doc: "As in mappers-go, for TCP."},
			{Key: "port", Kind: schema.Int, Min: 1, Max: 65535, Doc: "As in mappers-go, for TCP."},
			{Key: "serialPort", Kind: schema.String, Min: 1, Max: 256, Doc: "As in mappers-go, for RTU.", Example: "/dev/ttyS0"},
			{Key: "baudRate", Kind: schema.Int, Min: minBaud, Max: maxBaud, Doc: "As in mappers-go, for RTU."},
			{Key: "dataBits", Kind: schema.Int, Min: 7, Max: 8, Doc: "As in mappers-go, for RTU."},
			{Key: "stopBits", Kind: schema.Int, Min: 1, Max: 2, Doc: "As in mappers-go, for RTU."},
			{Key: "parity", Kind: schema.Enum, Enum: []string{"none", "even", "odd"}, Doc: "As in mappers-go, for RTU."},
		},
	}
}

// configPath is where the device's keys stand in its object.
const configPath = "spec.protocol.configData"

// Parse reads a declared device. Each mistake is one Problem with a remedy. A
// property with a mistake is left out of Fields; the Declaration is nil when the
// device itself cannot be served.
func Parse(device *twin.Device) (*Declaration, []twin.Problem) {
	p := parser{object: "Device " + device.ID.String()}
	config, base, ok := p.device(device.Config)
	fields := make([]Field, 0, len(device.Properties))
	for i := range device.Properties {
		if f, ok := p.visitor(&device.Properties[i], &config, base); ok {
			fields = append(fields, f)
		}
	}
	if !ok {
		return nil, p.problems
	}
	return &Declaration{Config: config, Fields: fields}, p.problems
}

type parser struct {
	object   string
	problems []twin.Problem
}

func (p *parser) problem(field, what, remedy string) {
	p.problems = append(p.problems, twin.Problem{Object: p.object, Field: field, What: what, Remedy: remedy})
}

// device reads configData; base is the order of its numbers. ok is false when it
// cannot be served.
func (p *parser) device(data map[string]any) (c Config, base number.Order, ok bool) {
	var raw deviceConfig
	p.problems = append(p.problems, DeviceTable().Decode(p.object, configPath, data, &raw)...)
	ok = len(p.problems) == 0
	c = Config{
		Unit: raw.Unit, Timeout: raw.Timeout, Retries: raw.Retries, Pause: raw.Pause,
		MaxRegisters: raw.MaxRegisters, MaxCoils: raw.MaxCoils, Gap: AutoGap,
	}
	base, _ = number.OrderOf(raw.Order)
	if !strings.EqualFold(raw.Gap, "auto") {
		n, err := strconv.Atoi(raw.Gap)
		if err != nil || n < 0 || n > maxReadRegisters {
			p.problem(schema.Join(configPath, "gap"), fmt.Sprintf("%q is not a number of registers", raw.Gap), fmt.Sprintf("use auto, or 0 to %d", maxReadRegisters))
			return c, base, false
		}
		c.Gap = n
	}
	if !ok {
		return c, base, false
	}
	endpoint, field, wrong := raw.endpoint()
	if wrong != nil {
		p.problem(schema.Join(configPath, field), wrong.what, wrong.remedy)
		return c, base, false
	}
	c.Endpoint = endpoint
	if endpoint.Scheme != TCP && endpoint.Scheme != UDP && (c.Unit < 1 || c.Unit > 247) {
		p.problem(schema.Join(configPath, "unitId"), fmt.Sprintf("%d is not a device on a serial line", c.Unit), "use 1 to 247: 0 is for broadcasts, which nobody answers, and 248 to 255 are reserved")
		return c, base, false
	}
	return c, base, true
}

// endpoint reads url, or what mappers-go has in its place; field is where the mistake is.
func (d *deviceConfig) endpoint() (e Endpoint, field string, wrong *mistake) {
	legacy := d.legacyKey()
	switch {
	case d.URL != "" && legacy != "":
		return e, legacy, &mistake{"it stands beside url", "keep url alone"}
	case d.URL != "":
		e, wrong = parseURL(d.URL)
		return e, "url", wrong
	case legacy == "":
		return e, "url", &mistake{"missing", urlRemedy}
	}
	serial := strings.EqualFold(d.Mode, "RTU") || (d.Mode == "" && d.SerialPort != "")
	if !serial {
		if d.IP == "" {
			return e, "ip", &mistake{"missing", "write the device's address, or better url: tcp://host:502"}
		}
		port := defaultPort
		if d.Port != nil {
			port = strconv.Itoa(*d.Port)
		}
		return Endpoint{Scheme: TCP, Address: net.JoinHostPort(strings.ToLower(d.IP), port)}, "", nil
	}
	if !strings.HasPrefix(d.SerialPort, "/") {
		return e, "serialPort", &mistake{fmt.Sprintf("%.80q is not the absolute path of a serial port", d.SerialPort), "write a path such as /dev/ttyUSB0, or better url: rtu:///dev/ttyUSB0?baud=9600"}
	}
	e, wrong = Endpoint{Scheme: RTU, Address: d.SerialPort}.withSettings(url.Values{
		"baud": {text(d.BaudRate)}, "parity": {d.Parity}, "stop": {text(d.StopBits)}, "bits": {text(d.DataBits)},
	})
	return e, "serialPort", wrong
}

// legacyKey is the first key of mappers-go that is there.
func (d *deviceConfig) legacyKey() string {
	for _, k := range []struct {
		key   string
		given bool
	}{
		{"communicateMode", d.Mode != ""},
		{"ip", d.IP != ""},
		{"port", d.Port != nil},
		{"serialPort", d.SerialPort != ""},
		{"baudRate", d.BaudRate != nil},
		{"dataBits", d.DataBits != nil},
		{"stopBits", d.StopBits != nil},
		{"parity", d.Parity != ""},
	} {
		if k.given {
			return k.key
		}
	}
	return ""
}

func text(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}
