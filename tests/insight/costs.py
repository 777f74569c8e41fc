"""Weights and costs of small models."""

import numpy as np

import dbp.autodiff as ad
from dbp import nn


def weights_of(model, x, seed=0):
    initial = nn.initial_parameters(model, x, seed, "float64")
    noise = np.random.default_rng(1)
    moved = {name: a + 0.1 * noise.standard_normal(a.shape) for name, a in initial.parameters.items()}
    return moved | nn.running_arrays(initial.running)


def cost_of(model, loss, parameters, x, y, weights=None):
    losses = loss(model(nn.use(parameters), x), y)
    w = np.ones(len(x)) if weights is None else weights
    if np.ndim(losses) > w.ndim:
        losses = ad.mean(losses, axis=tuple(range(w.ndim, np.ndim(losses))))
    return ad.sum_(losses * w) / w.sum()
