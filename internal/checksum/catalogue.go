package checksum

// model is one algorithm of the Rocksoft model, with the parameters as the
// catalogue of CRC RevEng writes them: https://reveng.sourceforge.io/crc-catalogue/all.htm
type model struct {
	name          string // in lower case
	width         int    // 1 to 64
	poly, init    uint64 // not reflected, without the top bit
	refIn, refOut bool
	xorOut        uint64
	aliases       []string
}

// catalogue returns all CRCs of the catalogue that have 8 to 64 bits. A shorter one guards no
// frame on a serial line, the one longer fits no register.
func catalogue() []model {
	var all []model
	for _, some := range [][]model{width8(), below16(), width16(), below32(), width32(), above32()} {
		all = append(all, some...)
	}
	return all
}

// width8 returns those of 8 bits.
func width8() []model {
	return []model{
		{name: "crc-8/autosar", width: 8, poly: 0x2f, init: 0xff, xorOut: 0xff},
		{name: "crc-8/bluetooth", width: 8, poly: 0xa7, refIn: true, refOut: true},
		{name: "crc-8/cdma2000", width: 8, poly: 0x9b, init: 0xff},
		{name: "crc-8/darc", width: 8, poly: 0x39, refIn: true, refOut: true},
		{name: "crc-8/dvb-s2", width: 8, poly: 0xd5},
		{name: "crc-8/gsm-a", width: 8, poly: 0x1d},
		{name: "crc-8/gsm-b", width: 8, poly: 0x49, xorOut: 0xff},
		{name: "crc-8/hitag", width: 8, poly: 0x1d, init: 0xff},
		{name: "crc-8/i-432-1", width: 8, poly: 0x7, xorOut: 0x55, aliases: []string{"crc-8/itu"}},
		{name: "crc-8/i-code", width: 8, poly: 0x1d, init: 0xfd},
		{name: "crc-8/lte", width: 8, poly: 0x9b},
		{name: "crc-8/maxim-dow", width: 8, poly: 0x31, refIn: true, refOut: true, aliases: []string{"crc-8/maxim", "dow-crc"}},
		{name: "crc-8/mifare-mad", width: 8, poly: 0x1d, init: 0xc7},
		{name: "crc-8/nrsc-5", width: 8, poly: 0x31, init: 0xff},
		{name: "crc-8/opensafety", width: 8, poly: 0x2f},
		{name: "crc-8/rohc", width: 8, poly: 0x7, init: 0xff, refIn: true, refOut: true},
		{name: "crc-8/sae-j1850", width: 8, poly: 0x1d, init: 0xff, xorOut: 0xff},
		{name: "crc-8/smbus", width: 8, poly: 0x7},
		{name: "crc-8/tech-3250", width: 8, poly: 0x1d, init: 0xff, refIn: true, refOut: true, aliases: []string{"crc-8/aes", "crc-8/ebu"}},
		{name: "crc-8/wcdma", width: 8, poly: 0x9b, refIn: true, refOut: true},
	}
}

// below16 returns those of 10 to 15 bits.
func below16() []model {
	return []model{
		{name: "crc-10/atm", width: 10, poly: 0x233, aliases: []string{"crc-10", "crc-10/i-610"}},
		{name: "crc-10/cdma2000", width: 10, poly: 0x3d9, init: 0x3ff},
		{name: "crc-10/gsm", width: 10, poly: 0x175, xorOut: 0x3ff},
		{name: "crc-11/flexray", width: 11, poly: 0x385, init: 0x1a},
		{name: "crc-11/umts", width: 11, poly: 0x307},
		{name: "crc-12/cdma2000", width: 12, poly: 0xf13, init: 0xfff},
		{name: "crc-12/dect", width: 12, poly: 0x80f, aliases: []string{"x-crc-12"}},
		{name: "crc-12/gsm", width: 12, poly: 0xd31, xorOut: 0xfff},
		{name: "crc-12/umts", width: 12, poly: 0x80f, refOut: true, aliases: []string{"crc-12/3gpp"}},
		{name: "crc-13/bbc", width: 13, poly: 0x1cf5},
		{name: "crc-14/darc", width: 14, poly: 0x805, refIn: true, refOut: true},
		{name: "crc-14/gsm", width: 14, poly: 0x202d, xorOut: 0x3fff},
		{name: "crc-15/can", width: 15, poly: 0x4599, aliases: []string{"crc-15"}},
		{name: "crc-15/mpt1327", width: 15, poly: 0x6815, xorOut: 0x1},
	}
}

