"""`hicl finetune` and `hicl table-pretraining`: the only commands that train on people's labels."""

from pathlib import Path
from typing import Annotated

import typer

from hicl.commands.options import Cache, Device, Model
from hicl.errors import HiclError

_LABELS = "Share of the training scenes whose labels are used, drawn by the seed: 1%, 5%, 10%, 100%, …"
Linear = Annotated[bool, typer.Option("--linear", help="A linear probe: train nothing but a new head.")]
Scratch = Annotated[bool, typer.Option("--from-scratch", help="The same network, of random weights.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps, whatever the share.")]
Seed = Annotated[int, typer.Option(min=0, help="Of scenes, order, augmentation and the new head.")]


def share_of(text: str) -> float:
    """0.1 of "10%". Raises `HiclError`."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not text.endswith("%") or not 0 < share <= 1:
        raise HiclError(f"--labels {text}: must be a share above 0% and at most 100%, such as 10%")
    return share


def finetune(
    model: Model,
    cache: Cache,
    out: Annotated[Path, typer.Option("-o", "--out", help="The new run's folder.")],
    labels: Annotated[str, typer.Option(help=_LABELS)] = "100%",
    linear: Linear = False,
    from_scratch: Scratch = False,
    steps: Steps = 300,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train a pre-trained network on true labels of a part of the training split; labels reach no other training."""
    from hicl.commands import following
    from hicl.train import finetune as tuning

    share = share_of(labels)
    tuning.finetune(cache, model, out, share, linear, from_scratch, steps, seed, device, typer.echo)
    typer.echo(f"{out / 'model.safetensors'}")
    typer.echo(following.train(cache, out))


def table_pretraining(
    model: Annotated[list[Path], typer.Option("--model", help="A trained run's folder; repeat for more.")],
    cache: Cache,
    out: Annotated[Path, typer.Option("-o", "--out", help="Gets runs/, pretraining.json and pretraining.md.")],
    labels: Annotated[
        list[str] | None, typer.Option(help=f"{_LABELS} Repeat for more. [default: 1, 5, 10, 100%]")
    ] = None,
    linear: Linear = False,
    steps: Steps = 300,
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tunings of each, with seeds 0, 1, …")] = 1,
    device: Device = "auto",
) -> None:
    """Fine-tune trained runs, and a random start, on shares of the labels: what pre-training is for."""
    from hicl.train import pretraining

    shares = [share_of(text) for text in labels or ("1%", "5%", "10%", "100%")]
    results = pretraining.table(cache, model, shares, out, linear, steps, range(seeds), device, typer.echo)
    typer.echo(pretraining.markdown(results))
    typer.echo(f"written: {out / 'pretraining.json'}")
