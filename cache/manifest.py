"""`manifest.parquet`: a row a scene, for finding scenes without opening them."""

import os
from pathlib import Path

from hicl.errors import HiclError

FILE = "manifest.parquet"
COMPLETE, STALE, FAILED = "complete", "stale", "failed"
COUNTS = ("points", "frames", "pairs", "sets")
_STAGES = ("points", "views", "sets", "features", "labels", "text")


def _schema():
    import pyarrow as pa

    columns = [("scene", pa.string()), ("split", pa.string()), ("state", pa.string()), ("error", pa.string())]
    columns += [(name, pa.int64()) for name in (*COUNTS, "skipped_frames", "bytes")]
    columns += [(f"{stage}_fingerprint", pa.string()) for stage in _STAGES]
    return pa.schema(columns)


def row(scene: str, split: str, state: str, attributes: dict | None, size: int = 0, error: str = "") -> dict:
    """A manifest row from a scene's attributes (None where nothing is published)."""
    attributes = attributes or {}
    counts, stages = attributes.get("counts", {}), attributes.get("stages", {})
    return {
        "scene": scene,
        "split": split,
        "state": state,
        "error": error,
        **{name: counts.get(name, 0) for name in COUNTS},
        "skipped_frames": len(attributes.get("skipped", {})),
        "bytes": size,
        **{f"{stage}_fingerprint": stages.get(stage, "") for stage in _STAGES},
    }


def write(cache: Path, rows: list[dict]) -> None:
    """Replace the manifest in one step, rows in order of the scenes' names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(sorted(rows, key=lambda r: r["scene"]), schema=_schema())
    temporary = cache / f".{FILE}"
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, cache / FILE)


def read(cache: Path) -> list[dict]:
    """All rows. Raises `HiclError` if the manifest is missing or not ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = cache / FILE
    if not path.exists():
        raise HiclError(f"{path}: missing; {cache} is not a cache, or its first `hicl preprocess` never finished")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise HiclError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    if table.schema.names != _schema().names:
        raise HiclError(f"{path}: columns {table.schema.names}; written by another version of hicl")
    return table.to_pylist()
