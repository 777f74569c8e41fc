"""Metrics of classes, and of answers yes or no, that follow from counts of right and wrong predictions.

One pass over the outputs counts, with the example weights, for each class or output how often it was predicted rightly,
predicted at all, and the target. Precision, recall, F1 and balanced accuracy follow from these counts, as in
scikit-learn 1.9: a score whose denominator is zero is 0, and macro averages leave out classes that are neither target
nor predicted. An output that is not finite predicts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from dbp.errors import UserError, unknown
from dbp.metrics.fitting import AVERAGES, MACRO, MICRO, check_targets_are, columns_of_each
from dbp.metrics.metric_set import LARGER, FittedMetric, Sums
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import ANSWERS, CLASSES
from dbp.types import Array

MOST_CLASSES = 256  # of a confusion matrix, as its numbers are sent to all ranks


class Counts(NamedTuple):
    """The weighted counts of each class or output, (classes,) each.

    Args:
        hits: how often it was predicted rightly.
        predicted: how often it was predicted.
        actual: how often it was the target.
        counts_always: whether a class that is neither predicted nor target counts in a macro average.
    """

    hits: Array
    predicted: Array
    actual: Array
    counts_always: bool = False

    @property
    def occurs(self) -> Array:
        """Return where a class counts in a macro average."""
        return np.ones(len(self.hits), np.bool_) if self.counts_always else self.predicted + self.actual > 0


@dataclass(frozen=True)
class ClassCounts:
    """The sums of hits, predictions and targets of each class."""

    count: int
    name: ClassVar[str] = "class_counts"

    @property
    def width(self) -> int:
        """Return the number of sums."""
        return 3 * self.count

    def of(self, found: Predictions) -> Array:
        """Return the sums over some examples."""
        targets, predicted = found.target_classes.reshape(-1), found.predicted_classes.reshape(-1)
        hits = found.right_classes.reshape(-1)
        weights = found.weights_of(found.right_classes.shape)
        weights = None if weights is None else weights.reshape(-1)
        of_hits = np.bincount(targets[hits], None if weights is None else weights[hits], self.count)
        of_predicted = np.bincount(predicted + 1, weights, self.count + 1)[1:]  # without those that predict nothing
        return np.concatenate((of_hits, of_predicted, np.bincount(targets, weights, self.count)))

    def counts(self, sums: Array) -> Counts:
        """Return the counts in these sums."""
        hits, predicted, actual = sums.reshape(3, -1)
        return Counts(hits, predicted, actual)


@dataclass(frozen=True)
class AnswerCounts:
    """The sums, for each output, of right yes, predicted yes, yes, right no, and all answers."""

    count: int
    name: ClassVar[str] = "answer_counts"

    @property
    def width(self) -> int:
        """Return the number of sums."""
        return 5 * self.count

    def of(self, found: Predictions) -> Array:
        """Return the sums over some examples."""
        weights = found.weights_of(found.outputs.shape)
        yes, right = found.target_answers, found.right_answers
        predicted = (found.outputs > 0) & np.isfinite(found.outputs)
        columns = (yes & right, predicted, yes, ~yes & right, np.ones_like(yes))
        weighted = columns if weights is None else [column * weights for column in columns]
        return np.concatenate([np.sum(c.reshape(-1, self.count), axis=0, dtype=np.float64) for c in weighted])

    def counts(self, sums: Array) -> Counts:
        """Return the counts of yes in these sums."""
        hits, predicted, actual, _, _ = sums.reshape(5, -1)
        return Counts(hits, predicted, actual, counts_always=True)

    def recalls(self, sums: Array) -> Array:
        """Return the recall of yes and of no for each output, (2, outputs); NaN without any such target."""
        hits, _, actual, right_no, every = sums.reshape(5, -1)
        return np.stack([_ratio(hits, actual, np.nan), _ratio(right_no, every - actual, np.nan)])


def counts_for(form: TargetForm) -> ClassCounts | AnswerCounts:
    """Return the sums that count the classes, or the answers, of a run."""
    return ClassCounts(form.count) if form.kind == CLASSES else AnswerCounts(form.count)


def _ratio(of: Array, by: Array, without: float = 0.0) -> Array:
    """Return of / by, and another number where `by` is not positive."""
    out = np.zeros(np.shape(by)) if without == 0 else np.full(np.shape(by), without)
    return np.asarray(np.divide(of, by, out=out, where=np.greater(by, 0)))


def mean_of(values: Array) -> float:
    """Return the mean of the values that are not NaN; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if known.size else np.nan


