"""Values of metrics from outputs, in shards as a run sums them, for tests of metrics."""

import numpy as np

from dbp import nn
from dbp.cost.all_outputs import AllOutputs
from dbp.metrics import MetricSet, Predictions, TargetForm, as_metrics
from dbp.parallel import OneProcess
from dbp.run.fitted_metrics import targets_sample

RNG = np.random.default_rng(7)
CLASSES = 4
SCORES = np.round(RNG.standard_normal((60, CLASSES)), 1)  # with ties
LABELS = RNG.integers(0, CLASSES - 1, 60)  # of which the last class is none
WEIGHTS = RNG.random(60) * (RNG.random(60) < 0.8)
YES = (RNG.random((60, 3)) < 0.4).astype(float)
NUMBERS = 300 + 0.5 * RNG.standard_normal((60, 3))


def fitted(metrics, loss, outputs, targets, names=()):
    """Return metrics fitted to these outputs and targets."""
    form = TargetForm.of(loss, outputs.shape[1:])
    sample = targets_sample(form, outputs.shape[1:], targets[:1], outputs.dtype)
    form = TargetForm(form.loss, form.kind, form.count, tuple(names), sample)
    return MetricSet.of(as_metrics(metrics), form)


def values(metrics, loss, outputs, targets, weights=None, names=(), pieces=3):
    """Return the values and tables of metrics, summed over some pieces of the examples."""
    found = fitted(metrics, loss, outputs, targets, names)
    sums, weight, kept = np.zeros(found.width), 0.0, AllOutputs(found.rankings, OneProcess())
    for rows in np.array_split(np.arange(len(outputs)), pieces):
        own = None if weights is None else weights[rows]
        part, predictions = np.empty(found.width), Predictions(outputs[rows], targets[rows], own)
        found.write_sums(part, predictions)
        sums += part
        weight += len(rows) if own is None else own.sum()
        if found.rankings:
            kept.add(predictions)
    rankings = kept.values("the data") if found.rankings else {}
    return found.values(weight, sums) | rankings, found.tables(sums)


def probabilities(outputs):
    """Return the probabilities of classes, or of yes, as dbp predict writes them."""
    loss = nn.CrossEntropy() if outputs.shape[-1] == CLASSES else nn.BinaryCrossEntropy()
    return loss.predict(outputs)["probabilities"]


def same_arrays(one, other):
    """Return True if two dictionaries have the same arrays."""
    return one.keys() == other.keys() and all(np.array_equal(array, other[name]) for name, array in one.items())
