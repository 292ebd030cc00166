"""Cache to model to numbers: the sparse network, the correlation heads, the losses and the ablation of Table 2."""
