"""HICL's own objective: L_ce, L̂_ce within and across scenes, and L_kl, which join one after the other."""

import torch
from torch import nn

from hicl.devices import computes_bf16
from hicl.train.config import EXPERIMENTS, Config, LossConfig, phase_epochs
from hicl.train.distributed import Group
from hicl.train.objectives import Inputs, Term
from hicl.train.objectives.correlation import CorrelationHead, Memory, across_scenes, within_scenes
from hicl.train.objectives.losses import feedback_divergence, pair_cross_entropy, token_cross_entropy

_HEAD_SEED = 1_000_003  # a head's weights depend neither on the network's nor on whether the other head is there


class Hicl:
    """See `Objective`. The experiment of Table 2 decides which terms there are: {ce, intra, inter, kl}.

    width: d. group: the processes of the run. heads: "intra" and "inter" where the experiment has them. memory: of the
    inter-scene head, where the recipe has one.
    """

    def __init__(self, config: Config, width: int, group: Group):
        self.config, self.group = config, group
        self.experiment = EXPERIMENTS[config.experiment]
        self.attention_epoch, self.feedback_epoch = phase_epochs(config.schedule)
        self.heads: dict[str, nn.Module] = {}
        for number, name in enumerate(("intra", "inter"), start=1):
            torch.manual_seed(config.seed + number * _HEAD_SEED)
            if getattr(self.experiment, name):
                self.heads[name] = CorrelationHead(width, config.heads).to(group.device)
        self.memory: Memory | None = None
        self.kept: dict[str, nn.Module] = {}
        if self.experiment.recipe and config.recipe.memory:
            self.memory = Memory(config.heads.layers, config.recipe.memory * config.heads.tokens, width)
            self.kept = {"memory": self.memory.to(group.device)}
        self._wrapped = {name: group.wrap(head) for name, head in self.heads.items()}
        self._bf16 = config.optim.bf16 == "on" or (config.optim.bf16 == "auto" and computes_bf16(group.device.type))

    def active(self, epoch: int) -> tuple[bool, bool]:
        """Whether (L̂_ce, L_kl) are on in this epoch, counted from 0."""
        attention = self.experiment.intra and epoch >= self.attention_epoch
        return attention, self.experiment.feedback and epoch >= self.feedback_epoch

    def terms(self, inputs: Inputs) -> dict[str, Term]:
        text, batch = inputs.text, inputs.batch
        attention, feedback = self.active(batch.epoch)
        terms = {"ce": pair_cross_entropy(offset(inputs.scores, inputs), inputs.labels)}
        if not attention:
            return terms
        tokens_BMd = inputs.features_of(batch.tokens)
        outputs = self._attend(tokens_BMd)
        for name, output_BMd in outputs.items():
            logits = offset(output_BMd.float().flatten(0, 1) @ text.T, inputs)
            if inputs.targets is None:
                terms[name] = token_cross_entropy(logits, batch.token_label.flatten())
            else:
                terms[name] = pair_cross_entropy(logits, inputs.targets[batch.tokens.flatten()])
        if feedback:
            refined_BMd = outputs.get("inter", outputs["intra"])
            flat = tokens_BMd.flatten(0, 1), refined_BMd.float().flatten(0, 1)
            terms["kl"] = feedback_divergence(*flat, self.config.loss, text)
        return terms

    def _attend(self, tokens_BMd: torch.Tensor) -> dict[str, torch.Tensor]:
        """What each head makes of the tokens (Eq. 3 and 7), in the order in which they refine them."""
        with torch.autocast(tokens_BMd.device.type, torch.bfloat16, enabled=self._bf16):
            outputs = {"intra": within_scenes(self._wrapped["intra"], tokens_BMd)}
            if "inter" in self._wrapped:
                source = outputs["intra"] if self.config.heads.inter_input == "intra" else tokens_BMd
                every = across_scenes(self._wrapped["inter"], self.group.gather(source), self.memory)
                outputs["inter"] = self.group.own(every)
        return outputs

    def total(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        return weigh(terms, self.config.loss)

    def stepped(self) -> None:
        pass


def offset(logits: torch.Tensor, inputs: Inputs) -> torch.Tensor:
    """Scores [n, C] as the labels are compared with them."""
    return logits if inputs.offset is None else logits + inputs.offset


def weigh(terms: dict[str, torch.Tensor], config: LossConfig) -> torch.Tensor:
    """The mean of the active terms of {ce, intra, inter, kl} ("we use the average of the losses at each stage").

    Intra and inter are one term, L̂_ce, the mean of both outputs (METHOD 7.2 row 4). With weights other than 1 the
    mean is over the weighted terms and still divided by their number.

    A divergence near 0 in a mean of three takes a third off the gradient of the other two, as a lower learning rate
    would; `mean_over` = "labels" leaves them their weight.
    """
    active = [terms["ce"]]
    attended = [terms[name] for name in ("intra", "inter") if name in terms]
    if attended:
        active.append(config.token_weight * torch.stack(attended).mean())
    if "kl" in terms:
        feedback = config.kl_weight * terms["kl"]
        if config.mean_over == "labels":
            return torch.stack(active).mean() + feedback
        active.append(feedback)
    return torch.stack(active).mean()
