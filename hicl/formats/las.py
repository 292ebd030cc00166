"""LAS and LAZ: surveyors' programs, QGIS, CloudCompare, PDAL.

Version 1.4, point format 7. Classes have the codes from 64 on, which are the user's own, and their names stand in the
Classification Lookup record; 1 is unclassified. Source: ASPRS, LAS Specification 1.4 - R15, tables 17 and 24.
"""

import unicodedata
from pathlib import Path
from types import ModuleType

import numpy as np

from hicl.clouds import corners
from hicl.errors import HiclError
from hicl.files import replacing
from hicl.formats.labelled import Labelled

FIRST_OWN, UNCLASSIFIED = 64, 1
_MOST = 256 - FIRST_OWN
_STEP = 1e-4  # metres: what coordinates are rounded to; 32 bits of it reach 214 km
_LONGEST = 15  # bytes of a class' name


def laspy() -> ModuleType:
    """The package. Raises `HiclError` where it isn't installed."""
    try:
        import laspy
    except ImportError:
        raise HiclError("LAS and LAZ need laspy; install it with `pip install 'hicl[las]'`") from None
    return laspy


def write(path: Path, labelled: Labelled) -> None:
    """Coordinates in metres, colours in 16 bits, `classification`; `instance` and `score` as extra dimensions where
    they are known. Faces have no place there. Raises `HiclError` for more than 192 classes, or more than 214 km."""
    las, cloud, names = laspy(), labelled.cloud, labelled.classes
    if len(names) > _MOST:
        raise HiclError(f"-o {path}: {len(names)} classes; LAS has codes for {_MOST} of one's own, write a .ply")
    low, high = corners(cloud.xyz)
    if (high - low).max() >= _STEP * (1 << 31):
        raise HiclError(f"-o {path}: more than {_STEP * (1 << 31) / 1000:.0f} km across; cut strays, or write a .ply")
    header = las.LasHeader(point_format=7, version="1.4")
    header.scales, header.offsets = np.full(3, _STEP), cloud.origin + np.floor(low)
    header.generating_software = "hicl"
    known = {"score": (labelled.score, np.float32), "instance": (labelled.instance, np.int32)}
    extra = {name: (value, kind) for name, (value, kind) in known.items() if value is not None}
    header.add_extra_dims([las.ExtraBytesParams(name=name, type=kind) for name, (_, kind) in extra.items()])
    lookup = las.vlrs.known.ClassificationLookupVlr()
    for number, name in enumerate(names):
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        lookup[FIRST_OWN + number] = plain[:_LONGEST]
    header.vlrs.append(lookup)
    record = las.LasData(header)
    record.xyz = cloud.xyz.astype(np.float64) + cloud.origin
    for column, name in enumerate(("red", "green", "blue")):
        record[name] = cloud.rgb[:, column].astype(np.uint16) * 257
    record.classification = np.where(labelled.named, labelled.label + np.uint16(FIRST_OWN), UNCLASSIFIED).astype("u1")
    for name, (value, _) in extra.items():
        record[name] = value
    with replacing(path) as temporary, open(temporary, "wb") as file:
        record.write(file, do_compress=path.suffix.lower() == ".laz")
