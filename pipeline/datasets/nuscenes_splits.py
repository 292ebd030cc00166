"""nuScenes' official splits, and those that a user lists in `<version>/splits.json`.

Source: the numbers of the scenes are those of nutonomy/nuscenes-devkit, python-sdk/nuscenes/utils/splits.py.
"""

from collections.abc import Sequence
from pathlib import Path

from hicl.errors import HiclError
from hicl.read import read_json

_SCENES = {
    "train": """
        1-2 4-11 19-34 41-76 120-135 138-139 149-152 154-155 157-168 170-185 187-188 190-196 199-200 202-204
        206-214 218-220 222 224-264 283-306 315-318 321 323-324 328 347-386 388-403 405-408 410-459 461-465
        467-469 471-472 474-480 499-502 504-515 517-518 525-539 541-546 566 568 570-578 580 582-600 639-679 681
        683-689 695-698 700-701 703-719 726-728 730-731 733-741 744 746-747 749-752 757-765 767-769 786-787
        789-792 803-806 808-813 815-817 819-822 847-856 858 860-866 868-873 875-878 880 882-903 945 947 949
        952-953 955-961 975-984 988-992 994-1025 1044-1058 1074-1102 1104-1110
    """,
    "val": """
        3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771
        775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073
    """,
    "test": """
        77-91 111-119 140 142-148 265-266 279-282 307-314 333-343 481-498 547-551 601-604 606-624 827-831
        833-842 844-846 932-933 935-943 1026-1043
    """,
    "mini_train": """
        61 553 655 757 796 1077 1094 1100
    """,
    "mini_val": """
        103 916
    """,
}


def official(split: str) -> list[str]:
    """Names of the scenes of an official split."""
    names = []
    for part in _SCENES[split].split():
        first, _, last = part.partition("-")
        names += [f"scene-{number:04}" for number in range(int(first), int(last or first) + 1)]
    return names


def split_of(folder: Path, scenes: Sequence[str], split: str | None) -> dict[str, str]:
    """The split of each of a version's scenes that is in one, of those in `split` alone where it is given.

    folder: of the version; `splits.json` there, if it is there, maps names of splits to lists of scenes and goes before
    the official lists. The two scenes of v1.0-mini's split mini_val are its val, the others its train.

    Raises `HiclError` for a split that has no list, or no scene.
    """
    lists = {name: official(name) for name in _SCENES}
    own = _own_lists(folder / "splits.json")
    if split is not None:
        chosen = (lists | own).get(split)
        if chosen is None:
            known = ", ".join(lists | own)
            raise HiclError(f"--split {split}: unknown; known are {known}, and what {folder}/splits.json lists")
        there = set(chosen).intersection(scenes)
        if not there:
            raise HiclError(f"--split {split}: none of its {len(chosen)} scenes is among the {len(scenes)} of {folder}")
        name = split if split in own else split.removeprefix("mini_")
        return {scene: name for scene in scenes if scene in there}
    names = ("mini_train", "mini_val") if folder.name.endswith("mini") else ("train", "val", "test")
    found = {scene: name.removeprefix("mini_") for name in names for scene in lists[name]}
    found |= {scene: name for name, listed in own.items() for scene in listed}
    return {scene: found[scene] for scene in scenes if scene in found}


def _own_lists(path: Path) -> dict[str, list[str]]:
    try:
        lists = read_json(path)
    except FileNotFoundError:
        return {}
    if not isinstance(lists, dict) or not all(
        isinstance(scenes, list) and all(isinstance(scene, str) for scene in scenes) for scenes in lists.values()
    ):
        raise HiclError(f"{path}: expected names of splits, each with a list of names of scenes")
    return lists
