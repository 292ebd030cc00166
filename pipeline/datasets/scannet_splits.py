"""ScanNet's splits: the official one, and lists of scans that lie beside the scans."""

import re
from collections.abc import Collection
from pathlib import Path

from hicl.errors import HiclError

# The official v2 split is by room, so the validation split's 312 scans are the scans of these rooms; rooms from 707 on
# are the 100 test scans, all others train (ScanNet/ScanNet Tasks/Benchmark/scannetv2_{train,val,test}.txt).
_VAL_ROOMS = frozenset((
    11, 15, 19, 25, 30, 46, 50, 63, 64, 77, 81, 84, 86, 88, 95, 100, 131, 139, 144, 146, 149, 153, 164, 169, 187, 193,
    196, 203, 207, 208, 217, 221, 222, 231, 246, 249, 251, 256, 257, 277, 278, 300, 304, 307, 314, 316, 328, 329, 334,
    338, 342, 343, 351, 353, 354, 355, 356, 357, 377, 378, 382, 389, 406, 412, 414, 423, 426, 427, 430, 432, 435, 441,
    458, 461, 462, 474, 488, 490, 494, 496, 500, 518, 527, 535, 549, 550, 552, 553, 558, 559, 565, 568, 574, 575, 578,
    580, 583, 591, 593, 595, 598, 599, 606, 607, 608, 609, 616, 618, 621, 629, 633, 643, 644, 645, 647, 648, 651, 652,
    653, 655, 658, 660, 663, 664, 665, 670, 671, 678, 684, 685, 686, 689, 690, 693, 695, 696, 697, 699, 700, 701, 702,
    704,
))  # fmt: skip
_FIRST_TEST_ROOM = 707
SCENE_NAME = re.compile(r"(?<![a-z0-9])scene[0-9]{4}_[0-9]{2}(?![0-9])")


def official_split(scene: str) -> str:
    """train, val or test for a ScanNet scene name, by the official lists; `HiclError` for any other name."""
    match = SCENE_NAME.fullmatch(scene)
    if not match:
        raise HiclError(f"{scene}: not a ScanNet scene name (sceneNNNN_NN)")
    room = int(match[0][5:9])
    return "test" if room >= _FIRST_TEST_ROOM else "val" if room in _VAL_ROOMS else "train"


def splits_of(root: Path, split: str | None, scans: Collection[str]) -> tuple[dict[str, str], int]:
    """(split of each scan that belongs to one asked for, how many scans of that split are not there).

    split: a name with a list `scannetv2_<split>.txt` in ROOT, ROOT/splits or ROOT/Tasks/Benchmark, else train, val or
    test by the official lists; None: whatever is there. scans: names of the scans below ROOT. Raises `HiclError` for a
    split that nothing knows, or that is empty.
    """
    lists = _split_lists(root)
    if split is None:
        in_lists = {known: set(read_split(path)) for known, path in lists.items()}
        split_of = {name: _split_of(name, in_lists) for name in scans}
        missing = 0
    elif split in lists:
        names = read_split(lists[split])
        split_of = {name: split for name in names if name in scans}
        missing = len(set(names) - set(scans))
    elif split in ("train", "val", "test"):
        split_of = {name: split for name in scans if official_split(name) == split}
        missing = {"train": 1201, "val": 312, "test": 100}[split] - len(split_of)
    else:
        known = ", ".join(sorted({*lists, "train", "val", "test"}))
        raise HiclError(f"{root}: no split {split!r}; known are {known}, others need {root}/scannetv2_{split}.txt")
    if not split_of:
        raise HiclError(f"{root}: split {split!r} is empty: none of its scans are there ({len(scans)} others are)")
    return split_of, missing


def _split_lists(root: Path) -> dict[str, Path]:
    """The lists there are, by split; of two for one split, the one that lies nearer to the root."""
    return {
        path.stem.removeprefix("scannetv2_"): path
        for parent in (root / "Tasks" / "Benchmark", root / "splits", root)
        for path in sorted(parent.glob("scannetv2_*.txt"))
    }


def read_split(path: Path) -> list[str]:
    """Names of the scans in a list: one a line, bare or in a path, # for comments. Raises `HiclError`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HiclError(f"{path}: split list can't be read ({error})") from None
    names: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        found = SCENE_NAME.findall(line.split("#")[0])
        if not found and line.split("#")[0].strip():
            raise HiclError(f"{path}: line {number}, {line.strip()[:80]!r}, names no scan (sceneNNNN_NN)")
        names |= dict.fromkeys(found)
    return list(names)


def _split_of(name: str, lists: dict[str, set[str]]) -> str:
    return next((split for split, names in lists.items() if name in names), None) or official_split(name)
