"""How an array lies on the disk: one file of its bytes, as they are or packed by Blosc, with their crc32c at its end.

Zarr's API writes it and can read it. It is read here because Zarr would take whatever the metadata name, fill in what
is missing, and ask for as much memory as a file says: a file may be damaged, or made to do harm. So nothing is mapped
or allocated before type and shape are those of the table, and fit the bytes that are there.
"""

import hashlib
import math
import os
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np

from hicl.cache.schema import ArraySpec, assert_shape, chunking, rows
from hicl.errors import HiclError
from hicl.read import opened, read_bytes, read_json

if TYPE_CHECKING:
    import zarr

_LEVELS = {"zstd": 5, "lz4hc": 9}
_CRC = 4  # bytes
_BLOSC_HEADER = 16  # bytes, which a chunk that doesn't shrink is longer by
# What unpacks to more than this and more than so many times its bytes is made to do harm, not by a scanner.
_SMALL, _MOST_TIMES = 1 << 26, 1 << 10
_MOST_METADATA = 1 << 20  # bytes
WAY_OUT = "delete the scene and preprocess again"


class Item(NamedTuple):
    """Which scene of a group, and of how many."""

    number: int
    of: int


def write_array(group: "zarr.Group", name: str, spec: ArraySpec, array: np.ndarray, grouped: bool = False) -> None:
    """An array into a Zarr group. Its settings must have it write chunks of zeros too.

    grouped: whether its first axis counts scenes.
    """
    from zarr.codecs import BloscCodec, Crc32cCodec

    chunks, shards = chunking(spec, array.shape, grouped)
    codec = spec.packed if grouped else spec.codec
    # Neighbouring values share their high bytes: sorted by bytes, those shrink to next to nothing.
    packed = [BloscCodec(cname=codec, clevel=_LEVELS[codec], shuffle="shuffle")] if codec else []
    compressors = [*packed, Crc32cCodec()]
    group.create_array(name, data=array, chunks=chunks, shards=shards, filters=None, compressors=compressors)


def stacked(spec: ArraySpec, arrays: list[np.ndarray]) -> np.ndarray:
    """One array of a group's scenes [I, longest, …], zeros where a scene has fewer rows. Raises `HiclError` where they
    differ in more than that."""
    first = arrays[0]
    if any(array.ndim == 0 or array.shape[1:] != first.shape[1:] or array.dtype != first.dtype for array in arrays):
        found = sorted({f"{array.dtype} {list(array.shape[1:])}" for array in arrays})
        raise HiclError(f"{spec.name}: rows of {' and '.join(found)} in one group")
    whole = np.zeros((len(arrays), max(map(len, arrays)), *first.shape[1:]), first.dtype)
    for place, array in zip(whole, arrays, strict=True):
        place[: len(array)] = array
    return whole


def files_of(spec: ArraySpec, grouped: bool = False) -> tuple[str, str]:
    """Names of an array's two files, below a scene or a group: its metadata and its bytes. An array without rows has no
    second."""
    return f"{spec.name}/zarr.json", "/".join((spec.name, "c", *("0" * (len(spec.shape) + grouped))))


def digest(folder: Path, specs: list[ArraySpec], grouped: bool = False) -> str:
    """Of the stored bytes of arrays in the folder of a scene or a group."""
    total = hashlib.sha256()
    for name in sorted(name for spec in specs for name in files_of(spec, grouped)):
        if (folder / name).exists():
            with open(folder / name, "rb") as file:
                total.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def read_array(
    folder: Path,
    spec: ArraySpec,
    sizes: dict[str, int],
    item: Item | None = None,
    shapes: dict[str, tuple[int, ...]] | None = None,
) -> tuple[np.ndarray, int]:
    """(array, crc32c of its stored bytes) from a scene's folder; mapped into memory where it isn't packed. Read-only.

    sizes: what the letters of `spec.shape` stand for; those that aren't there yet are added, but that of the first axis
    must be there for an item. item: which scene's, where the folder is a group's. shapes: of a group's arrays whose
    metadata were looked at before, as this does. Raises `HiclError`.
    """
    if item is not None:
        return _read_item(folder, spec, sizes, item, {} if shapes is None else shapes)
    metadata, chunk = (folder / name for name in files_of(spec))
    shape, kind = _described(metadata, spec, sizes, None)
    size, dtype = math.prod(shape) * spec.itemsize, np.dtype(spec.dtype)
    if not size:
        array, crc = np.empty(shape, dtype), 0
    elif kind == "plain":
        array, crc = _mapped(chunk, dtype, shape, size)
    else:
        array, crc = _unpacked(chunk, dtype, shape, size, chunking(spec, shape)[1] is not None)
    array.flags.writeable = False
    return array, crc


