"""What to do with a model or a cache: `hicl predict`, `search`, `export`, `view`."""

from pathlib import Path
from typing import Annotated

import typer

from hicl.commands.options import (
    Clip,
    Device,
    Ensemble,
    Gap,
    Labels,
    Level,
    Model,
    OptionalModel,
    PlyOut,
    Pool,
    Scale,
    Scene,
    Up,
    Weights,
    pooling,
)
from hicl.errors import HiclError

Scan = Annotated[
    Path, typer.Argument(help="A coloured mesh or cloud, .ply, in metres; or a sweep of nuScenes' LiDAR, .pcd.bin.")
]


def predict(
    scan: Scan,
    model: Model,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The .ply to write; of a sweep also .npy, or .bin as lidarseg's.")
    ],
    classes: Annotated[
        str | None, typer.Option(help="Names behind commas, or a file with a class a line. [default: the model's]")
    ] = None,
    scale: Scale = None,
    up: Up = None,
    level: Level = False,
    pool: Pool = "sets",
    clip: Clip = None,
    weights: Weights = None,
    device: Device = "auto",
) -> None:
    """A class for every point of a scan, in the model's words or yours: PLY, scores as .npz, legend as .png."""
    from hicl.pipeline.classes import MOST_WORDS, parse_classes
    from hicl.predict import load_model, predict_file

    pool, _ = pooling(pool)
    words = parse_classes(classes, MOST_WORDS) if classes is not None else None
    typer.echo(predict_file(scan, load_model(model, device), out, words, scale, clip, weights, up, pool, level))


def search(
    words: Annotated[list[str], typer.Argument(help='[SCAN] "somewhere to sit": a scan with --model, and the text.')],
    out: PlyOut,
    cache: Annotated[str | None, typer.Option(help="Search a scene of this cache, by its images.")] = None,
    scene: Scene = None,
    model: Annotated[Path | None, typer.Option(help="Search the scan with this model, without images.")] = None,
    scale: Scale = None,
    up: Up = None,
    level: Level = False,
    clip: Clip = None,
    weights: Weights = None,
    device: Device = "auto",
) -> None:
    """Colour every point by its similarity to a free text: of a cached scene, or of any scan by a trained model."""
    if (cache is None) == (model is None) or len(words) != (1 if cache else 2):
        raise HiclError('search needs either --cache C "text" or --model M SCAN.ply "text"')
    if scene is not None and model or (scale, up, level) != (None, None, False) and cache:
        raise HiclError("--scene goes with --cache, --scale, --up and --level with --model")
    from hicl.predict import load_model, search_cache, search_file

    if model is None:
        typer.echo(search_cache(str(cache), scene, words[0], out, clip, weights))
    else:
        typer.echo(
            search_file(Path(words[0]), load_model(model, device), words[1], out, scale, clip, weights, up, level)
        )


def export(
    cache: Annotated[str, typer.Option(help="A cache of `hicl preprocess`: a folder, or a URL.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .ply, .glb, .las, .laz or .npz to write.")],
    scene: Scene = None,
    model: OptionalModel = None,
    labels: Labels = "spread",
    objects: Annotated[
        Path | None, typer.Option(help="A .csv to write of the objects; the points then say which they are of.")
    ] = None,
    gap: Gap = None,
    smallest: Annotated[int | None, typer.Option(min=1, help="Points in the smallest object. [default: 100]")] = None,
    pool: Pool = "sets",
    ensemble: Ensemble = "none",
    device: Device = "auto",
) -> None:
    """Write a scene with a class and its colour for each point: the pseudo-labels', or a trained model's."""
    from hicl.export import export

    if ensemble != "none" and model is None:
        raise HiclError(f"--ensemble {ensemble} joins a network with the scene's labels: give --model too")
    if objects is None and (gap, smallest) != (None, None):
        raise HiclError("--gap and --smallest say what an object is: give --objects FILE.csv too")
    typer.echo(export(cache, scene, out, model, device, labels, *pooling(pool, ensemble), objects, gap, smallest))


def view(
    path: Annotated[str, typer.Argument(help="A cache of `hicl preprocess`, or any .ply, labelled or not.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write a page that needs no server to this .html instead.")
    ] = None,
    scene: Scene = None,
    model: OptionalModel = None,
    root: Annotated[Path | None, typer.Option(help="The raw scans' folder: the cameras get their images.")] = None,
    layer: Annotated[str | None, typer.Option(help="The layer to begin with. [default: the first]")] = None,
    max_points: Annotated[int, typer.Option(min=1, help="Larger clouds are thinned to so many.")] = 2_000_000,
    up: Annotated[str | None, typer.Option(help="x, y, z, -x, -y or -z. [default: z; for rgbd the cameras']")] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8080,
    scale: Scale = None,
    pool: Pool = "sets",
    clip: Clip = None,
    weights: Weights = None,
    device: Device = "auto",
) -> None:
    """Look at a scene in the browser: colours, labels, sets, truth, prediction and cameras, switched by a click."""
    import contextlib
    import threading

    from hicl.viewer import layers, page, server

    pooled, _ = pooling(pool)
    server.viser()  # what is missing is said before anything slow
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise HiclError(f"-o {out}: give it a name that ends in .html")
    trained = None
    if model is not None:
        from hicl.predict import load_model

        trained = load_model(model, device)
    cloud = layers.load(path, scene, trained, root, up, scale, (clip, weights), pooled)
    thin = cloud.thinned(max_points)
    if len(thin.xyz) < len(cloud.xyz):
        typer.echo(f"{len(thin.xyz):,} of {len(cloud.xyz):,} points, drawn at random; --max-points takes more")
    if out is not None:
        typer.echo(page.write_page(thin, out, layer))
        return
    with server.running(thin, host, port, layer) as url, contextlib.suppress(KeyboardInterrupt):
        typer.echo(f"{thin.title}: {url} (Ctrl-C ends it)")
        threading.Event().wait()
