"""The losses of HICL (Eq. 1, 4 and 8), each over its own points."""

import torch
from torch.nn import functional as F

from hicl.cache.schema import NO_LABEL
from hicl.train.config import LossConfig
from hicl.train.objectives import Term


def pair_cross_entropy(logits_VC: torch.Tensor, histogram_VC: torch.Tensor) -> Term:
    """L_ce (Eq. 1): Σ over pairs of -log softmax(f_m T̂)[l], and the number of labelled pairs.

    All pairs of a voxel share its logits, so their sum is the histogram's inner product with the log-probabilities.
    """
    counts = histogram_VC.to(logits_VC.dtype)
    return -(counts * F.log_softmax(logits_VC, dim=1)).sum(), counts.sum()


def token_cross_entropy(logits_TC: torch.Tensor, label_T: torch.Tensor) -> Term:
    """L̂_ce (Eq. 4) over tokens with a label: sum and count."""
    total = F.cross_entropy(logits_TC, label_T, ignore_index=NO_LABEL, reduction="sum")
    return total, (label_T != NO_LABEL).sum().to(logits_TC.dtype)


def pair_distance(student_Rd: torch.Tensor, teacher_Rd: torch.Tensor, pairs_R: torch.Tensor) -> Term:
    """1 - cosine of each pair: sum and count.

    Pairs come in rows that share a student's feature, of any length: student [R, d]. teacher [R, d]: the mean over a
    row's pairs of their features of unit length, which is all that the sum of the cosines depends on. pairs [R]: their
    number.
    """
    along = (F.normalize(student_Rd, dim=1) * teacher_Rd).sum(dim=1)
    return (pairs_R * (1 - along)).sum(), pairs_R.sum()


def own_labels(logits_VC: torch.Tensor, histogram_VC: torch.Tensor) -> torch.Tensor:
    """A histogram [V, C] of as many pairs a voxel, which all have the class that a network thinks best."""
    best = F.one_hot(logits_VC.detach().argmax(dim=1), logits_VC.shape[1])
    return best * histogram_VC.sum(dim=1, keepdim=True)


def feedback_divergence(student: torch.Tensor, teacher: torch.Tensor, config: LossConfig, text: torch.Tensor) -> Term:
    """L_kl (Eq. 8) between f (student) and f̂ (teacher, detached: else it can collapse onto the student).

    "KL(f, f̂)" is read as PyTorch's argument order, KL(f̂ ‖ f), as distillation has it; `kl_direction` = "student" is
    the other. Multiplied by T², so that T doesn't change the gradients' scale (Hinton et al. 2015).

    Args:
        student, teacher: [T, d].
        text: [C, d], used where `kl_space` is "logits".

    Returns:
        sum over tokens, and their number.
    """
    teacher = teacher.detach()
    if config.kl_space == "logits":
        student, teacher = student @ text.T, teacher @ text.T
    p = F.log_softmax(student / config.kl_temperature, dim=1)
    q = F.log_softmax(teacher / config.kl_temperature, dim=1)
    if config.kl_direction == "student":
        p, q = q, p
    total = F.kl_div(p, q, reduction="sum", log_target=True) * config.kl_temperature**2
    return total, total.new_tensor(float(len(student)))
