"""What a run trains: the network, the heads of its objective, and their optimisers."""

import math
from pathlib import Path

import torch

from hicl.errors import HiclError
from hicl.processes import keep_freed_memory, leave_imports_uncollected
from hicl.train import checkpoint, network, optimisers
from hicl.train.batch import Batch
from hicl.train.config import Config
from hicl.train.distributed import Group
from hicl.train.objectives import Inputs, kind


class Learner:
    """The modules and optimisers of one run.

    Args:
        config: a checked configuration.
        text: [C, d] float32, the classes' embedding.
        group: the processes of the run.
    """

    def __init__(self, config: Config, text: torch.Tensor, group: Group):
        self.config, self.group = config, group
        if group.device.type == "cpu":
            keep_freed_memory()  # a step makes the same arrays as the one before
        leave_imports_uncollected()
        self.text = text.to(group.device)
        width = text.shape[1]
        # A seed of its own for each module: the network starts equal in all experiments.
        torch.manual_seed(config.seed)
        self.net = net = group.synchronise_norms(network.build(config, width, group.device))
        self.objective = kind(config).make(config, net, self.text, group)
        self.modules = {"net": net} | self.objective.heads | self.objective.kept
        self.sgd = optimisers.sgd(net.parameters(), config.optim, group.device)
        self.sgd_names = [name for name, _ in net.named_parameters()]
        heads = [(f"{m}.{n}", p) for m, head in self.objective.heads.items() for n, p in head.named_parameters()]
        self.adamw_names = [name for name, _ in heads]
        self.adamw = None
        if heads:
            self.adamw = optimisers.adamw([p for _, p in heads], config.optim, group.device)
        self.wrapped = group.wrap(network.Trunk(net))

    def set_rates(self, epoch: int) -> tuple[float, float]:
        """One cosine over all epochs for both optimisers, stepped by epoch, down to 0 (METHOD 7.2 row 17)."""
        factor = 0.5 * (1 + math.cos(math.pi * epoch / self.config.schedule.epochs))
        rates = self.config.optim.lr * factor, self.config.optim.head_lr * factor
        for optimiser, rate in zip((self.sgd, self.adamw), rates, strict=True):
            for parameters in optimiser.param_groups if optimiser else ():
                parameters["lr"] = rate
        return rates

    def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The active losses of a batch by name, unweighted.

        Each is this process' sum over the number of points of all processes, times the number of processes: their
        average over processes, which is how DistributedDataParallel averages gradients, is the loss of the whole batch.
        """
        hidden = self.wrapped(batch.coords, batch.features, len(batch.scenes), batch.grid)
        terms = self.objective.terms(Inputs(hidden, self.net.head, self.text, batch))
        return {name: self._mean(*term) for name, term in terms.items()}

    def _mean(self, total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        return total * (self.group.world / self.group.total(count).clamp(min=1))

    def step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; returns the losses, unweighted.

        Raises:
            HiclError: a loss that isn't finite (before anything is changed), with the scenes; or out of memory.
        """
        try:
            batch = batch.to(self.group.device)
            terms = self.terms(batch)
            names = sorted(terms)
            values = self.group.total(torch.stack([terms[n] for n in names])) / self.group.world
            if not torch.isfinite(values).all():
                self._refuse(batch, dict(zip(names, values.tolist(), strict=True)))
            for optimiser in (self.sgd, self.adamw):
                if optimiser:
                    optimiser.zero_grad(set_to_none=True)
            self.objective.total(terms).backward()
            self.sgd.step()
            if self.adamw:  # heads that no loss reaches yet have no gradient, and stay as they are
                self.adamw.step()
            self.objective.stepped()
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "allocate memory" in str(error):
                raise HiclError(
                    f"out of memory in a step of {sum(batch.voxels)} voxels: lower schedule.batch"
                    f" (now {self.config.schedule.batch}) or heads.tokens (now {self.config.heads.tokens}),"
                    f" or raise stream.voxel_size (now {self.config.stream.voxel_size} m)"
                ) from error
            raise
        return dict(zip(names, values.tolist(), strict=True))

    @torch.no_grad()
    def _refuse(self, batch: Batch, values: dict[str, float]) -> None:
        guilty, start = [], 0
        for name, count in zip(batch.scenes, batch.voxels, strict=True):
            # Alone, because in a batch normalisation spreads one scene's trouble to all.
            coords, features = batch.coords[start : start + count].clone(), batch.features[start : start + count]
            coords[:, 0], start = 0, start + count
            if not torch.isfinite(self.modules["net"](coords, features, 1, batch.grid) @ self.text.T).all():
                guilty.append(name)
        broken = ", ".join(f"{name} = {value}" for name, value in values.items() if not math.isfinite(value))
        raise HiclError(
            f"the loss is not finite ({broken}) in epoch {batch.epoch + 1}, scene {', '.join(guilty or batch.scenes)};"
            f" lower optim.lr (now {self.config.optim.lr}) or look at that scene; the last saved state is kept"
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed run needs, by name."""
        found = {f"{m}.{n}": t for m, module in self.modules.items() for n, t in module.state_dict().items()}
        found |= checkpoint.optimiser_tensors(self.sgd, self.sgd_names, "sgd.")
        if self.adamw:
            found |= checkpoint.optimiser_tensors(self.adamw, self.adamw_names, "adamw.")
        return found | {"random": torch.get_rng_state()}

    def restore(self, tensors: dict[str, torch.Tensor], where: Path) -> None:
        """The way back of `tensors`. Raises HiclError, with the names, unless all of them fit."""
        known = tuple(f"{name}." for name in self.modules) + ("sgd.", "adamw.", "random")
        strangers = [name for name in tensors if not name.startswith(known)]
        if strangers:
            raise HiclError(f"{where}: does not fit this network: {', '.join(strangers[:5])} unknown")
        for name, module in self.modules.items():
            checkpoint.restore(module, tensors, f"{name}.", where)
        if self.config.optim.momentum and not any(name.startswith("sgd.") for name in tensors):
            raise HiclError(f"{where}: does not fit this network: no sgd. tensor")
        checkpoint.restore_optimiser(self.sgd, self.sgd_names, tensors, "sgd.", where)
        if self.adamw:
            checkpoint.restore_optimiser(self.adamw, self.adamw_names, tensors, "adamw.", where)
        try:
            torch.set_rng_state(tensors["random"])
        except (KeyError, RuntimeError, TypeError):
            raise HiclError(f"{where}: no random state; the file is damaged, start anew with another --out") from None

    def assert_finite(self) -> None:
        """Raise HiclError where a weight isn't finite, so that a broken state never replaces a good one."""
        for name, tensor in self.modules["net"].state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise HiclError(f"weights are not finite ({name}): lower optim.lr (now {self.config.optim.lr})")
