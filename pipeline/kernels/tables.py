"""Kernels of `hicl.pipeline.datasets.tables`: where the values of a JSON table stand, byte by byte."""

import numpy as np

from hicl.pipeline.kernels import kernel, lowest_bit
from hicl.pipeline.kernels.vectors import differing, equal

OPEN, FIRST, ROW, NEXT, CLOSED = 0, 1, 2, 3, 4
"""What comes next in a list of rows: its bracket, a first row or the end, a comma or the end, a row, nothing."""

_KEYS = 32  # of a row, of which it is remembered what stands between its values
SHORT, BROKEN = -1, -2  # a value goes on past the bytes at hand; no value

_QUOTE, _BACKSLASH, _COMMA, _COLON = (np.uint8(ord(sign)) for sign in '"\\,:')
_LIST, _LIST_END, _OBJECT, _OBJECT_END = (np.uint8(ord(sign)) for sign in "[]{}")


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
def _skipped(data, at, end, brackets):
    """From `at` on, the next quote, or backslash or, with `brackets`, bracket; or fewer than 64 bytes before the data's
    end, or behind `end`."""
    while at < end and at + 64 <= len(data):
        found = equal(data, at, _QUOTE)
        if brackets:
            found |= equal(data, at, _LIST) | equal(data, at, _LIST_END)
            found |= equal(data, at, _OBJECT) | equal(data, at, _OBJECT_END)
        else:
            found |= equal(data, at, _BACKSLASH)
        if found:
            return at + lowest_bit(found)
        at += 64
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
def _key(data, at, end, first, keys, bounds, escaped):
    """(where the value begins, field as of `_field`) of the key that comes from `at` on, behind a comma unless it is a
    row's first; (at, -2) where the row ends there; (SHORT or BROKEN, -1)."""
    at = _past_space(data, at, end)
    if at < end and _at(data, at) == _OBJECT_END:
        return at + 1, -2
    if not first and at < end:
        if _at(data, at) != _COMMA:
            return BROKEN, -1
        at = _past_space(data, at + 1, end)
    if at >= end:
        return SHORT, -1
    if _at(data, at) != _QUOTE:
        return BROKEN, -1
    begin = at + 1
    at = _past_string(data, at, end, escaped)
    if at < 0:
        return SHORT, -1
    f = _field(data, begin, at - 1, keys, bounds, escaped)
    if f == BROKEN:
        return BROKEN, -1
    at = _past_space(data, at, end)
    if at < end:
        if _at(data, at) != _COLON:
            return BROKEN, -1
        at = _past_space(data, at + 1, end)
    return (at, f) if at < end else (SHORT, -1)


@kernel
def _past_row(data, at, end, keys, bounds, span, escaped, before):
    """Behind the object that begins at `at`, SHORT or BROKEN; span i8 [F, 2] gets where the wanted values stand.

    before i8 [_KEYS, 3]: what stood between a row's values the last time: where, how many bytes, and the key's field.
    In most tables it is the same in every row, and then it isn't read again.
    """
    span[:] = -1
    at += 1
    number = 0
    while True:
        place = min(number, _KEYS - 1)
        known, length, f = before[place]
        value = at + length
        same = length > 0 and value < end and at + 64 <= len(data)
        if same:
            same = (differing(data, at, known) << np.uint64(64 - length)) == 0 and _at(data, value) > 32
        if not same:
            value, f = _key(data, at, end, number == 0, keys, bounds, escaped)
            if f == -2 or value < 0:
                return value
            if number < _KEYS - 1 and value - at <= 64:
                before[place, 0], before[place, 1], before[place, 2] = at, value - at, f
        # Plain strings and lists of numbers, as most values are, without a call.
        at, sign, found = value + 1, _at(data, value), np.uint64(0)
        if sign == _QUOTE or sign == _LIST:
            while at + 64 <= len(data) and not found:
                found = equal(data, at, _QUOTE)
                if sign == _QUOTE:
                    found |= equal(data, at, _BACKSLASH)
                else:
                    found |= equal(data, at, _LIST) | equal(data, at, _LIST_END)
                    found |= equal(data, at, _OBJECT) | equal(data, at, _OBJECT_END)
                at += lowest_bit(found) if found else 64
        plain = found and at < end and _at(data, at) == (_QUOTE if sign == _QUOTE else _LIST_END)
        at += 1
        if not plain:
            at = _past_value(data, value, end, escaped)
            if at < 0:
                return at
        if f >= 0:
            span[f, 0], span[f, 1] = value, at
        number += 1


@kernel
def scan(data, end, state, keys, bounds, spans, escaped):
    """Find the rows in data u1, up to `end`, of a JSON list of objects.

    state: what comes next there. keys u1, bounds i8 [F + 1]: the wanted fields' names, one behind the other. spans
    i8 [R, F, 2] gets where their values stand, -1 where a row has none; escaped b1 [1] is set if any string holds a
    backslash. Returns (rows found, bytes that are done with,
    what comes next, why it stopped: 0 at the end of the bytes or of the room, SHORT within a row, BROKEN).
    """
    found, at = 0, 0
    before = np.zeros((_KEYS, 3), np.int64)
    while found < len(spans):
        at = _past_space(data, at, end)
        if at >= end:
            return found, at, state, 0
        sign = _at(data, at)
        if state == OPEN and sign == _LIST:
            state, at = FIRST, at + 1
        elif (state == FIRST or state == NEXT) and sign == _OBJECT:
            past = _past_row(data, at, end, keys, bounds, spans[found], escaped, before)
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
    """(where in slots i8 [2^n] a text is or would be, what is to be there, its number apart): the upper half of the
    hash, so that nearly no other text has to be looked at, and the number in the lower."""
    mask, half = np.uint64(len(slots) - 1), np.uint64(32)
    value = _hash(data, begin, end)
    tag = (value >> half) & np.uint64(0x7FFFFFFF)
    slot = value & mask
    while slots[slot] >= 0:
        held = np.uint64(slots[slot])
        if held >> half == tag:
            own = np.uint64(held & np.uint64(0xFFFFFFFF))
            first = bounds[own]
            if bounds[own + np.uint64(1)] - first == end - begin and _same(data, begin, end, texts, first):
                return slot, tag << half
        slot = (slot + np.uint64(1)) & mask
    return slot, tag << half


@kernel
def enter(texts, bounds, slots):
    """Put texts u1, bounds i8 [M + 1], into a hash table slots i8 [2^n], 2^n > M, all -1. Returns i4 [M]: the first
    that is the same as each."""
    first = np.empty(len(bounds) - 1, np.int32)
    for m in range(len(first)):
        slot, tag = _slot(texts, bounds, slots, texts, bounds[m], bounds[m + 1])
        if slots[slot] < 0:
            slots[slot] = np.int64(tag) | m
        first[m] = slots[slot] & 0xFFFFFFFF
    return first


@kernel
def look_up(texts, bounds, slots, data, spans):
    """i4 [R]: which of the texts stands at each of spans i8 [R, 2] of data u1, the first of equal ones; -1: none."""
    found = np.empty(len(spans), np.int32)
    for r in range(len(spans)):
        found[r] = -1
        if spans[r, 0] >= 0:
            slot, _ = _slot(texts, bounds, slots, data, spans[r, 0], spans[r, 1])
            if slots[slot] >= 0:
                found[r] = slots[slot] & 0xFFFFFFFF
    return found
