"""What pre-training is for: objectives by the share of labels that they are fine-tuned on, beside a random start."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.train import checkpoint, distributed, evaluate, inference
from hicl.train.finetune import finetune

SCRATCH = "random start"


def table(
    cache_path: str | Path,
    models: Sequence[Path],
    shares: Sequence[float],
    out: Path,
    linear: bool = False,
    steps: int = 300,
    seed: int = 0,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> dict:
    """Fine-tune each model on each share and score it on the split val; what is finished in `out` is kept.

    Returns:
        What `pretraining.json` holds: {"rows": {name: {share: mIoU in percent}}, …}; the first model stands for the
        random start too, as the network that begins anew.

    Raises:
        HiclError: as `finetune` and `evaluate`; two models of one name.
    """
    out, cache = Path(out), open_cache(cache_path)
    names = [path.name for path in models]
    if len(set(names)) < len(names):
        raise HiclError(f"--model {' '.join(names)}: two of one name, by which the table calls them")
    rows: dict[str, dict[str, float]] = {}
    results = {"rows": rows, "dataset": cache.dataset, "steps": steps, "seed": seed, "linear": linear}
    for name, model in [(SCRATCH, models[0]), *zip(names, models, strict=True)]:
        for share in shares:
            run = out / "runs" / f"{name.replace(' ', '-')}-{percent(share)}{'-linear' if linear else ''}-seed{seed}"
            if not checkpoint.has_model(run):
                finetune(cache_path, model, run, share, linear, name == SCRATCH, steps, seed, device, say)
            tuned = inference.load(run, distributed.start(device).device)
            scores = evaluate.evaluate(tuned, cache)
            evaluate.save(scores, run, cache)
            rows.setdefault(name, {})[percent(share)] = 100 * scores.miou
            say(f"{name}, {percent(share)} of the labels: mIoU {100 * scores.miou:.2f}")
            results["protocol"] = evaluate.protocol(scores)
            checkpoint.replace_text(out / "pretraining.json", json.dumps(results, indent=1) + "\n")
            checkpoint.replace_text(out / "pretraining.md", markdown(results))
    return results


def percent(share: float) -> str:
    """A share as people write it: 10%."""
    return f"{100 * share:g}%"


def markdown(results: dict) -> str:
    """The table, a row an objective and a column a share."""
    rows = results["rows"]
    shares = list(next(iter(rows.values())))
    how = "a linear probe" if results["linear"] else "fine-tuning"
    lines = [
        f"mIoU in percent after {how} of {results['steps']} steps on a share of the training scenes' labels, seed"
        f" {results['seed']}, {results['dataset']}.",
        "",
        f"| pre-trained by | {' | '.join(shares)} |",
        f"|---|{'---:|' * len(shares)}",
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{row[share]:.1f}' if share in row else '' for share in shares)} |")
    return "\n".join([*lines, "", f"Protocol: {results['protocol']}.", ""])
