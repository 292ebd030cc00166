"""What pre-training is for: objectives by the share of labels that they are fine-tuned on, beside a random start."""

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.errors import HiclError
from hicl.files import locked
from hicl.train import checkpoint, distributed, evaluate, inference, run_folder
from hicl.train.finetune import finetune, model_digest
from hicl.train.runs import of_seeds, over_seeds, with_spread

SCRATCH = "random start"


def table(
    cache_path: str | Path,
    models: Sequence[Path],
    shares: Sequence[float],
    out: Path,
    linear: bool = False,
    steps: int = 300,
    seeds: Sequence[int] = (0,),
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> dict:
    """Fine-tune each model on each share with each seed, and score it on the split val; what is finished in `out` is
    kept, so that a killed table goes on where it was.

    Returns:
        What `pretraining.json` holds: {"rows": {name: {share: {"miou": [one a seed, percent], …}}}, …}; the first model
        stands for the random start too, as the network that begins anew.

    Raises:
        HiclError: as `finetune` and `evaluate`; two models of one name; a finished run in `out` had other settings.
    """
    out, cache = Path(out), open_cache(cache_path)
    names = [path.name for path in models]
    if len(set(names)) < len(names):
        raise HiclError(f"--model {' '.join(names)}: two of one name, by which the table calls them")
    rows: dict[str, dict[str, dict]] = {}
    results = {"rows": rows, "dataset": cache.dataset, "steps": steps, "seeds": list(seeds), "linear": linear}
    with locked(out):
        for seed in seeds:
            for name, model in [(SCRATCH, models[0]), *zip(names, models, strict=True)]:
                for share in shares:
                    run = out / "runs" / f"{name.replace(' ', '-')}-{percent(share)}{'-linear' * linear}-seed{seed}"
                    if run_folder.has_model(run):
                        _assert_same(run, cache, model, steps)
                    else:
                        shutil.rmtree(run, ignore_errors=True)  # what one that was killed left
                        finetune(cache_path, model, run, share, linear, name == SCRATCH, steps, seed, device, say)
                    scores = _scores(run, cache, device)
                    found = rows.setdefault(name, {}).setdefault(percent(share), {"miou": []})
                    found["miou"].append(scores["miou"])
                    found |= over_seeds(found["miou"])
                    say(f"{name}, {percent(share)} of the labels, seed {seed}: mIoU {scores['miou']:.2f}")
                    results["protocol"] = scores["protocol"]
                    run_folder.replace_text(out / "pretraining.json", json.dumps(results, indent=1) + "\n")
                    run_folder.replace_text(out / "pretraining.md", markdown(results))
    return results


def _assert_same(run: Path, cache: CacheReader, model: Path, steps: int) -> None:
    """Raise `HiclError` where a finished run began or learnt otherwise."""
    meta = checkpoint.load_model(run)[1]
    now = {"pretrained": model_digest(model), "data": cache.split_fingerprint("train"), "step": steps}
    if changed := [key for key in now if meta.get(key) != now[key]]:
        raise HiclError(
            f"{run}: finished with other settings ({', '.join(changed)}); delete it or choose another --out"
        )


def _scores(run: Path, cache: CacheReader, device: str) -> dict:
    """How a finished run scores; evaluated where it wasn't on this very data."""
    with contextlib.suppress(FileNotFoundError):
        found = run_folder.load_evaluation(run, "val")
        if found["data"] == cache.split_fingerprint("val"):
            return found
    tuned = inference.load(run, distributed.start(device).device)
    evaluate.save(evaluate.evaluate(tuned, cache), run, cache)
    return run_folder.load_evaluation(run, "val")


def percent(share: float) -> str:
    """A share as people write it: 10%."""
    return f"{100 * share:g}%"


def markdown(results: dict) -> str:
    """The table, a row an objective and a column a share."""
    rows = results["rows"]
    shares = list(next(iter(rows.values())))
    how = "a linear probe" if results["linear"] else "fine-tuning"
    lines = [
        f"mIoU in percent after {how} of {results['steps']} steps on a share of the training scenes' labels,"
        f" {of_seeds(results['seeds'])}, {results['dataset']}.",
        "",
        f"| pre-trained by | {' | '.join(shares)} |",
        f"|---|{'---:|' * len(shares)}",
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(with_spread(row[share]) if share in row else '' for share in shares)} |")
    return "\n".join([*lines, "", f"Protocol: {results['protocol']}.", ""])