def _read_item(
    folder: Path, spec: ArraySpec, sizes: dict[str, int], item: Item, shapes: dict[str, tuple[int, ...]]
) -> tuple[np.ndarray, int]:
    metadata, chunk = (f"{folder}/{name}" for name in files_of(spec, grouped=True))  # pathlib takes longer than reading
    shape, n = shapes.get(spec.name), rows(spec, sizes)
    if shape is None or n > shape[1]:
        shape, _ = _described(Path(metadata), spec, sizes, item)
        shapes[spec.name] = shape
    if math.prod(shape):
        array, crc = _read_chunk(chunk, np.dtype(spec.dtype), shape[1:], item)
    else:
        array, crc = np.empty(shape[1:], spec.dtype), 0
    array = array[:n]
    array.flags.writeable = False
    return array, crc


def _described(
    metadata: Path, spec: ArraySpec, sizes: dict[str, int], item: Item | None
) -> tuple[tuple[int, ...], str]:
    """(shape, plain or packed) as an array's zarr.json says. Raises `HiclError` for what the specification hasn't."""
    try:
        meta = read_json(metadata) if metadata.stat().st_size <= _MOST_METADATA else None
    except OSError:  # with a file in a folder's place too
        raise HiclError(f"{metadata}: missing; a cache that lost files: {WAY_OUT}") from None
    shape = _shape(meta, spec, sizes, metadata, item)
    chunks, shard = chunking(spec, shape, item is not None)
    return shape, _storage(meta, chunks, shard, spec, metadata)


def _shape(meta: Any, spec: ArraySpec, sizes: dict[str, int], where: Path, item: Item | None) -> tuple[int, ...]:
    if not isinstance(meta, dict) or (meta.get("zarr_format"), meta.get("node_type")) != (3, "array"):
        raise HiclError(f"{where}: not the metadata of a Zarr v3 array; {WAY_OUT}")
    shape = meta.get("shape")
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise HiclError(f"{where}: no shape of numbers from 0; {WAY_OUT}")
    own = shape
    if item is not None:
        n = rows(spec, sizes)
        if len(shape) < 2 or shape[0] != item.of or shape[1] < n:
            raise HiclError(f"{where}: shape {shape}, expected {item.of} scenes, one of {n} rows; {WAY_OUT}")
        own = [n, *shape[2:]]
    assert_shape(spec, str(meta.get("data_type"))[:40], tuple(own), sizes, str(where))
    return tuple(shape)


def _storage(meta: Any, chunks: tuple, shard: tuple | None, spec: ArraySpec, where: Path) -> str:
    """plain or packed. Raises `HiclError` for any storage but those of the specification."""
    wanted: dict[str, Any] = {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard or chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    }
    codecs = meta.get("codecs")
    if shard:
        inner = _only(codecs, "sharding_indexed")
        wanted |= {"chunk_shape": list(chunks), "index_location": "end"}
        meta = meta | inner
        if _names(inner.get("index_codecs"), 8) != ["bytes", "crc32c"]:
            raise _otherwise(where, "index_codecs")
        codecs = inner.get("codecs")
    for key, value in wanted.items():
        if meta.get(key) != value:
            raise _otherwise(where, key)
    kind = {("bytes", "crc32c"): "plain", ("bytes", "blosc", "crc32c"): "packed"}.get(
        tuple(_names(codecs, spec.itemsize))
    )
    if kind is None or (shard and kind == "plain") or meta.get("storage_transformers"):
        raise _otherwise(where, "codecs")
    return kind


def _otherwise(where: Path, key: str) -> HiclError:
    return HiclError(f"{where}: {key}: stored otherwise than cache/SPEC.md says; {WAY_OUT}")


def _only(codecs: Any, name: str) -> dict:
    """The configuration of the one codec that there is; empty for anything else."""
    match codecs:
        case [{"name": found, "configuration": dict() as configuration}] if found == name:
            return configuration
    return {}


def _names(codecs: Any, itemsize: int) -> list[str]:
    """Names of codecs; none where one isn't a codec, or bytes come in another order."""
    if not isinstance(codecs, list) or not all(isinstance(codec, dict) for codec in codecs):
        return []
    for codec in codecs:
        configuration = codec.get("configuration", {})
        order = configuration.get("endian", "little") if isinstance(configuration, dict) else None
        if codec.get("name") == "bytes" and itemsize > 1 and order != "little":
            return []
    return [str(codec.get("name")) for codec in codecs]


def _mapped(file: Path, dtype: np.dtype, shape: tuple[int, ...], size: int) -> tuple[np.ndarray, int]:
    try:
        about = os.stat(file)
        found = about.st_size if stat.S_ISREG(about.st_mode) else 0
    except OSError:
        found = 0
    if found != size + _CRC:
        raise HiclError(f"{file}: {found} bytes, expected {size + _CRC}; {WAY_OUT}")
    # np.asarray drops the memmap class: its arrays are several times slower to slice.
    whole = np.asarray(np.memmap(file, np.uint8, "r", shape=(found,)))
    return whole[:size].view(dtype).reshape(shape), _checked(whole, file)


