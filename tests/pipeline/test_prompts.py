import numpy as np
import pytest

from hicl.errors import HiclError
from hicl.pipeline.classes import ClassList, parse_classes, read_classes
from hicl.pipeline.teacher.prompts import ensemble, fill_templates


def test_85_templates():
    filled = fill_templates("shower curtain")
    assert len(filled) == len(set(filled)) == 85
    assert all("shower curtain" in text and "{" not in text for text in filled)
    # OpenAI's 80 for ImageNet are known by their first, one in the middle and their last.
    assert filled[0] == "a bad photo of a shower curtain."
    assert "itap of my shower curtain." in filled[:80]
    assert filled[79] == "a tattoo of the shower curtain."
    assert filled[80:] == [
        "there is a shower curtain in the scene.",
        "there is the shower curtain in the scene.",
        "this is a shower curtain in the scene.",
        "this is the shower curtain in the scene.",
        "this is one shower curtain in the scene.",
    ]


def test_ensembling_normalises_first():
    """A long vector has no more to say than a short one: (1, 0) and (0, 1) at 45 degrees, whatever their lengths."""
    mean = ensemble(np.array([[100, 0], [0, 0.1]], np.float32))
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, [0.5**0.5, 0.5**0.5], rtol=1e-6)


def test_class_list(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("# mine\nsofa, couch ,settee\n\n  plant  # green\nténte\n", encoding="utf-8")
    classes = read_classes(path)
    assert classes.names == ("sofa", "plant", "ténte")
    assert classes.prompts == (("sofa", "couch", "settee"), ("plant",), ("ténte",))
    assert ClassList.of(("a", "b")) == ClassList(("a", "b"), (("a",), ("b",)))


def test_a_description_is_taken_as_it_is(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text('sofa, "a soft, low seat.", couch # mine\n17" screen, tv\n')
    classes = read_classes(path)
    assert classes.prompts == (("sofa", '"a soft, low seat."', "couch"), ('17" screen', "tv"))
    assert fill_templates(classes.prompts[0][1]) == ["a soft, low seat."] * 85
    assert len(set(fill_templates(classes.prompts[1][0]))) == 85


def test_words_that_fold_into_a_class_or_into_none(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text('bed, cot | pillow | blanket, quilt # mine\n| ceiling | "a | lamp, lit"\nwall | |\n')
    classes = read_classes(path)
    assert classes.prompts == (("bed", "cot"), ("wall",))
    none = [(2, ("ceiling",)), (2, ('"a | lamp, lit"',))]
    assert classes.folded == ((0, ("pillow",)), (0, ("blanket", "quilt")), *none)
    (tmp_path / "many.txt").write_text("\n".join(map(str, range(255))) + "\n0 | one\n")
    with pytest.raises(HiclError, match="256 classes"):
        read_classes(tmp_path / "many.txt")
    (tmp_path / "many.txt").write_text("\n".join(map(str, range(255))) + "\n| one\n")
    with pytest.raises(HiclError, match="255 classes; write one a line, 1 to 254"):
        read_classes(tmp_path / "many.txt")


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "0 classes"),
        (b'"A seat, for one."\n', '"A seat, for one." is a description; put the class\'s name before it'),
        (b"# nothing\n , ,\n", "0 classes"),
        ("\n".join(map(str, range(256))).encode(), "256 classes"),
        (b"a\nb\na, c\n", "class 'a' stands there twice"),
        (b"\xff\xfe\x00", "can't be read"),
        (b"| wa\x07ll\nbed\n", r"class 'wa\\x07ll' holds U\+0007"),
        (b"wa\x07ll\n", r"class 'wa\\x07ll' holds U\+0007"),
        (b"wall\x0cfloor\n", r"U\+000C"),
        (b"1\twall\n", r"U\+0009"),
        ("sofa, cou\u200bch".encode(), r"class 'cou\\u200bch' holds U\+200B \(ZERO WIDTH SPACE\)"),
        ("wall\nfloor\u2028chair".encode(), r"U\+2028 \(LINE SEPARATOR\)"),
    ],
)
def test_a_class_list_that_will_not_do(tmp_path, content, said):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(HiclError, match=f"classes.txt: .*{said}"):
        read_classes(path)


def test_most_classes(tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(map(str, range(255))))
    assert len(read_classes(tmp_path / "classes.txt").names) == 255
    with pytest.raises(HiclError, match="none.txt"):
        read_classes(tmp_path / "none.txt")


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_letter(tmp_path, ends):
    (tmp_path / "classes.txt").write_bytes(ends.join(["wall", "sofa, couch", ""]).encode("utf-8-sig"))
    assert read_classes(tmp_path / "classes.txt").prompts == (("wall",), ("sofa", "couch"))


@pytest.mark.parametrize(
    "name", ["missing.csv", "missing.TXT", "my lists/classes.tsv", "./classes", "~/classes", "/a/b"]
)
def test_a_file_that_is_not_there_is_no_class(name):
    with pytest.raises(HiclError, match="no such file"):
        parse_classes(name)


def test_names_that_only_look_a_little_like_files(tmp_path):
    for name in ("St. Bernard", "and/or", "chair.", "no.5", "x, y.txt"):
        assert parse_classes(name).names == tuple(part.strip() for part in name.split(","))
    folder = tmp_path / "lists.txt"
    folder.mkdir()
    with pytest.raises(HiclError, match="lists.txt: is a folder"):
        parse_classes(str(folder))
    (tmp_path / "own.csv").write_text("wall\nfloor\n")
    assert parse_classes(str(tmp_path / "own.csv")).names == ("wall", "floor")
