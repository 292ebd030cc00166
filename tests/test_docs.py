"""The pages that `make docs` makes are of modules that are there, and say what they are."""

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
from build import MODULES


@pytest.mark.parametrize("name", MODULES)
def test_a_page_has_a_module(name):
    assert importlib.import_module(name).__doc__