# --- precision, recall, F1 ----------------------------------------------------------------------------


def precisions(counts: Counts) -> Array:
    """Return the share of the predictions of each class that are right."""
    return _ratio(counts.hits, counts.predicted)


def recalls(counts: Counts) -> Array:
    """Return the share of the targets of each class that are predicted."""
    return _ratio(counts.hits, counts.actual)


def f1_scores(counts: Counts) -> Array:
    """Return the harmonic mean of precision and recall of each class."""
    return _ratio(2 * counts.hits, counts.predicted + counts.actual)


Score = Callable[[Counts], Array]


def averaged(score: Score, counts: Counts, average: str) -> float:
    """Return the average of a score over the classes: macro, micro, or weighted with the targets of each class."""
    if average == MICRO:
        hits, predicted, actual = (np.sum(column, keepdims=True) for column in counts[:3])
        totals = Counts(hits, predicted, actual)
        return float(score(totals)[0])
    if average == MACRO:
        counted = score(counts)[counts.occurs]
        return float(np.add.reduce(counted) / len(counted)) if len(counted) else np.nan
    return float(_ratio(np.asarray(np.sum(score(counts) * counts.actual)), np.asarray(np.sum(counts.actual))))


@dataclass(frozen=True)
class ClassScore:
    """The base of precision, recall and F1: an average in one column, and one column for each class or output.

    Args:
        average: "macro", the mean over the classes; "micro", of all predictions together; "weighted", the mean weighted
            with the number of targets of each class. The column of another average than "macro" ends with its name. A
            single output has a single score, that of yes.
        per_class: whether each class, or each output with answers yes or no, has a column besides, with its name; none
            has where there are more than 100.
    """

    kind: ClassVar[str]
    score: ClassVar[Score]
    average: str = MACRO
    per_class: bool = True

    def __post_init__(self) -> None:
        if self.average not in AVERAGES:
            raise unknown("average", self.average, AVERAGES)

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((CLASSES, ANSWERS), self.kind, form)
        sums, score, average = counts_for(form), type(self).score, self.average
        name = self.kind if average == MACRO or form.is_binary else f"{self.kind}_{average}"
        whole = FittedMetric({name: LARGER}, sums, lambda found, _: [averaged(score, sums.counts(found), average)])
        names = columns_of_each(self.kind, form) if self.per_class else []
        columns, count = dict.fromkeys(names, LARGER), len(names)
        return [whole, *([FittedMetric(columns, sums, _each(score, sums), details=count)] if names else [])]


def _each(score: Score, sums: ClassCounts | AnswerCounts) -> Callable[[Array, float], Sequence[float]]:
    """Return the score of each class, NaN for one that is neither target nor predicted."""

    def values(found: Array, _: float) -> Sequence[float]:
        counts = sums.counts(found)
        scores: list[float] = np.where(counts.occurs, score(counts), np.nan).tolist()
        return scores

    return values


@dataclass(frozen=True)
class Precision(ClassScore):
    """The share of the predictions of a class, or of yes, that are right; see ClassScore for its settings."""

    kind: ClassVar[str] = "precision"
    score: ClassVar[Score] = staticmethod(precisions)


@dataclass(frozen=True)
class Recall(ClassScore):
    """The share of the targets of a class, or of yes, that are predicted; see ClassScore for its settings."""

    kind: ClassVar[str] = "recall"
    score: ClassVar[Score] = staticmethod(recalls)


@dataclass(frozen=True)
class F1(ClassScore):
    """The harmonic mean of precision and recall; see ClassScore for its settings."""

    kind: ClassVar[str] = "f1"
    score: ClassVar[Score] = staticmethod(f1_scores)


