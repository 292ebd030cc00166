"""Damage, and harm, done to a file's bytes: drawn at random, the same for the same generator."""

import json
import math
import struct
from collections.abc import Callable

import google_crc32c
import numpy as np
from numcodecs import blosc

NUMBERS = (0, 1, -1, 2, 7, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1, 10**30)
VALUES = (
    *(
        None,
        True,
        False,
        "",
        "x",
        "..",
        "../../x",
        "/etc/passwd",
        "a/b",
        ".hidden",
        "nul\0",
        "line\nbreak",
        "é",
        "\ud800",
    ),
    *(
        "x" * 5000,
        [],
        {},
        [[]],
        [0],
        [-1],
        {"a": 1},
        0.5,
        -0.0,
        1e308,
        math.nan,
        math.inf,
        *NUMBERS,
        *(-n for n in NUMBERS),
    ),
    *("float16", "object", "|O", "<f8", "int64", "nan", "1e999"),
)


def _flip(data: bytearray, rng) -> None:
    for _ in range(int(rng.choice([1, 1, 1, 2, 8]))):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)


def _cut(data: bytearray, rng) -> None:
    del data[rng.integers(len(data) + 1) :]


def _cut_out(data: bytearray, rng) -> None:
    start = rng.integers(len(data))
    del data[start : start + 1 + rng.integers(16)]


def _insert(data: bytearray, rng) -> None:
    where = rng.integers(len(data) + 1)
    data[where:where] = rng.bytes(1 + int(rng.integers(16)))


def _append(data: bytearray, rng) -> None:
    data += rng.bytes(1 + int(rng.integers(200)))


def _repeat(data: bytearray, rng) -> None:
    start = rng.integers(len(data))
    data[start:start] = data[start : start + 1 + rng.integers(64)] * int(rng.choice([1, 2, 50]))


def _number(data: bytearray, rng) -> None:
    """A number of another size, in either order, where one may have been."""
    size = int(rng.choice([1, 2, 4, 8]))
    value = int(rng.choice(np.array(NUMBERS, object))) % (1 << (8 * size))
    start = int(rng.integers(min(len(data), int(rng.choice([64, 4096, 1 << 20])))))
    data[start : start + size] = value.to_bytes(size, rng.choice(["little", "big"]))


def _float(data: bytearray, rng) -> None:
    start = int(rng.integers(len(data)))
    value = float(rng.choice([math.nan, math.inf, -math.inf, 0.0, -1.0, 1e30, 1e-30]))
    data[start : start + 4] = struct.pack("<f", value)


def _zeros(data: bytearray, rng) -> None:
    start = int(rng.integers(len(data)))
    size = int(rng.integers(1, 512))
    data[start : start + size] = bytes([int(rng.choice([0, 255]))]) * len(data[start : start + size])


def _text_number(data: bytearray, rng) -> None:
    """Another number in a text, where there is one."""
    digits = [i for i, byte in enumerate(data[:20_000]) if 48 <= byte <= 57]
    if digits:
        start = end = int(rng.choice(digits))
        while end < len(data) and data[end] in b"0123456789.":
            end += 1
        words = (*map(str, NUMBERS), "-1", "nan", "inf", "1e400", "0.5", "-0", "", "x", "9" * 5000)
        data[start:end] = str(rng.choice(words)).encode()


_BYTES: tuple[Callable, ...] = (
    _flip,
    _flip,
    _cut,
    _cut_out,
    _insert,
    _append,
    _repeat,
    _number,
    _number,
    _float,
    _zeros,
)
_TEXT: tuple[Callable, ...] = (*_BYTES, _text_number, _text_number, _text_number)


def any_bytes(data: bytes, rng) -> bytes:
    return _mutated(data, rng, _BYTES)


def text(data: bytes, rng) -> bytes:
    if rng.random() < 0.03:
        return [b"", b"\xff\xfe", b"\0" * 100, b"[" * 100_000, b"\n" * 1000, b"a" * 100_000][rng.integers(6)]
    return _mutated(data, rng, _TEXT)


def _mutated(data: bytes, rng, ways) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        if changed:
            ways[rng.integers(len(ways))](changed, rng)
    return bytes(changed)


def json_text(data: bytes, rng) -> bytes:
    """Mostly still JSON, of values that nobody expects."""
    if rng.random() < 0.2:
        return text(data, rng)
    tree = json.loads(data)
    for _ in range(int(rng.choice([1, 1, 2]))):
        places = list(_places(tree))
        if not places:
            break
        node, key = places[rng.integers(len(places))]
        _change(node, key, rng)
    if rng.random() < 0.02:
        tree = VALUES[rng.integers(len(VALUES))]
    return json.dumps(tree).encode()


def _places(node):
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _places(node[key])


def _change(node, key, rng) -> None:
    way, old = rng.integers(8), node[key]
    if way == 0:
        del node[key]
    elif way == 1 and isinstance(old, int | float):
        node[key] = old + int(rng.choice([-1, 1, 100]))
    elif way == 2 and isinstance(old, list):
        node[key] = old * 2 if rng.random() < 0.5 else old[:-1]
    elif way == 3:
        node[key] = [old]
    elif way == 4:
        node[key] = {"a": old}
    elif way == 5 and isinstance(node, dict):
        node[str(rng.choice(["x", "", "version", "shape", "a" * 300]))] = old
    elif way == 6 and rng.random() < 0.1:
        deep = old
        for _ in range(900):
            deep = [deep]
        node[key] = deep
    else:
        node[key] = VALUES[rng.integers(len(VALUES))]


def stored_array(data: bytes, rng) -> bytes:
    """A chunk with other content and a checksum that is right: made, not damaged."""
    way, payload = rng.integers(4), data[:-4]
    if way == 0:
        return any_bytes(data, rng)
    packed = len(payload) > 16 and int.from_bytes(payload[12:16], "little") == len(payload)
    if packed and way > 1:
        values = _values(bytearray(blosc.decompress(payload)), rng)
        payload = blosc.compress(values, b"lz4", 5, 1) if values else b""
    elif packed:
        payload = any_bytes(payload, rng)
    else:
        payload = _values(bytearray(payload), rng)
    return payload + struct.pack("<I", google_crc32c.value(payload))


def _values(data: bytearray, rng) -> bytes:
    for _ in range(int(rng.choice([1, 2, 5]))):
        (_flip, _number, _number, _float, _zeros)[rng.integers(5)](data, rng)
    return bytes(data) if rng.random() < 0.9 else bytes(data) * int(rng.choice([2, 0]))


def safetensors(data: bytes, rng) -> bytes:
    """A header that is still one, or any bytes."""
    if rng.random() < 0.4:
        return any_bytes(data, rng)
    size = int.from_bytes(data[:8], "little")
    header = json_text(data[8 : 8 + size], rng)
    length = len(header) if rng.random() < 0.9 else int(rng.choice(np.array(NUMBERS, object))) % (1 << 64)
    return struct.pack("<Q", length) + header + data[8 + size :]
