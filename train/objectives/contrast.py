"""InfoNCE, which `ppkt`, `slidr`, `simipu` and `pointcontrast` learn by, each over its own rows."""

import torch
from torch import nn
from torch.nn import functional as F

from hicl.train.config import Config
from hicl.train.objectives import Added, Inputs, Term


def rows_of_a_scene(config: Config) -> int:
    """Rows that each scene brings to a step."""
    return -(-config.contrast.rows // config.schedule.batch)


def info_nce(queries_Rd: torch.Tensor, keys_Rd: torch.Tensor, temperature: float) -> Term:
    """-log( exp(q_i · k_i / τ) / Σ_j exp(q_i · k_j / τ) ) of every row i, all of unit length: sum and count."""
    # Divided before the product, which is larger.
    logits = F.normalize(queries_Rd, dim=1) / temperature @ F.normalize(keys_Rd, dim=1).T
    own = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, own, reduction="sum"), logits.new_tensor(float(len(logits)))


def projection(width: int, hidden: int, out: int) -> nn.Sequential:
    """Three linear layers, each normalised over the batch, with ReLU between them."""
    sizes = [(width, hidden), (hidden, hidden), (hidden, out)]
    layers = [nn.Sequential(nn.Linear(*size), nn.BatchNorm1d(size[1])) for size in sizes]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class Contrast(Added):
    """See `Objective`. Term: {nce}, of the network's features and the teacher's of the same rows."""

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        taught = inputs.taught
        return {"nce": info_nce(taught.pooled(inputs.features), taught.features, self.temperature)}
