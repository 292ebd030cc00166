"""What `make` installs, and what it says where it can't. A script plays the installer, and notes its calls."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "setup").mkdir()
    for name in ("pyproject.toml", "setup/lock.txt", "setup/install.sh", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / name)
    installer = tmp_path / "uv"
    installer.write_text('#!/bin/sh\necho "$@" >> calls\n[ ! -e offline ] || { echo "no network" >&2; exit 2; }\n')
    installer.chmod(0o755)
    return tmp_path


def make(checkout: Path, target: str, **variables) -> tuple[int, list[str], list[str]]:
    """Exit code, lines on stderr, and the installer's calls."""
    (checkout / "calls").unlink(missing_ok=True)
    words = [f"{key}={value}" for key, value in ({"PYTHON": sys.executable, "UV": "./uv"} | variables).items()]
    surroundings = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", target, *words]
    result = subprocess.run(command, cwd=checkout, env=surroundings, capture_output=True, text=True, check=False)
    calls = checkout / "calls"
    said = [line for line in result.stderr.splitlines() if line.startswith("set-up: ")]
    return result.returncode, said, calls.read_text().splitlines() if calls.exists() else []


def test_set_up_once_then_never_again_until_a_version_changes(checkout):
    code, said, calls = make(checkout, "setup")
    assert code == 0 and " GB of disk" in said[0] and "done in" in said[-1]
    assert all("--constraint setup/lock.txt" in call for call in calls) and calls[-1].endswith("--editable .[viz]")
    assert make(checkout, "setup") == (0, [], [])
    os.utime(checkout / "pyproject.toml")  # as git does on a change of branch
    assert make(checkout, "setup") == (0, [], [])
    assert make(checkout, "setup-test")[2][-1].endswith("--editable .[test]")
    assert make(checkout, "setup") == make(checkout, "setup-test") == (0, [], [])  # the tests' has all of the other
    with open(checkout / "setup/lock.txt", "a") as lock:
        lock.write("another==1\n")
    assert make(checkout, "setup")[2]


def test_byte_code_is_made_where_later_none_may_be(checkout, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert make(checkout, "setup")[0] == 0
    packages = next((checkout / ".venv/lib").glob("python*")) / "site-packages"
    (packages / "module.py").write_text("x = 1\n")
    (packages / "of_another_python.py").write_text("print x\n")
    with open(checkout / "setup/lock.txt", "a") as lock:
        lock.write("another==1\n")
    code, said, _ = make(checkout, "setup")
    assert code == 0 and len(said) == 2
    made = {file.name.split(".")[0] for file in (packages / "__pycache__").iterdir()}
    assert "module" in made and "of_another_python" not in made


def test_what_was_broken_off_or_lost_its_python_is_made_anew(checkout):
    (checkout / "offline").touch()
    code, said, _ = make(checkout, "setup")
    assert code != 0 and "needed are a package index that answers" in said[-1]
    assert not (checkout / ".venv/.installed").exists()
    (checkout / "offline").unlink()
    (checkout / ".venv/half").touch()
    code, said, _ = make(checkout, "setup")
    assert code == 0 and "broken off" in said[0] and not (checkout / ".venv/half").exists()
    (checkout / ".venv/half").touch()
    for python in (checkout / ".venv/bin").glob("python*"):
        python.unlink()
    code, said, _ = make(checkout, "setup")
    assert code == 0 and "is gone" in said[0] and not (checkout / ".venv/half").exists()


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0", None])
def test_a_python_that_will_not_do_is_one_line(checkout, version):
    python = checkout / "python"
    if version:
        python.write_text(f"#!/bin/sh\necho {version}\n")
        python.chmod(0o755)
    code, said, calls = make(checkout, "setup", PYTHON="./python")
    assert code != 0 and len(said) == 1 and not calls and not (checkout / ".venv").exists()
    assert (version or "doesn't run") in said[0]
    code, said, _ = make(checkout, "setup", PYTHON="")
    assert code != 0 and len(said) == 1 and "no Python 3.11" in said[0]


def test_pytorch_from_an_index_of_ones_own(checkout):
    calls = make(checkout, "setup", TORCH_INDEX="https://wheels.example/cpu")[2]
    assert "--index-url https://wheels.example/cpu torch torchvision" in calls[1]
    assert not any("--index-url" in call for call in calls[2:])


def locked(python: str) -> dict[str, str]:
    """Version by name, for one Python on Linux."""
    system = default_environment() | {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    system |= {"python_version": python, "python_full_version": f"{python}.0"}
    found = {}
    for line in (ROOT / "setup/lock.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(system):
                (version,) = pin.specifier
                assert version.operator == "==" and pin.name not in found
                found[canonicalize_name(pin.name)] = version.version
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_all_that_is_declared(python):
    """It names no index, and every version in it is one that pyproject.toml allows."""
    assert not re.search(r"://|^-|--", (ROOT / "setup/lock.txt").read_text(), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    declared = [*project["build-system"]["requires"], *project["project"]["dependencies"], *sum(extras, [])]
    versions = locked(python)
    for text in declared:
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        if name == "hicl" or wanted.marker and not wanted.marker.evaluate({"python_version": python}):
            continue
        assert wanted.specifier.contains(versions[name]), f"{text}: {versions[name]} is locked; make lock"
