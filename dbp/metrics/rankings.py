"""Metrics that need all outputs at once: how well scores rank the examples of a class before the others.

They are taken of validation, test and eval data. Each rank sorts the scores of its own examples; the sorted parts are
merged in the order of ranks, which is that of the examples, so values have the same bits on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from dbp.autodiff import log_softmax, sigmoid
from dbp.errors import UserError
from dbp.metrics.fitting import check_targets_are, columns_of_each
from dbp.metrics.metric_set import LARGER, Columns
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import ANSWERS, CLASSES
from dbp.types import Array


class Scores(NamedTuple):
    """Scores of some examples for one class or output, from the highest on, without examples of weight 0.

    Args:
        scores: the probability of the class, or of yes.
        hits: True where it is the target.
        weights: of the examples, in float64; empty if all are 1.
    """

    scores: Array
    hits: Array
    weights: Array

    @classmethod
    def sorted(cls, scores: Array, hits: Array, weights: Array) -> Scores:
        """Return scores from the highest on; equal ones stay in their order."""
        order = np.argsort(-scores, kind="stable")
        return cls(scores[order], hits[order], weights[order] if len(weights) else weights)

    @classmethod
    def merged(cls, parts: Sequence[Scores]) -> Scores:
        """Return the sorted scores of all parts; NumPy's stable sort merges runs that are sorted already."""
        return cls.sorted(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Curve(NamedTuple):
    """The weights of hits and of other examples whose score is at least each of the distinct scores, highest first."""

    hits: Array
    others: Array

    @classmethod
    def of(cls, found: Scores) -> Curve:
        """Return the curve of sorted scores."""
        weights = found.weights if len(found.weights) else np.ones(len(found.hits))
        ends = np.append(np.flatnonzero(np.diff(found.scores)), len(found.scores) - 1)
        hits, others = np.where(found.hits, weights, 0), np.where(found.hits, 0, weights)
        return cls(np.cumsum(hits)[ends], np.cumsum(others)[ends])


def area_under_roc(found: Scores) -> float | None:
    """Return the probability that a hit scores higher than another example; None without both.

    A tie counts one half: it is the area under the curve of true against false positive rates.
    """
    if not found.hits.any() or found.hits.all():
        return None
    hits, others = Curve.of(found)
    heights = np.append(0.0, hits[:-1]) + hits
    return float(np.sum(np.diff(others, prepend=0.0) * heights) / (2 * hits[-1] * others[-1]))


def average_precision(found: Scores) -> float | None:
    """Return the mean of the precision at each hit; None without any. Equal scores count as one rank."""
    if not found.hits.any():
        return None
    hits, others = Curve.of(found)
    return float(np.sum(np.diff(hits, prepend=0.0) * hits / (hits + others)) / hits[-1])


class Score(Protocol):
    """A number that follows from the sorted scores of a class; None if the class has no such number."""

    def __call__(self, found: Scores, /) -> float | None: ...  # noqa: D102


@dataclass(frozen=True)
class FittedRanking:
    """A metric of a run that needs all outputs.

    Args:
        columns: of its values: the mean over classes or outputs, and each of them if they have columns.
        form: of the targets.
        score: returns the value of a class or output.
        rule: what the data must have, and has not, for messages; {} stands for its name.
    """

    columns: Columns
    form: TargetForm
    score: Score = field(compare=False)
    rule: str

    @property
    def details(self) -> int:
        """Return how many columns are those of single classes or outputs."""
        return len(self.columns) - 1

    def value(self, found: Scores) -> float | None:
        """Return the number of a class; NaN if a score is not a number, and None if the class has no such number."""
        return np.nan if np.isnan(found.scores).any() else self.score(found)

    def values(self, of_classes: Sequence[float | None], data: str) -> Mapping[str, float]:
        """Return the values by column: their mean, and each of them if classes or outputs have columns.

        Args:
            of_classes: the value of each class or output; None for those that have none, which the mean leaves out.
            data: the name of the data, for messages.

        Raises:
            UserError: no class or output has a value.
        """
        known = [value for value in of_classes if value is not None]
        if not known:
            name = next(iter(self.columns))
            raise UserError(f"metric {name!r} needs {self.rule.format(data)}; leave the metric out, or take other data")
        each = [np.nan if value is None else value for value in of_classes] if len(self.columns) > 1 else []
        return dict(zip(self.columns, [float(np.mean(known)), *each], strict=True))

    def scores(self, found: Predictions) -> tuple[Array, Array, Array]:
        """Return probabilities, where they are hits, and weights, (rows, classes or outputs) each; no rows of ones.

        Of two classes it is the probability of the second alone, as both rank alike.
        """
        shape, none = (-1, self.form.count), np.empty((0, self.form.count))
        if self.form.kind == ANSWERS:
            weights = found.weights_of(found.outputs.shape)
            probabilities, hits = np.asarray(sigmoid(found.outputs)).reshape(shape), found.target_answers.reshape(shape)
            return probabilities, hits, none if weights is None else weights.reshape(shape)
        probabilities = np.exp(log_softmax(found.outputs)).reshape(shape)
        hits = found.target_classes.reshape(-1, 1) == np.arange(self.form.count)
        weights = found.weights_of(found.target_classes.shape)
        spread = none if weights is None else np.broadcast_to(weights.reshape(-1, 1), hits.shape)
        first = 1 if self.form.count == 2 else 0
        return probabilities[:, first:], hits[:, first:], spread[:, first:]


@dataclass(frozen=True)
class _Ranked:
    """The base of metrics that need all outputs."""

    kind: ClassVar[str]
    score: ClassVar[Score]
    rule: ClassVar[str]

    def fit(self, form: TargetForm) -> Sequence[FittedRanking]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((CLASSES, ANSWERS), self.kind, form)
        names = columns_of_each(self.kind, form) if form.kind == ANSWERS or form.count > 2 else []
        columns = dict.fromkeys([self.kind, *names], LARGER)
        return [FittedRanking(columns, form, type(self).score, self.rule)]


@dataclass(frozen=True)
class AUC(_Ranked):
    """The area under the receiver operating characteristic, as `roc_auc_score` of scikit-learn.

    Of more than two classes each is ranked against the rest, and the metric is the mean over the classes that the data
    has; with answers yes or no it is the mean over the outputs.
    """

    kind: ClassVar[str] = "auc"
    score: ClassVar[Score] = staticmethod(area_under_roc)
    rule: ClassVar[str] = "examples of two classes, but those of {} are all of one"


@dataclass(frozen=True)
class AveragePrecision(_Ranked):
    """The mean precision over the examples of a class, ranked by its probability; see AUC for several classes."""

    kind: ClassVar[str] = "average_precision"
    score: ClassVar[Score] = staticmethod(average_precision)
    rule: ClassVar[str] = "an example of the second class or of yes, but {} has none"
