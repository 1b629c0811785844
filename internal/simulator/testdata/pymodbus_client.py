"""Reads and writes a simulated device with pymodbus: argument 1 is host:port or the path of a tty."""
import struct
import sys

from pymodbus.client import ModbusSerialClient, ModbusTcpClient

where = sys.argv[1]
if where.startswith("/"):
    client = ModbusSerialClient(where, baudrate=9600, parity="N", stopbits=1, timeout=3)
else:
    host, port = where.rsplit(":", 1)
    client = ModbusTcpClient(host, port=int(port), timeout=3)
assert client.connect(), "connect"


def ok(reply):
    assert not reply.isError(), reply
    return reply


assert ok(client.read_input_registers(0, 1, slave=1)).registers == [4711]
words = list(struct.unpack(">HH", struct.pack(">f", 21.5)))
ok(client.write_registers(10, words, slave=1))
assert ok(client.read_holding_registers(10, 2, slave=1)).registers == words
ok(client.write_coil(3, True, slave=1))
assert ok(client.read_coils(3, 1, slave=1)).bits[0]
ok(client.write_coils(3, [False], slave=1))
assert not ok(client.read_coils(3, 1, slave=1)).bits[0]
ok(client.write_register(10, 7, slave=1))
assert ok(client.read_holding_registers(10, 1, slave=1)).registers == [7]
wrong = client.read_holding_registers(999, 1, slave=1)
assert wrong.isError() and wrong.exception_code == 2, wrong
print("ok")