# --- accuracies ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BalancedAccuracy:
    """The mean recall over the classes that are targets.

    With answers yes or no it is the mean of the recalls of both: for each output in a column of its own, and the mean
    over the outputs.
    """

    kind: ClassVar[str] = "balanced_accuracy"

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((CLASSES, ANSWERS), self.kind, form)
        if form.kind == CLASSES:
            of_classes = ClassCounts(form.count)

            def balanced(found: Array, _: float) -> list[float]:
                counts = of_classes.counts(found)
                return [mean_of(recalls(counts)[counts.actual > 0])]

            return [FittedMetric({self.kind: LARGER}, of_classes, balanced)]
        sums, names = AnswerCounts(form.count), columns_of_each(self.kind, form)

        def each(found: Array, _: float) -> list[float]:
            of_outputs = [mean_of(column) for column in sums.recalls(found).T]
            return [mean_of(np.array(of_outputs)), *(of_outputs if names else [])]

        return [FittedMetric(dict.fromkeys([self.kind, *names], LARGER), sums, each, details=len(names))]


def accuracies_of_outputs(form: TargetForm) -> list[FittedMetric]:
    """Return the accuracy of each output with answers yes or no, if there are several."""
    sums, names = AnswerCounts(form.count), columns_of_each("accuracy", form)

    def each(found: Array, _: float) -> list[float]:
        hits, _predicted, _actual, right_no, every = found.reshape(5, -1)
        return [float(share) for share in _ratio(hits + right_no, every)]

    return [FittedMetric(dict.fromkeys(names, LARGER), sums, each, details=len(names))] if names else []


# --- the confusion matrix -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ConfusionSums:
    """The sums of examples by the class of the target and the class that is predicted."""

    count: int
    name: ClassVar[str] = "confusion_matrix"

    @property
    def width(self) -> int:
        """Return the number of sums."""
        return self.count**2

    def of(self, found: Predictions) -> Array:
        """Return the sums over some examples."""
        predicted, weights = found.predicted_classes.reshape(-1), found.weights_of(found.predicted_classes.shape)
        pairs = found.target_classes.reshape(-1) * self.count + predicted
        known = predicted >= 0
        chosen = None if weights is None else weights.reshape(-1)[known]
        return np.bincount(pairs[known], chosen, self.width)


@dataclass(frozen=True)
class ConfusionMatrix:
    """The table of how often each class (rows) was predicted as each class (columns), with the example weights.

    Of several outputs with answers yes or no there are as many tables of no and yes, (outputs, 2, 2). It is taken of
    validation, test and eval data, and stands in checkpoints and reports; it has no column in the history.
    """

    kind: ClassVar[str] = "confusion_matrix"

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((CLASSES, ANSWERS), self.kind, form)
        sums: Sums = AnswerCounts(form.count)
        if form.kind == CLASSES:
            if form.count > MOST_CLASSES:
                raise UserError(
                    f"metric {self.kind!r} takes at most {MOST_CLASSES} classes, but the model has {form.count}; leave "
                    "it out"
                )
            sums = ConfusionSums(form.count)

        def table(found: Array) -> Array:
            return matrix_of_classes(found) if form.kind == CLASSES else matrices_of_answers(found)

        return [FittedMetric({}, sums, lambda found, _: [], lambda found: {self.kind: table(found)})]


def matrix_of_classes(sums: Array) -> Array:
    """Return the confusion matrix (classes, classes) in the sums of ConfusionSums."""
    count = int(np.sqrt(len(sums)))
    return sums.reshape(count, count).copy()


def matrices_of_answers(sums: Array) -> Array:
    """Return the confusion matrix (2, 2) of no and yes in the sums of AnswerCounts; of several outputs, one for each.

    An output that is not finite counts as the wrong answer.
    """
    hits, _, actual, right_no, every = sums.reshape(5, -1)
    tables = np.array([[right_no, every - actual - right_no], [actual - hits, hits]])
    return np.ascontiguousarray(np.moveaxis(tables, -1, 0)) if tables.shape[-1] > 1 else tables[..., 0]
