"""Terms of geometric sets: their voxels pulled together, and their likeness to the sets of other scenes kept."""

import torch
from torch.nn import functional as F

from hicl.train.objectives import Term


def set_means(features_Vd: torch.Tensor, set_of_voxel: torch.Tensor, n_sets: int) -> torch.Tensor:
    """The mean feature of the voxels of each set, differentiable: [V, d] and int64 [V] to [n_sets, d]; else 0."""
    sums = features_Vd.new_zeros(n_sets, features_Vd.shape[1]).index_add(0, set_of_voxel, features_Vd)
    count = torch.bincount(set_of_voxel, minlength=n_sets).clamp(min=1)
    return sums / count[:, None]


def pull_distance(features_Vd: torch.Tensor, target_Sd: torch.Tensor, set_of_voxel: torch.Tensor) -> Term:
    """L_pull: 1 - cosine of each voxel's feature and its set's target, which gets no gradient. Sum and count."""
    cosine = F.cosine_similarity(features_Vd, target_Sd.detach()[set_of_voxel], dim=1)
    return (1 - cosine).sum(), cosine.new_tensor(float(len(cosine)))


def match_divergence(own_BMd: torch.Tensor, taught_Amd: torch.Tensor, first: int, temperature: float) -> Term:
    """L_match: the distribution of a token's likeness over the tokens of all other scenes, by student and by teacher.

    KL(teacher ‖ student) of softmax(cosine / temperature) over the tokens of other scenes, where both compare with what
    the teacher makes of those; relations instead of answers are distilled (Park et al., CVPR 2019). No gradient reaches
    the teacher.

    Args:
        own_BMd: the student's features of this process' scenes.
        taught_Amd: the teacher's, of the scenes of all processes; scene `first` is the first of this one's.

    Returns:
        sum over tokens, and their number; both 0 where there is no other scene.
    """
    b, m, d = own_BMd.shape
    scenes = len(taught_Amd)
    if scenes == 1:
        return own_BMd.sum() * 0, own_BMd.new_tensor(0.0)
    keys = F.normalize(taught_Amd.detach(), dim=2).reshape(scenes * m, d)
    student = F.normalize(own_BMd, dim=2) @ keys.T / temperature
    teacher = keys.view(scenes, m, d)[first : first + b] @ keys.T / temperature
    scene = torch.arange(scenes, device=keys.device)
    same = (scene[first : first + b, None] == scene.repeat_interleave(m)[None])[:, None]
    p, q = (x.masked_fill(same, -torch.inf).log_softmax(dim=2).masked_fill(same, 0) for x in (student, teacher))
    total = (q.exp().masked_fill(same, 0) * (q - p)).sum()
    return total, total.new_tensor(float(b * m))
