"""Kernels of `hicl.pipeline.datasets.tables`: where the values of a JSON table stand, byte by byte."""

import numpy as np

from hicl.pipeline.kernels import kernel

OPEN, FIRST, ROW, NEXT, CLOSED = 0, 1, 2, 3, 4
"""What comes next in a list of rows: its bracket, a first row or the end, a comma or the end, a row, nothing."""

SHORT, BROKEN = -1, -2  # a value goes on past the bytes at hand; no value

_QUOTE, _BACKSLASH, _COMMA, _COLON = 34, 92, 44, 58
_LIST, _LIST_END, _OBJECT, _OBJECT_END = 91, 93, 123, 125
_ONES, _HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_PLACES = np.uint64(0x0001020304050607)  # times 1 << 8 k it has k in its highest byte
_TO_BRACKET = np.uint64(0x2525252525252525)  # what an opening bracket lacks to 128, in each byte


@kernel
def _at(data, place):
    """data[place]. As a number without a sign it needn't be asked whether it is counted from the end."""
    return data[np.uint64(place)]


@kernel
def _past_space(data, at, end):
    while at < end and (_at(data, at) == 32 or _at(data, at) == 10 or _at(data, at) == 13 or _at(data, at) == 9):
        at += 1
    return at


@kernel
def _word(data, at):
    """Eight bytes as one number, the first in its lowest bits."""
    word = np.uint64(0)
    for c in range(8):
        word |= np.uint64(_at(data, at + c)) << np.uint64(8 * c)
    return word


@kernel
def _holds(word, sign):
    """The highest bit of each byte that is the sign; of those behind the first perhaps also of another byte."""
    differing = word ^ (_ONES * np.uint64(sign))
    return (differing - _ONES) & ~differing & _HIGH


@kernel
def _first(high):
    """Which byte is the first to have its highest bit, the only bits that are set."""
    return np.int64((((high & (~high + np.uint64(1))) >> np.uint64(7)) * _PLACES) >> np.uint64(56))


@kernel
def _skipped(data, at, end, brackets):
    """From `at` on, the next quote, or backslash or, with `brackets`, what may be a bracket; or fewer than 8 bytes
    before the end."""
    while at + 8 <= end:
        word = _word(data, at)
        other = ((word & ~_HIGH) + _TO_BRACKET) & _HIGH if brackets else _holds(word, _BACKSLASH)
        high = _holds(word, _QUOTE) | other
        if high:
            return at + _first(high)
        at += 8
    return at


@kernel
def _past_string(data, at, end, escaped):
    """Behind the string that begins at the quote `at`, or SHORT; escaped b1 [1] is set if there is a backslash."""
    at += 1
    while at < end:
        at = _skipped(data, at, end, False)
        if at >= end:
            return SHORT
        if _at(data, at) == _QUOTE:
            return at + 1
        if _at(data, at) == _BACKSLASH:
            escaped[0] = True
            at += 1
        at += 1
    return SHORT


@kernel
def _past_value(data, at, end, escaped):
    """Behind the value that begins at `at`, SHORT or BROKEN. Of a list or an object only strings and depth are seen."""
    first = _at(data, at)
    if first == _QUOTE:
        return _past_string(data, at, end, escaped)
    if first == _LIST or first == _OBJECT:
        depth = 0
        while at < end:
            at = _skipped(data, at, end, True)
            if at >= end:
                return SHORT
            sign = _at(data, at)
            if sign == _QUOTE:
                at = _past_string(data, at, end, escaped)
                if at < 0:
                    return SHORT
                continue
            depth += np.int64(sign == _LIST or sign == _OBJECT) - np.int64(sign == _LIST_END or sign == _OBJECT_END)
            at += 1
            if depth == 0:
                return at
        return SHORT
    begin = at
    while at < end:
        sign = _at(data, at)
        if sign == _COMMA or sign == _OBJECT_END or sign == _LIST_END or sign <= 32:
            return at if at > begin else BROKEN
        if sign == _COLON or sign == _QUOTE or sign == _LIST or sign == _OBJECT:
            return BROKEN
        at += 1
    return SHORT


@kernel
def _same(first, begin, end, second, own):
    """Whether first[begin:end] is what second has from `own` on."""
    differ = np.uint8(0)
    for c in range(end - begin):
        differ |= _at(first, begin + c) ^ _at(second, own + c)
    return differ == 0


@kernel
def _field(data, begin, end, keys, bounds, escaped):
    """Which of the wanted keys stands at data[begin:end]; -1: none, BROKEN: one that is written with escapes."""
    if escaped[0]:
        for at in range(begin, end):
            if _at(data, at) == _BACKSLASH:
                return BROKEN
    for f in range(len(bounds) - 1):
        if end - begin == bounds[f + 1] - bounds[f] and _same(data, begin, end, keys, bounds[f]):
            return f
    return -1