def _unpacked(file: Path, dtype: np.dtype, shape: tuple, size: int, sharded: bool) -> tuple[np.ndarray, int]:
    parts = shape[0] if sharded else 1
    most = size + parts * (_BLOSC_HEADER + _CRC) + (16 * parts + _CRC if sharded else 0)
    try:
        data = np.frombuffer(read_bytes(file, most), np.uint8)
    except FileNotFoundError:
        data = np.empty(0, np.uint8)
    except HiclError as error:
        raise HiclError(f"{error}; {WAY_OUT}") from None
    _assert_holds(len(data), size, file)
    if not sharded:
        crc, array = _checked(data, file), np.empty(shape, dtype)
        _unpack(data[:-_CRC], array, file)
        return array, crc
    index = data[-(16 * parts + _CRC) :]
    crc, end = _checked(index, file), len(data) - len(index)
    if len(index) != 16 * parts + _CRC:
        raise HiclError(f"{file}: {len(data)} bytes, damaged; {WAY_OUT}")
    array = np.empty(shape, dtype)
    for part, (offset, length) in zip(array, index[:-_CRC].view("<u8").reshape(-1, 2).tolist(), strict=True):
        _assert_inside(offset, length, end, file)
        chunk = data[offset : offset + length]
        _checked(chunk, file)
        _unpack(chunk[:-_CRC], part, file)
    return array, crc


def _read_chunk(file: str, dtype: np.dtype, shape: tuple[int, ...], item: Item) -> tuple[np.ndarray, int]:
    """One chunk of a shard, of which the rest isn't read."""
    size = math.prod(shape) * dtype.itemsize
    try:
        with opened(file) as (shard, found):
            end = found - (16 * item.of + _CRC)
            if end < 0:
                raise HiclError(f"{file}: {found} bytes, damaged; {WAY_OUT}")
            index = _part(shard, end, found - end)
            _checked(index, file)
            offset, length = index[16 * item.number :][:16].view("<u8").tolist()
            _assert_inside(offset, length, end, file)
            if length > size + _BLOSC_HEADER + _CRC:
                raise HiclError(f"{file}: damaged: {length} bytes for {size}; {WAY_OUT}")
            chunk = _part(shard, offset, length)
    except FileNotFoundError:
        raise HiclError(f"{file}: missing; {WAY_OUT}") from None
    crc = _checked(chunk, file)
    _assert_holds(length, size, file)
    array = np.empty(shape, dtype)
    _unpack(chunk[:-_CRC], array, file)
    return array, crc


def _part(file: BinaryIO, offset: int, length: int) -> np.ndarray:
    """Bytes of a file; fewer where it ends."""
    return np.frombuffer(os.pread(file.fileno(), length, offset), np.uint8)


def _assert_inside(offset: int, length: int, end: int, file: Path | str) -> None:
    if offset + length > end:  # so does a chunk that isn't there
        raise HiclError(f"{file}: damaged: a chunk lies outside it; {WAY_OUT}")


def _assert_holds(packed: int, size: int, file: Path | str) -> None:
    if size > max(_SMALL, _MOST_TIMES * packed):
        raise HiclError(f"{file}: {packed} bytes can't hold the {size} of its shape; {WAY_OUT}")


def _checked(data: np.ndarray, file: Path | str) -> int:
    """The crc32c at the end of stored bytes, uint8 [n], which is theirs."""
    if len(data) < _CRC:
        raise HiclError(f"{file}: {len(data)} bytes, damaged or missing; {WAY_OUT}")
    found, stored = google_crc32c.value(data[:-_CRC]), int.from_bytes(data[-_CRC:].tobytes(), "little")
    if found != stored:
        raise HiclError(f"{file}: damaged: its checksum is {found:08x}, expected {stored:08x}; {WAY_OUT}")
    return stored


def _unpack(data: np.ndarray, array: np.ndarray, file: Path | str) -> None:
    """A chunk of Blosc's. Its header says how many bytes it has and unpacks to; checked before it is touched."""
    from numcodecs import blosc

    try:
        unpacked, _, packed = struct.unpack("<3I", data[4:_BLOSC_HEADER].tobytes())
        if (unpacked, packed) != (array.nbytes, len(data)):
            raise ValueError(f"{len(data)} bytes")
        blosc.decompress(data, array)
    except (struct.error, ValueError, RuntimeError) as error:
        raise HiclError(f"{file}: damaged ({error}); {WAY_OUT}") from None