// width16 returns those of 16 bits.
func width16() []model {
	return []model{
		{name: "crc-16/arc", width: 16, poly: 0x8005, refIn: true, refOut: true, aliases: []string{"arc", "crc-16", "crc-16/lha", "crc-ibm"}},
		{name: "crc-16/cdma2000", width: 16, poly: 0xc867, init: 0xffff},
		{name: "crc-16/cms", width: 16, poly: 0x8005, init: 0xffff},
		{name: "crc-16/dds-110", width: 16, poly: 0x8005, init: 0x800d},
		{name: "crc-16/dect-r", width: 16, poly: 0x589, xorOut: 0x1, aliases: []string{"r-crc-16"}},
		{name: "crc-16/dect-x", width: 16, poly: 0x589, aliases: []string{"x-crc-16"}},
		{name: "crc-16/dnp", width: 16, poly: 0x3d65, refIn: true, refOut: true, xorOut: 0xffff},
		{name: "crc-16/en-13757", width: 16, poly: 0x3d65, xorOut: 0xffff},
		{name: "crc-16/genibus", width: 16, poly: 0x1021, init: 0xffff, xorOut: 0xffff, aliases: []string{"crc-16/darc", "crc-16/epc", "crc-16/epc-c1g2", "crc-16/i-code"}},
		{name: "crc-16/gsm", width: 16, poly: 0x1021, xorOut: 0xffff},
		{name: "crc-16/ibm-3740", width: 16, poly: 0x1021, init: 0xffff, aliases: []string{"crc-16/autosar", "crc-16/ccitt-false"}},
		{name: "crc-16/ibm-sdlc", width: 16, poly: 0x1021, init: 0xffff, refIn: true, refOut: true, xorOut: 0xffff, aliases: []string{"crc-16/iso-hdlc", "crc-16/iso-iec-14443-3-b", "crc-16/x-25", "crc-b", "x-25"}},
		{name: "crc-16/iso-iec-14443-3-a", width: 16, poly: 0x1021, init: 0xc6c6, refIn: true, refOut: true, aliases: []string{"crc-a"}},
		{name: "crc-16/kermit", width: 16, poly: 0x1021, refIn: true, refOut: true, aliases: []string{"crc-16/bluetooth", "crc-16/ccitt", "crc-16/ccitt-true", "crc-16/v-41-lsb", "crc-ccitt", "kermit"}},
		{name: "crc-16/lj1200", width: 16, poly: 0x6f63},
		{name: "crc-16/m17", width: 16, poly: 0x5935, init: 0xffff},
		{name: "crc-16/maxim-dow", width: 16, poly: 0x8005, refIn: true, refOut: true, xorOut: 0xffff, aliases: []string{"crc-16/maxim"}},
		{name: "crc-16/mcrf4xx", width: 16, poly: 0x1021, init: 0xffff, refIn: true, refOut: true},
		{name: "crc-16/modbus", width: 16, poly: 0x8005, init: 0xffff, refIn: true, refOut: true, aliases: []string{"modbus"}},
		{name: "crc-16/nrsc-5", width: 16, poly: 0x80b, init: 0xffff, refIn: true, refOut: true},
		{name: "crc-16/opensafety-a", width: 16, poly: 0x5935},
		{name: "crc-16/opensafety-b", width: 16, poly: 0x755b},
		{name: "crc-16/profibus", width: 16, poly: 0x1dcf, init: 0xffff, xorOut: 0xffff, aliases: []string{"crc-16/iec-61158-2"}},
		{name: "crc-16/riello", width: 16, poly: 0x1021, init: 0xb2aa, refIn: true, refOut: true},
		{name: "crc-16/spi-fujitsu", width: 16, poly: 0x1021, init: 0x1d0f, aliases: []string{"crc-16/aug-ccitt"}},
		{name: "crc-16/t10-dif", width: 16, poly: 0x8bb7},
		{name: "crc-16/teledisk", width: 16, poly: 0xa097},
		{name: "crc-16/tms37157", width: 16, poly: 0x1021, init: 0x89ec, refIn: true, refOut: true},
		{name: "crc-16/umts", width: 16, poly: 0x8005, aliases: []string{"crc-16/buypass", "crc-16/verifone"}},
		{name: "crc-16/usb", width: 16, poly: 0x8005, init: 0xffff, refIn: true, refOut: true, xorOut: 0xffff},
		{name: "crc-16/xmodem", width: 16, poly: 0x1021, aliases: []string{"crc-16/acorn", "crc-16/lte", "crc-16/v-41-msb", "xmodem", "zmodem"}},
	}
}

