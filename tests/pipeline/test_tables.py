"""The reader of JSON tables against the json module."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.errors import HiclError
from hicl.pipeline.datasets import tables

FIELDS = ("token", "pose", "is key")
WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(FIELDS) | WORDS, VALUES, max_size=6), max_size=12)
STYLES = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 2, "\t"]),
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([None, (",", ":"), (" ,\r\n", "\t: ")]),
    }
)


@pytest.fixture(scope="module", autouse=True)
def small_pieces(request):
    """So that a table has many."""
    patch = pytest.MonkeyPatch()
    patch.setattr(tables, "_PIECE", 8192)
    patch.setattr(tables, "_ROOM", 5)
    request.addfinalizer(patch.undo)


def read(path):
    """Every wanted value there is, row by row."""
    found = []
    for some in tables.rows(path, FIELDS):
        for row in range(len(some.spans)):
            there = [field for f, field in enumerate(FIELDS) if some.spans[row, f, 0] >= 0]
            found.append({field: some.values(field, np.array([row]))[0] for field in there})
    return found


@settings(max_examples=300, deadline=None)
@given(ROWS, STYLES)
def test_it_reads_what_json_reads(tmp_path_factory, rows, style):
    path = tmp_path_factory.mktemp("tables") / "table.json"
    path.write_text(" \n" + json.dumps(rows, **style) + "\n", encoding="utf-8")
    assert read(path) == [{field: row[field] for field in FIELDS if field in row} for row in rows]


def test_names_with_escapes_and_names_twice(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(r'[{"t\u006fken": 1, "pose": [1.5, "}]"]}, {"token": 1, "is key": true, "token": "\"\\"}]')
    assert read(path) == [{"token": 1, "pose": [1.5, "}]"]}, {"token": '"\\', "is key": True}]


def test_rows_are_found_across_many_pieces(tmp_path):
    rows = [{"token": f"t{i}", "other": "x" * (i % 700), "pose": [i, i / 7]} for i in range(3000)]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(rows, indent=0))
    found = tables.columns(path, ("token", "pose"))
    assert found == {"token": [row["token"] for row in rows], "pose": [row["pose"] for row in rows]}
    wanted = tables.Texts(["t2999", "nowhere", "t5", "t2999"])
    assert wanted.first.tolist() == [0, 1, 2, 0]
    places = np.concatenate([some.among("token", wanted) for some in tables.rows(path, ("token",))])
    assert {int(row): int(places[row]) for row in np.flatnonzero(places >= 0)} == {5: 2, 2999: 0}


def test_a_token_is_found_however_it_is_written(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(
        r'[{"token": "\u0061\/b"}, {"token": "a/b"}, {"token": "é"}, {"token": "\u00e9"}, {"token": 7}, {}]'
    )
    wanted = tables.Texts(["a/b", "é"])
    found = [place for some in tables.rows(path, ("token",)) for place in some.among("token", wanted).tolist()]
    assert found == [0, 0, 1, 1, -1, -1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty file"),
        ('{"token": 1}', "expected a list of rows"),
        ('[{"token": 1}', "cut off"),
        ('[{"token": 1}, {"tok', "cut off"),
        ('[{"token": 1},', "cut off"),
        ('[{"token": 1}] x', "expected nothing after 1 rows"),
        ('[{"token": 1} {"token": 2}]', "expected a comma after 1 rows"),
        ('[{"token": 1}, ]', "row 2 is not readable JSON"),
        ('[{"token": 1,}]', "row 1 is not readable JSON"),
        ('[{"token" 1}]', "row 1 is not readable JSON"),
        ('[{"token": }]', "row 1 is not readable JSON"),
        ('[{"token": 1 2}]', "row 1 is not readable JSON"),
        ('[{"token": "a"b}]', "row 1 is not readable JSON"),
        ('[{"token": tru}]', "'token'"),
        ('[{"token": [1, 2}}]', "'token'"),
        ("[1, 2]", "row 1 is no object"),
        ('[{"other": 1}]', "without 'token'"),
        ("<html>no</html>", "web page"),
        ('[{"token": "' + 9000 * "x" + '"}]', "more than 8192 bytes"),
    ],
)
def test_what_is_no_table_is_told_in_a_line(tmp_path, content, said):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(HiclError) as error:
        tables.columns(path, ("token",))
    assert str(path) in str(error.value) and said in str(error.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(HiclError, match="can't be read"):
        tables.columns(tmp_path / "sample.json", ("token",))
