"""Class lists, as files and command lines have them."""

import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hicl.cache.schema import MAX_CLASSES
from hicl.errors import HiclError


@dataclass(frozen=True)
class ClassList:
    """Classes in label order. prompts[c]: what is put into the templates for class c, its name and its synonyms; what
    stands in double quotes is a description, taken as it is. folded: (place of a class, prompts) of words that are
    scored on their own and count as that class; as none where the place is the number of classes."""

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    folded: tuple[tuple[int, tuple[str, ...]], ...] = ()

    @staticmethod
    def of(names: tuple[str, ...]) -> "ClassList":
        return ClassList(tuple(names), tuple((name,) for name in names))


MOST_WORDS = 65_535  # a label is at most a uint16

# What is a file's name and not a class's: a path from the root, here or home, or an ending that lists have.
_FILE = re.compile(
    r"(?s)(/|\.{1,2}/|~).*|[^,]*\.(txt|csv|tsv|json|ya?ml|toml|names|list|labels|md|ini|cfg|xml)", re.IGNORECASE
)
_WORD = re.compile(r'\s*"[^"]*"\s*(?=,|$)|[^,]+')
_PART = re.compile(r'(?:"[^"]*"|[^|])+')
_CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # some scripts spell with them


def read_classes(path: Path, most: int = MAX_CLASSES) -> ClassList:
    """A text file with a class a line, synonyms behind commas (`sofa, couch`), # for comments. Behind the name there
    may be descriptions too: sentences in double quotes, commas and all (`sofa, "a soft, low seat for several people"`).

    What stands behind a | is scored on its own and counts as the class (`bed | pillow | blanket, quilt`): a word for
    something else that belongs to it, which would only blur a mean. Behind a | without a class before it, it counts as
    none: what it fits best gets no label (`| ceiling | lamp`).

    Raises `HiclError` if it can't be read, is empty, repeats a name, holds a control character or has more than `most`
    classes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HiclError(f"{path}: class list can't be read ({error})") from None
    lines = [line.split("#")[0].strip() for line in text.split("\n")]  # splitlines would cut at control characters too
    prompts: list[tuple[str, ...]] = []
    folded, none = [], []
    for line in lines:
        split = (tuple(word.strip() for word in _WORD.findall(part) if word.strip()) for part in _PART.findall(line))
        parts = [words for words in split if words]
        if line.startswith("|"):
            none += parts
        elif parts:
            folded += [(len(prompts), words) for words in parts[1:]]
            prompts.append(parts[0])
    folded += [(len(prompts), words) for words in none]
    return _checked(tuple(prompts), most - bool(none), str(path), "write one a line", tuple(folded))


def parse_classes(text: str, most: int = MAX_CLASSES) -> ClassList:
    """Classes from a command line: names behind commas (`chair, table, potted plant`), or a file of `read_classes`.

    Raises `HiclError` for no name at all, one given twice, or more than `most`.
    """
    if os.path.isfile(text):  # pathlib's raises where a list is longer than a file's name may be
        return read_classes(Path(text), most)
    if _FILE.fullmatch(text.strip()):
        raise HiclError(f"{text}: {'is a folder' if os.path.isdir(text) else 'no such file'}")
    return _checked(tuple((word.strip(),) for word in text.split(",") if word.strip()), most, "--classes", "name them")


def _checked(
    prompts: tuple[tuple[str, ...], ...],
    most: int,
    where: str,
    hint: str,
    folded: tuple[tuple[int, tuple[str, ...]], ...] = (),
) -> ClassList:
    for word in (word for words in (*prompts, *(words for _, words in folded)) for word in words):
        if control := next(
            (sign for sign in word if unicodedata.category(sign) in _CONTROL and sign not in _JOINERS), ""
        ):
            name = unicodedata.name(control, "control character")
            raise HiclError(f"{where}: class {word!r} holds U+{ord(control):04X} ({name}); take it out")
    names = tuple(words[0] for words in prompts)
    if described := next((name for name in names if name.startswith('"') and name.endswith('"')), None):
        raise HiclError(f"{where}: {described} is a description; put the class's name before it")
    if not 0 < len(names) <= most:
        raise HiclError(f"{where}: {len(names)} classes; {hint}, 1 to {most} of them")
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated:
        raise HiclError(f"{where}: class {repeated!r} stands there twice")
    return ClassList(names, prompts, folded)
