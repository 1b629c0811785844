package modbus

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

func TestTablesFitTheirStructs(t *testing.T) {
	require.NoError(t, DeviceTable().Check(&deviceConfig{}))
	require.NoError(t, VisitorTable().Check(&visitorConfig{}))
	for _, table := range []*schema.Table{DeviceTable(), VisitorTable()} {
		var b strings.Builder
		require.NoError(t, table.WriteMarkdown(&b, 2))
		require.Contains(t, b.String(), "mappers-go")
	}
}

func TestDeviceConfig(t *testing.T) {
	serial := Endpoint{Scheme: RTU, Address: "/dev/ttyUSB0", Baud: 9600, Parity: "none", StopBits: 2, DataBits: 8}
	for name, test := range map[string]struct {
		config map[string]any
		want   Config
	}{
		"tcp": {
			map[string]any{"url": "tcp://PLC.plant:1502", "unitId": 255, "timeout": 250, "retries": 0, "gap": 4, "maxRegisters": 60},
			Config{Endpoint: Endpoint{Scheme: TCP, Address: "plc.plant:1502"}, Unit: 255, Timeout: 250 * time.Millisecond, MaxRegisters: 60, MaxCoils: 2000, Gap: 4},
		},
		"tcp, bare": {
			map[string]any{"url": "tcp://10.0.0.7"},
			Config{Endpoint: Endpoint{Scheme: TCP, Address: "10.0.0.7:502"}, Unit: 1, Timeout: time.Second, Retries: 1, MaxRegisters: 125, MaxCoils: 2000, Gap: AutoGap},
		},
		"ipv6": {
			map[string]any{"url": "udp://[fe80::1]:5020/"},
			Config{Endpoint: Endpoint{Scheme: UDP, Address: "[fe80::1]:5020"}, Unit: 1, Timeout: time.Second, Retries: 1, MaxRegisters: 125, MaxCoils: 2000, Gap: AutoGap},
		},
		"rtu": {
			map[string]any{"url": "rtu:///dev/ttyUSB0?baud=9600&parity=none&stop=2", "pause": "20ms", "unitId": "0x11"},
			Config{Endpoint: serial, Unit: 17, Timeout: time.Second, Retries: 1, Pause: 20 * time.Millisecond, MaxRegisters: 125, MaxCoils: 2000, Gap: AutoGap},
		},
		"mappers-go rtu": {
			map[string]any{"slaveID": 1, "serialPort": "/dev/ttyUSB0", "baudRate": 9600, "dataBits": 8, "parity": "none", "stopBits": 2},
			Config{Endpoint: serial, Unit: 1, Timeout: time.Second, Retries: 1, MaxRegisters: 125, MaxCoils: 2000, Gap: AutoGap},
		},
		"mappers-go tcp": {
			map[string]any{"communicateMode": "TCP", "ip": "10.0.0.7", "port": 5021.0, "slaveID": "3"},
			Config{Endpoint: Endpoint{Scheme: TCP, Address: "10.0.0.7:5021"}, Unit: 3, Timeout: time.Second, Retries: 1, MaxRegisters: 125, MaxCoils: 2000, Gap: AutoGap},
		},
	} {
		t.Run(name, func(t *testing.T) {
			decl, problems := Parse(&twin.Device{Config: test.config})
			require.Empty(t, problems)
			require.Equal(t, test.want, decl.Config)
		})
	}
}

func TestDeviceMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		config map[string]any
		want   string
	}{
		"nothing":            {nil, "url: missing; write tcp://host:502, rtu:///dev/ttyUSB0?baud=9600&parity=even or rtuovertcp://host:port"},
		"no url":             {map[string]any{"url": "10.0.0.7:502"}, `url: "10.0.0.7:502" is not a URL; write tcp://`},
		"unknown scheme":     {map[string]any{"url": "tpc://x"}, `url: unknown scheme "tpc"; use one of tcp, udp, rtu, rtuovertcp, ascii, asciiovertcp`},
		"tls":                {map[string]any{"url": "tls://x"}, "url: the scheme tls is not served; run a TLS client such as stunnel"},
		"rtu over udp":       {map[string]any{"url": "rtuoverudp://x:1"}, "url: the scheme rtuoverudp is not served: datagrams may overtake each other"},
		"no host":            {map[string]any{"url": "tcp://:502"}, "url: the URL has no host"},
		"port":               {map[string]any{"url": "tcp://x:0"}, `url: "0" is not a port; use a port from 1 to 65535`},
		"path":               {map[string]any{"url": "tcp://x:1/unit"}, `url: the URL has the path "/unit"; end it after the port`},
		"tcp parameter":      {map[string]any{"url": "tcp://x?baud=1"}, `url: tcp takes no parameters, but the URL has "baud=1"`},
		"two slashes":        {map[string]any{"url": "rtu://dev/ttyUSB0"}, "url: the URL has no absolute path of a serial port; write rtu:///dev/ttyUSB0?baud=9600&parity=even, with three slashes"},
		"baud":               {map[string]any{"url": "rtu:///dev/x?baud=fast"}, `url: "fast" is not a baud rate; use 50 to 4000000`},
		"parity":             {map[string]any{"url": "rtu:///dev/x?parity=mark"}, `url: "mark" is not a parity; use none, even or odd`},
		"stop":               {map[string]any{"url": "rtu:///dev/x?stop=3"}, `url: "3" is not a number of stop bits; use 1 or 2`},
		"bits":               {map[string]any{"url": "rtu:///dev/x?bits=7"}, `url: "7" data bits do not carry rtu; use 8`},
		"parameter":          {map[string]any{"url": "rtu:///dev/x?speed=7"}, `url: the URL parameter "speed" is unknown, or there twice; use baud, parity, stop and bits, each once`},
		"broadcast":          {map[string]any{"url": "rtu:///dev/x", "unitId": 0}, "unitId: 0 is not a device on a serial line; use 1 to 247"},
		"reserved":           {map[string]any{"url": "rtuovertcp://x:1", "unitId": 248}, "unitId: 248 is not a device on a serial line"},
		"unit":               {map[string]any{"url": "tcp://x", "unitId": 256}, "unitId: 256 is out of range; use 0 to 255"},
		"unknown key":        {map[string]any{"url": "tcp://x", "unitID": 7}, "unitID: unknown key; did you mean unitId?"},
		"order":              {map[string]any{"url": "tcp://x", "order": "ACBD"}, `order: "ACBD" is not one of its values`},
		"gap":                {map[string]any{"url": "tcp://x", "gap": "wide"}, `gap: "wide" is not a number of registers; use auto, or 0 to 125`},
		"registers":          {map[string]any{"url": "tcp://x", "maxRegisters": 126}, "maxRegisters: 126 is out of range; use 1 to 125"},
		"nanoseconds":        {map[string]any{"url": "tcp://x", "timeout": 5000000000}, "timeout: "},
		"both spellings":     {map[string]any{"url": "tcp://x", "ip": "y"}, "ip: it stands beside url; keep url alone"},
		"mappers-go no ip":   {map[string]any{"communicateMode": "TCP"}, "ip: missing; write the device's address, or better url: tcp://host:502"},
		"mappers-go no port": {map[string]any{"communicateMode": "RTU", "serialPort": "1"}, `serialPort: "1" is not the absolute path of a serial port`},
	} {
		t.Run(name, func(t *testing.T) {
			decl, problems := Parse(&twin.Device{ID: twin.DeviceID{Namespace: "default", Name: "x"}, Config: test.config})
			require.Nil(t, decl)
			require.Len(t, problems, 1)
			require.NotEmpty(t, problems[0].Remedy)
			require.Contains(t, problems[0].Error(), "Device default/x: spec.protocol.configData."+test.want)
		})
	}
}

func TestVisitorMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		typ     twin.Type
		visitor map[string]any
		want    string
	}{
		"nothing":        {twin.TypeInt, nil, "register: missing"},
		"table":          {twin.TypeInt, map[string]any{"register": "holdings", "address": 1}, `register: "holdings" is not one of its values; did you mean holding?`},
		"no address":     {twin.TypeInt, map[string]any{"register": "holding"}, "address: missing; use 0 to 65535"},
		"address":        {twin.TypeInt, holding("address", 70000), "address: 70000 is out of range; use 0 to 65535"},
		"beyond the end": {twin.TypeInt, holding("address", 65535, "type", "uint32"), "address: its last register is 65536, beyond 65535; use an address up to 65534"},
		"unknown key":    {twin.TypeInt, holding("adddress", 1), "adddress: unknown key; did you mean address?"},
		"type name":      {twin.TypeInt, holding("type", "uint12"), `type: "uint12" is not one of its values; did you mean`},
		"order of 16":    {twin.TypeInt, holding("order", "CDAB"), `order: "CDAB" is no order of uint16; use AB or BA`},
		"order of 32":    {twin.TypeInt, holding("type", "int32", "order", "ABDC"), `order: "ABDC" is no order of int32; use ABCD, BADC, CDAB or DCBA`},
		"order of 64":    {twin.TypeInt, holding("type", "int64", "order", "ABCDEFGG"), `order: "ABCDEFGG" is no order of int64; use`},
		"scale 0":        {twin.TypeDouble, holding("scale", 0), "scale: 0 makes every value the same; use the factor"},
		"scale NaN":      {twin.TypeDouble, holding("scale", "NaN"), `scale: "NaN" is not a finite number`},
		"scale, INT":     {twin.TypeInt, holding("scale", 0.1), "scale: it gives values with a fraction, but the property is INT; declare the property's type as DOUBLE or FLOAT"},
		"float as INT":   {twin.TypeInt, holding("type", "float32"), "type: float32 does not fit the property's type INT; declare the property's type as FLOAT or DOUBLE"},
		"float as bool":  {twin.TypeBoolean, holding("type", "float32"), "type: float32 does not fit the property's type BOOLEAN; declare the property's type as FLOAT or DOUBLE, or use type: bool with bit"},
		"int as text":    {twin.TypeString, holding(), "type: uint16 does not fit the property's type STRING; declare the property's type as INT, FLOAT or DOUBLE"},
		"bool, no bit":   {twin.TypeBoolean, holding("type", "bool"), "bit: missing: a register has 16; write which bit it is"},
		"bit of int":     {twin.TypeInt, holding("type", "int16", "bit", 3), "bit: only a bool in a register is a bit of it"},
		"no length":      {twin.TypeString, holding("type", "string"), "length: missing; write how many registers the string has"},
		"length of int":  {twin.TypeInt, holding("length", 2), "length: uint16 has its own length; leave it out"},
		"coil type":      {twin.TypeInt, map[string]any{"register": "coil", "address": 1, "type": "int16"}, "type: coil holds single bits, not int16"},
		"read-only":      {twin.TypeInt, map[string]any{"register": "input", "address": 1, "writable": true}, "register: input cannot be written, but the property is ReadWrite"},
		"enum type":      {twin.TypeInt, holding("enum", map[string]any{"0": "off"}), "enum: names are texts, but the property is INT; declare the property's type as STRING"},
		"enum key":       {twin.TypeString, holding("enum", map[string]any{"off": "0"}), `enum: "off" is not a value of uint16`},
		"enum twice":     {twin.TypeString, holding("enum", map[string]any{"0": "off", "1": "off"}), `enum: "1: off" is there twice`},
		"sentinel":       {twin.TypeInt, holding("sentinels", []any{70000}), "sentinels[0]: 70000 is nothing that uint16 can hold; write what the register holds"},
		"limit":          {twin.TypeInt, map[string]any{"register": "HoldingRegister", "offset": 1, "limit": 3}, "limit: no number has 3 registers; use 1, 2 or 4"},
		"legacy offset":  {twin.TypeInt, map[string]any{"register": "HoldingRegister", "offset": 70000}, "offset: 70000 is not an address; use 0 to 65535"},
		"swap":           {twin.TypeInt, holding("isSwap", true), "isSwap: the spelling of mappers-go beside this one; write order"},
		"deadband":       {twin.TypeInt, holding("deadband", -1), "deadband: -1 is out of range; use at least 0"},
		"deadband, kind": {twin.TypeBoolean, holding("bit", 1, "deadband", 1), "deadband: a BOOLEAN has none; leave it out"},
	} {
		t.Run(name, func(t *testing.T) {
			device := oneProperty(test.typ, test.visitor)
			if _, ok := test.visitor["writable"]; ok {
				delete(test.visitor, "writable")
				device.Properties[0].Writable = true
			}
			decl, problems := Parse(&device)
			require.NotNil(t, decl)
			require.Empty(t, decl.Fields)
			require.Len(t, problems, 1)
			require.NotEmpty(t, problems[0].Remedy)
			require.Contains(t, problems[0].Error(), "Device default/x: spec.properties[p].visitors.configData."+test.want)
		})
	}
}

func TestAMistakeSpoilsNothingElse(t *testing.T) {
	device := oneProperty(twin.TypeInt, holding("address", -1, "bit", 16))
	device.Properties = append(device.Properties, twin.Property{Name: "q", Type: twin.TypeInt, Visitor: holding()})
	decl, problems := Parse(&device)
	require.Len(t, problems, 2)
	require.Len(t, decl.Fields, 1)
	require.Equal(t, "q", decl.Fields[0].Property)
}

func TestFieldsMustFitTheDevicesReads(t *testing.T) {
	device := oneProperty(twin.TypeString, holding("type", "string", "length", 20))
	device.Config["maxRegisters"] = 16
	_, problems := Parse(&device)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Error(), "length: its 20 registers do not fit one read of at most 16; raise the device's maxRegisters")
	device = oneProperty(twin.TypeString, holding("type", "string", "length", 124))
	_, problems = Parse(&device)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Error(), "length: 124 registers do not fit one write of at most 123")
}
