"""`hicl doctor`: whether the parts of a capture fit together."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hicl.commands.options import say
from hicl.files import replacing
from hicl.progress import counted

if TYPE_CHECKING:
    from hicl.pipeline.doctor.verdict import Verdict

_SIGNS = {"well": "ok", "remark": "note", "fault": "FAULT", "open": "?"}


def doctor(
    folder: Annotated[Path, typer.Argument(help="A capture: posed RGB-D frames; a folder of captures; or ScanNet's.")],
    depth_scale: Annotated[
        float | None, typer.Option(help="As of `hicl preprocess rgbd`. [default: the capture's]")
    ] = None,
    poses: Annotated[str | None, typer.Option(help="As of `hicl preprocess rgbd`. [default: the capture's]")] = None,
    axes: Annotated[str | None, typer.Option(help="As of `hicl preprocess rgbd`. [default: the capture's]")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the verdicts to this file as well.")] = None,
) -> None:
    """Do poses, depth, intrinsics, colours and surface fit together? What is wrong, by how much, and what mends it."""
    from hicl.pipeline.doctor import surgery

    given = {"depth_scale": depth_scale, "poses": poses, "axes": axes}
    found = {}
    for scene_id, verdicts in surgery.examined(folder.absolute(), given, say):
        found[scene_id] = verdicts
        typer.echo("\n".join(_table(scene_id, verdicts)))
    if json_file is not None:
        with replacing(json_file) as temporary:
            rows = {scene_id: [vars(verdict) for verdict in verdicts] for scene_id, verdicts in found.items()}
            temporary.write_text(json.dumps(rows, indent=2) + "\n")
    ill = sum(any(verdict.state == "fault" for verdict in verdicts) for verdicts in found.values())
    say(f"{counted(len(found), 'scene')} examined, {ill} with faults")
    if ill:
        raise typer.Exit(1)


def _table(scene_id: str, verdicts: list["Verdict"]) -> list[str]:
    lines = [scene_id]
    for verdict in verdicts:
        lines.append(f"  {_SIGNS[verdict.state]:<6}{verdict.check:<18}{verdict.said}")
        if verdict.remedy:
            lines.append(f"{'':<26}-> {verdict.remedy}")
    return lines
