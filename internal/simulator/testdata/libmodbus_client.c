/* Reads and writes a simulated device with libmodbus: argument 1 is the path of a tty, or an address and argument 2 its port. */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>

static void must(int ok, const char *what) {
	if (!ok) {
		fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
		exit(1);
	}
}

int main(int argc, char **argv) {
	modbus_t *m = argv[1][0] == '/' ? modbus_new_rtu(argv[1], 9600, 'N', 8, 1) : modbus_new_tcp(argv[1], atoi(argv[2]));
	uint16_t r[2], both[2] = {0x1122, 0x3344};
	uint8_t bit;
	must(argc >= 2 && m != NULL, "new");
	must(modbus_set_slave(m, 1) == 0 && modbus_set_response_timeout(m, 3, 0) == 0, "set up");
	must(modbus_connect(m) == 0, "connect");
	must(modbus_read_input_registers(m, 0, 1, r) == 1 && r[0] == 4711, "read input register");
	must(modbus_write_registers(m, 10, 2, both) == 2, "write registers");
	must(modbus_read_registers(m, 10, 2, r) == 2 && r[0] == 0x1122 && r[1] == 0x3344, "read registers");
	must(modbus_write_register(m, 11, 9) == 1, "write register");
	must(modbus_write_and_read_registers(m, 10, 1, both, 10, 2, r) == 2 && r[0] == 0x1122 && r[1] == 9, "write and read");
	must(modbus_mask_write_register(m, 10, 0x00F0, 0x0005) == 1 && modbus_read_registers(m, 10, 1, r) == 1 && r[0] == 0x0025, "mask write");
	must(modbus_write_bit(m, 3, 1) == 1 && modbus_read_bits(m, 3, 1, &bit) == 1 && bit == 1, "coil");
	must(modbus_read_registers(m, 999, 1, r) == -1 && errno == EMBXILADD, "illegal address");
	modbus_close(m);
	modbus_free(m);
	puts("ok");
	return 0;
}