// below32 returns those of 17 to 31 bits.
func below32() []model {
	return []model{
		{name: "crc-17/can-fd", width: 17, poly: 0x1685b},
		{name: "crc-21/can-fd", width: 21, poly: 0x102899},
		{name: "crc-24/ble", width: 24, poly: 0x65b, init: 0x555555, refIn: true, refOut: true},
		{name: "crc-24/flexray-a", width: 24, poly: 0x5d6dcb, init: 0xfedcba},
		{name: "crc-24/flexray-b", width: 24, poly: 0x5d6dcb, init: 0xabcdef},
		{name: "crc-24/interlaken", width: 24, poly: 0x328b63, init: 0xffffff, xorOut: 0xffffff},
		{name: "crc-24/lte-a", width: 24, poly: 0x864cfb},
		{name: "crc-24/lte-b", width: 24, poly: 0x800063},
		{name: "crc-24/openpgp", width: 24, poly: 0x864cfb, init: 0xb704ce, aliases: []string{"crc-24"}},
		{name: "crc-24/os-9", width: 24, poly: 0x800063, init: 0xffffff, xorOut: 0xffffff},
		{name: "crc-30/cdma", width: 30, poly: 0x2030b9c7, init: 0x3fffffff, xorOut: 0x3fffffff},
		{name: "crc-31/philips", width: 31, poly: 0x4c11db7, init: 0x7fffffff, xorOut: 0x7fffffff},
	}
}

// width32 returns those of 32 bits.
func width32() []model {
	return []model{
		{name: "crc-32/aixm", width: 32, poly: 0x814141ab, aliases: []string{"crc-32q"}},
		{name: "crc-32/autosar", width: 32, poly: 0xf4acfb13, init: 0xffffffff, refIn: true, refOut: true, xorOut: 0xffffffff},
		{name: "crc-32/base91-d", width: 32, poly: 0xa833982b, init: 0xffffffff, refIn: true, refOut: true, xorOut: 0xffffffff, aliases: []string{"crc-32d"}},
		{name: "crc-32/bzip2", width: 32, poly: 0x4c11db7, init: 0xffffffff, xorOut: 0xffffffff, aliases: []string{"crc-32/aal5", "crc-32/dect-b", "b-crc-32"}},
		{name: "crc-32/cd-rom-edc", width: 32, poly: 0x8001801b, refIn: true, refOut: true},
		{name: "crc-32/cksum", width: 32, poly: 0x4c11db7, xorOut: 0xffffffff, aliases: []string{"cksum", "crc-32/posix"}},
		{name: "crc-32/iscsi", width: 32, poly: 0x1edc6f41, init: 0xffffffff, refIn: true, refOut: true, xorOut: 0xffffffff, aliases: []string{"crc-32/base91-c", "crc-32/castagnoli", "crc-32/interlaken", "crc-32c"}},
		{name: "crc-32/iso-hdlc", width: 32, poly: 0x4c11db7, init: 0xffffffff, refIn: true, refOut: true, xorOut: 0xffffffff, aliases: []string{"crc-32", "crc-32/adccp", "crc-32/v-42", "crc-32/xz", "pkzip"}},
		{name: "crc-32/jamcrc", width: 32, poly: 0x4c11db7, init: 0xffffffff, refIn: true, refOut: true, aliases: []string{"jamcrc"}},
		{name: "crc-32/mef", width: 32, poly: 0x741b8cd7, init: 0xffffffff, refIn: true, refOut: true},
		{name: "crc-32/mpeg-2", width: 32, poly: 0x4c11db7, init: 0xffffffff},
		{name: "crc-32/xfer", width: 32, poly: 0xaf},
	}
}

// above32 returns those of 40 and 64 bits.
func above32() []model {
	return []model{
		{name: "crc-40/gsm", width: 40, poly: 0x4820009, xorOut: 0xffffffffff},
		{name: "crc-64/ecma-182", width: 64, poly: 0x42f0e1eba9ea3693, aliases: []string{"crc-64"}},
		{name: "crc-64/go-iso", width: 64, poly: 0x1b, init: 0xffffffffffffffff, refIn: true, refOut: true, xorOut: 0xffffffffffffffff},
		{name: "crc-64/ms", width: 64, poly: 0x259c84cba6426349, init: 0xffffffffffffffff, refIn: true, refOut: true},
		{name: "crc-64/redis", width: 64, poly: 0xad93d23594c935a9, refIn: true, refOut: true},
		{name: "crc-64/we", width: 64, poly: 0x42f0e1eba9ea3693, init: 0xffffffffffffffff, xorOut: 0xffffffffffffffff},
		{name: "crc-64/xz", width: 64, poly: 0x42f0e1eba9ea3693, init: 0xffffffffffffffff, refIn: true, refOut: true, xorOut: 0xffffffffffffffff, aliases: []string{"crc-64/go-ecma"}},
	}
}