@kernel
def _past_row(data, at, end, keys, bounds, span, escaped):
    """Behind the object that begins at `at`, SHORT or BROKEN; span i8 [F, 2] gets where the wanted values stand."""
    span[:] = -1
    at = _past_space(data, at + 1, end)
    if at < end and _at(data, at) == _OBJECT_END:
        return at + 1
    while True:
        if at >= end:
            return SHORT
        if _at(data, at) != _QUOTE:
            return BROKEN
        key = at + 1
        at = _past_string(data, at, end, escaped)
        if at < 0:
            return SHORT
        f = _field(data, key, at - 1, keys, bounds, escaped)
        if f == BROKEN:
            return BROKEN
        at = _past_space(data, at, end)
        if at >= end:
            return SHORT
        if _at(data, at) != _COLON:
            return BROKEN
        at = _past_space(data, at + 1, end)
        if at >= end:
            return SHORT
        value = at
        at = _past_value(data, at, end, escaped)
        if at < 0:
            return at
        if f >= 0:
            span[f, 0], span[f, 1] = value, at
        at = _past_space(data, at, end)
        if at >= end:
            return SHORT
        if _at(data, at) == _OBJECT_END:
            return at + 1
        if _at(data, at) != _COMMA:
            return BROKEN
        at = _past_space(data, at + 1, end)


@kernel
def scan(data, end, state, keys, bounds, spans, escaped):
    """Find the rows in data u1, up to `end`, of a JSON list of objects.

    state: what comes next there. keys u1, bounds i8 [F + 1]: the wanted fields' names, one behind the other. spans
    i8 [R, F, 2] gets where their values stand, -1 where a row has none; escaped b1 [1] is set if any string holds a
    backslash. Returns (rows found, bytes that are done with,
    what comes next, why it stopped: 0 at the end of the bytes or of the room, SHORT within a row, BROKEN).
    """
    found, at = 0, 0
    while found < len(spans):
        at = _past_space(data, at, end)
        if at >= end:
            return found, at, state, 0
        sign = _at(data, at)
        if state == OPEN and sign == _LIST:
            state, at = FIRST, at + 1
        elif (state == FIRST or state == NEXT) and sign == _OBJECT:
            past = _past_row(data, at, end, keys, bounds, spans[found], escaped)
            if past < 0:
                return found, at, state, past
            state, at, found = ROW, past, found + 1
        elif state == ROW and sign == _COMMA:
            state, at = NEXT, at + 1
        elif (state == ROW or state == FIRST) and sign == _LIST_END:
            state, at = CLOSED, at + 1
        else:
            return found, at, state, BROKEN
    return found, at, state, 0


@kernel
def _hash(data, begin, end):
    """FNV-1a of 64 bits, eight bytes at a time where there are as many."""
    value = np.uint64(14695981039346656037)
    at = begin
    while at + 8 <= end:
        word = np.uint64(0)
        for c in range(8):
            word |= np.uint64(_at(data, at + c)) << np.uint64(8 * c)
        value = (value ^ word) * np.uint64(1099511628211)
        value ^= value >> np.uint64(29)
        at += 8
    while at < end:
        value = (value ^ np.uint64(_at(data, at))) * np.uint64(1099511628211)
        at += 1
    return value ^ (value >> np.uint64(32))


@kernel
def _slot(texts, bounds, slots, data, begin, end):
    """Where in slots i4 [2^n] a text is, or would be."""
    mask = np.uint64(len(slots) - 1)
    slot = _hash(data, begin, end) & mask
    while slots[slot] >= 0:
        own = bounds[slots[slot]]
        if bounds[slots[slot] + 1] - own == end - begin and _same(data, begin, end, texts, own):
            return slot
        slot = (slot + np.uint64(1)) & mask
    return slot


@kernel
def enter(texts, bounds, slots):
    """Put texts u1, bounds i8 [M + 1], into a hash table slots i4 [2^n], 2^n > M, all -1. Returns i4 [M]: the first
    that is the same as each."""
    first = np.empty(len(bounds) - 1, np.int32)
    for m in range(len(first)):
        slot = _slot(texts, bounds, slots, texts, bounds[m], bounds[m + 1])
        if slots[slot] < 0:
            slots[slot] = m
        first[m] = slots[slot]
    return first


@kernel
def look_up(texts, bounds, slots, data, spans):
    """i4 [R]: which of the texts stands at each of spans i8 [R, 2] of data u1, the first of equal ones; -1: none."""
    found = np.empty(len(spans), np.int32)
    for r in range(len(spans)):
        found[r] = -1
        if spans[r, 0] >= 0:
            found[r] = slots[_slot(texts, bounds, slots, data, spans[r, 0], spans[r, 1])]
    return found
