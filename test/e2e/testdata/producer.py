"""Writes ten events as the reference architecture has them, and a record that is none."""
import json
import sys
from datetime import datetime

from kafka import KafkaProducer

brokers, topic, device = sys.argv[1:]
producer = KafkaProducer(
    bootstrap_servers=brokers,
    key_serializer=str.encode,
    value_serializer=lambda v: v if isinstance(v, bytes) else json.dumps(v).encode(),
)
sent = []
for n in range(10):
    event = {
        "device_id": device,
        "timestamp": datetime.utcnow().isoformat(),
        "data": {"temperature": 20.5 + n, "vibration": n, "status": "ok"},
    }
    sent.append(producer.send(topic, key=device, value=event))
sent.append(producer.send(topic, key="garbage", value=("this is no event of " + device).encode()))
producer.flush(20)
for future in sent:
    future.get(timeout=20)
