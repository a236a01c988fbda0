"""MPEG-TS packets (ISO/IEC 13818-1, 2.4.3): files that form one stream when they are read one after another.

Each elementary stream counts its packets with payload modulo 16 (the continuity counter). A file in which every such
count is a multiple of 16 ends where every other file of this kind begins, whoever wrote it.
"""

from __future__ import annotations

from collections import Counter

PACKET, CYCLE = 188, 16  # bytes of a packet; period of the counter
TABLES = (0, 4096)  # stream identifiers of the tables that FFmpeg writes: program association and program map
SERVICES = 17  # and of the table of service names, which no player of a single program needs


def whole_cycles(data: bytes) -> bytes:
    """The same stream with a multiple of 16 packets for each identifier, counted from 0.

    Tables are repeated; a packet of the video is split, because every other packet with payload would add to it.
    """
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    packets = [packet for packet in packets if _stream(packet) != SERVICES]
    for stream, count in Counter(_stream(packet) for packet in packets if _has_payload(packet)).items():
        own = [n for n, packet in enumerate(packets) if _stream(packet) == stream and _has_payload(packet)]
        missing = -count % CYCLE
        if stream in TABLES:
            packets += [packets[own[-1]]] * missing
        else:
            largest = max(own, key=lambda n: PACKET - _payload_start(packets[n]))
            packets[largest : largest + 1] = _split(packets[largest], missing)
    counted, out = Counter[int](), bytearray()
    for packet in packets:
        stream = _stream(packet)
        counted[stream] += _has_payload(packet)
        out += packet[:3] + bytes([packet[3] & 0xF0 | (counted[stream] - 1) % CYCLE]) + packet[4:]
    return bytes(out)


def _stream(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def _has_payload(packet: bytes) -> bool:
    return bool(packet[3] & 0x10)


def _payload_start(packet: bytes) -> int:
    return 5 + packet[4] if packet[3] & 0x20 else 4


def _split(packet: bytes, more: int) -> list[bytes]:
    """The packet as 1 + more packets: the last `more` bytes of its payload get one each."""
    start, cut = _payload_start(packet), PACKET - more
    head, rest = packet[:3], bytes([packet[0], packet[1] & ~0x40, packet[2]])  # 0x40: a unit starts in it
    pieces = [_packet(rest, b"", packet[at : at + 1]) for at in range(cut, PACKET)]
    return [_packet(head, packet[5:start], packet[start:cut]), *pieces]


def _packet(head: bytes, adaptation: bytes, payload: bytes) -> bytes:
    """adaptation: its field without the length, which is padded with stuffing bytes."""
    room = PACKET - 4 - len(payload)
    if not room:
        return head + b"\x10" + payload
    field = (adaptation or b"\0")[: room - 1].ljust(room - 1, b"\xff")
    return head + bytes([0x30, room - 1]) + field + payload
