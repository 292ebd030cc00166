#!/usr/bin/env bash
# typer 0.29.2 with click 8.5.1: a Typer app in a click group runs, but its --help and its usage errors are tracebacks.
# Typer used to be a layer over the click package, and putting a Typer app into a click group by
# `group.add_command(typer.main.get_command(app))` was the documented way to mix them. This release has a copy of click
# of its own and doesn't depend on the package: what get_command() returns is no click.Command, click's group takes it
# all the same and calls it, and the exceptions by which it ends (help shown, no such option) aren't click's, so nobody
# catches them.
#
# Seen:
#   is a click command: False
#   run: exit 0, None
#   --help: exit 1, Exit
#   --nmae: exit 1, NoSuchOption
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check typer==0.29.2 click==8.5.1
cat > "$folder/app.py" <<'PY'
import click
import typer
from click.testing import CliRunner

app = typer.Typer()


@app.command()
def greet(name: str = "you") -> None:
    print(name)


@click.group()
def group() -> None:
    pass


command = typer.main.get_command(app)
group.add_command(command, "greet")
print("is a click command:", isinstance(command, click.Command))
for words in (["greet"], ["greet", "--help"], ["greet", "--nmae", "x"]):
    result = CliRunner().invoke(group, words)
    ended = type(result.exception).__name__ if result.exception else None
    print(f"{(words[1:] or ['run'])[0]}: exit {result.exit_code}, {ended}")
PY
expected="is a click command: False
run: exit 0, None
--help: exit 1, Exit
--nmae: exit 1, NoSuchOption"
found=$("$folder/venv/bin/python" "$folder/app.py")
echo "$found"
[ "$found" = "$expected" ]
