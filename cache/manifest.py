"""`manifest.parquet`: a row a scene, for finding scenes without opening them."""

import io
from pathlib import Path
from typing import Any

from hicl.cache.names import assert_plain, item_name
from hicl.cache.schema import MAX_ITEMS
from hicl.errors import HiclError

FILE = "manifest.parquet"
COMPLETE, STALE, FAILED = "complete", "stale", "failed"
COUNTS = ("points", "frames", "pairs", "sets")
_STAGES = ("points", "views", "sets", "features", "labels", "text")


def _schema(grouped: bool) -> Any:
    import pyarrow as pa

    columns = [("scene", pa.string()), ("split", pa.string()), ("state", pa.string()), ("error", pa.string())]
    columns += [("items", pa.int64())] if grouped else []
    columns += [(name, pa.int64()) for name in (*COUNTS, "skipped_frames", "bytes")]
    columns += [(f"{stage}_fingerprint", pa.string()) for stage in _STAGES]
    return pa.schema(columns)


def row(
    scene: str,
    split: str,
    state: str,
    attributes: dict | None,
    size: int = 0,
    error: str = "",
    grouped: bool = False,
) -> dict:
    """A manifest row from the attributes of a scene, or of a group (None where nothing is published)."""
    attributes = attributes or {}
    stages, items = attributes.get("stages", {}), attributes.get("items", [] if grouped else [attributes])
    return {
        "scene": scene,
        "split": split,
        "state": state,
        "error": error,
        **({"items": len(items)} if grouped else {}),
        **{name: sum(item.get("counts", {}).get(name, 0) for item in items) for name in COUNTS},
        "skipped_frames": sum(len(item.get("skipped", {})) for item in items),
        "bytes": size,
        **{f"{stage}_fingerprint": stages.get(stage, "") for stage in _STAGES},
    }


def fingerprints(row: dict) -> dict[str, str]:
    """Fingerprint of each stage, and of the text, in a row."""
    return {stage: row[f"{stage}_fingerprint"] for stage in _STAGES}


def scenes(row: dict) -> list[str]:
    """Ids of the scenes that a row tells of: one, or those of a group."""
    return [item_name(row["scene"], number) for number in range(row["items"])] if "items" in row else [row["scene"]]


def encode(rows: list[dict]) -> bytes:
    """The file, of rows in order of the scenes' names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    schema = _schema("items" in rows[0] if rows else False)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, compression="zstd")
    return file.getvalue()


def parse(content: bytes | None, cache: str | Path) -> list[dict]:
    """All rows of a cache's manifest. Raises `HiclError` if it is missing or not ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = f"{cache}/{FILE}"
    if content is None:
        raise HiclError(f"{path}: missing; {cache} is not a cache, or its first `hicl preprocess` never finished")
    try:
        # Not read_table: it starts threads, and a process that ends right after it is now and then aborted.
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        table.validate(full=True)
        schema = _schema("items" in table.schema.names)
        if table.schema.names == schema.names:
            rows = table.cast(schema).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HiclError(f"{path}: not a readable Parquet file ({reason}); `hicl preprocess` writes it anew") from None
    if table.schema.names != schema.names:
        raise HiclError(f"{path}: columns {table.schema.names}; written by another version of hicl")
    for found in rows:
        assert_plain(found["scene"], path)
        if None in found.values():
            raise HiclError(f"{path}: scene {found['scene']} lacks values; `hicl preprocess` writes it anew")
        if not 0 <= found.get("items", 0) <= MAX_ITEMS:
            raise HiclError(f"{path}: {found['items']} scenes in {found['scene']}; `hicl preprocess` writes it anew")
    return rows
