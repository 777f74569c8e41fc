"""A classifier and a regressor for scikit-learn, each a neural network that dbp trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from dbp.config.settings import Settings
from dbp.data import ArrayDataset
from dbp.parallel import agree, from_rank_0, ranks_of_job
from dbp.saving.start import Start
from dbp.sklearn.run_settings import settings_of
from dbp.trained.trained_model import TrainedModel
from dbp.training.fit import train
from dbp.training.in_memory import Trained, train_more
from dbp.types import Array

DTYPES = (np.float64, np.float32)  # of inputs; a run computes in the one that is given
MAX_SEED = 2**31 - 1


class _Network(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What classifier and regressor share: the parameters, and the training.

    All ranks that a launcher has started call a method together, with the same rows. They share the work, and each has
    the whole result, with the same bits on any number of ranks if `shards` is set.
    """

    default_loss = ""

    def __init__(
        self,
        layers: Sequence[Any] | None = None,
        *,
        config: str | PathLike[str] | Mapping[str, Any] | None = None,
        loss: Any = None,
        optimizer: Any = None,
        learning_rate: float | None = None,
        epochs: int | None = None,
        batch_size: int | str | None = None,
        standardize: bool = True,
        validation: float | None = None,
        patience: int = 0,
        shards: int | None = None,
        random_state: Any = 0,
    ):
        self.layers = layers
        self.config = config
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.standardize = standardize
        self.validation = validation
        self.patience = patience
        self.shards = shards
        self.random_state = random_state

    @property
    def loss_curve_(self) -> list[float]:
        """Return the cost of each epoch."""
        check_is_fitted(self)
        return self.model_.history["cost"]

    @property
    def n_iter_(self) -> int:
        """Return the number of epochs."""
        check_is_fitted(self)
        return self.model_.epoch

    def _settings(self, inputs: Array, targets: Array, weights: Array | None, outputs: int) -> Settings:
        """Return the settings of a run on checked arrays; collective."""
        comm = ranks_of_job()
        data = ArrayDataset(inputs, targets, weights, name="the training data")
        seed = from_rank_0(comm, lambda: int(check_random_state(self.random_state).randint(MAX_SEED)))
        return agree(comm, settings_of, self, data, outputs, str(inputs.dtype), seed)

    def _train(self, settings: Settings) -> None:
        self.model_: TrainedModel = train(settings, ranks_of_job(), Start(quiet=True))
        self._state: Trained | None = None

    def _train_on(self, settings: Settings) -> None:
        """Train one epoch more; collective."""
        before = getattr(self, "_state", None)
        settings = replace(settings, data=replace(settings.data, validation=None))
        self._state = train_more(settings, ranks_of_job(), 1, before)
        self.model_ = self._state.model

    def _outputs_for(self, X: Any, method: str) -> Array:  # noqa: N803  scikit-learn's name
        """Return what a method of the model returns for rows; collective."""
        check_is_fitted(self)
        inputs = validate_data(self, X, reset=False, dtype=DTYPES, ensure_min_samples=1, allow_nd=True)
        found: Array = getattr(self.model_, method)(inputs)
        return found


class Classifier(ClassifierMixin, _Network):  # type: ignore[misc]
    """A neural network that tells classes apart, for scikit-learn, trained on all ranks that run the program.

    Args:
        layers: the layers but the last, which has an output for each class; a number stands for a dense layer of so
            many units with relu. By default (100,).
        class_weight: "balanced", or a table of weights by class, with which the weights of rows are multiplied.

    Other arguments are those of Regressor, with cross_entropy as the loss.

    Attributes:
        classes_: the classes, in the order of the probabilities.
        model_: the dbp.TrainedModel.
        loss_curve_: the cost of each epoch.
        n_iter_: the number of epochs.
    """

    default_loss = "cross_entropy"

    def __init__(
        self,
        layers: Sequence[Any] | None = None,
        *,
        config: str | PathLike[str] | Mapping[str, Any] | None = None,
        loss: Any = None,
        optimizer: Any = None,
        learning_rate: float | None = None,
        epochs: int | None = None,
        batch_size: int | str | None = None,
        standardize: bool = True,
        validation: float | None = None,
        patience: int = 0,
        shards: int | None = None,
        random_state: Any = 0,
        class_weight: str | Mapping[Any, float] | None = None,
    ):
        super().__init__(
            layers,
            config=config,
            loss=loss,
            optimizer=optimizer,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            standardize=standardize,
            validation=validation,
            patience=patience,
            shards=shards,
            random_state=random_state,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  scikit-learn's name
        """Train on rows X (rows, ...) with their classes y (rows,), any labels, and weights of the rows; collective.

        Raises:
            ValueError: scikit-learn's checks refuse an argument, or there is one class only.
            UserError: a parameter breaks a rule.
        """
        inputs, labels = self._checked(X, y, reset=True)
        self.classes_: Array = np.unique(labels)
        self._train(self._settings_for(inputs, labels, sample_weight))
        return self

    def partial_fit(
        self,
        X: Any,  # noqa: N803  scikit-learn's name
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Train one epoch more on these rows, which may be others than before; collective.

        Mean and deviation of the columns are those of the first call.

        Args:
            X: rows, as in fit().
            y: their classes.
            classes: all that there are; needed in the first call.
            sample_weight: as in fit().

        Raises:
            ValueError: as in fit(), or a class was not named in the first call.
        """
        is_first = not hasattr(self, "classes_")
        if is_first and classes is None:
            raise ValueError("the first partial_fit needs classes, all that there are; pass classes=numpy.unique(y)")
        inputs, labels = self._checked(X, y, reset=is_first)
        if is_first:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes must be those of the first call ({self.classes_}), but are {classes}")
        self._train_on(self._settings_for(inputs, labels, sample_weight))
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803  scikit-learn's name
        """Return the class of each row; collective."""
        numbers = self._outputs_for(X, "predict_classes")
        return np.asarray(self.classes_[numbers.reshape(len(numbers))])

    def predict_proba(self, X: Any) -> Array:  # noqa: N803  scikit-learn's name
        """Return the probability of each class, (rows, classes); collective."""
        found = self._outputs_for(X, "predict_proba")
        return np.hstack([1 - found, found]) if found.shape[1:] == (1,) else found

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Array, Array]:  # noqa: N803
        inputs, labels = validate_data(self, X, y, reset=reset, dtype=DTYPES, allow_nd=True)
        check_classification_targets(labels)
        return inputs, column_or_1d(labels, warn=True)

    def _settings_for(self, inputs: Array, labels: Array, sample_weight: Any) -> Settings:
        """Return the settings of a run on checked arrays; collective."""
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs two classes at least, but y has 1 class, {self.classes_[0]!r}")
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"y has classes that the first call did not name: {unknown}")
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, inputs, dtype=inputs.dtype)
        if self.class_weight is not None:
            of_rows = compute_sample_weight(self.class_weight, labels)
            weights = of_rows if weights is None else weights * of_rows
        return self._settings(inputs, np.searchsorted(self.classes_, labels), weights, len(self.classes_))


class Regressor(RegressorMixin, _Network):  # type: ignore[misc]
    """A neural network that predicts numbers, for scikit-learn, trained on all ranks that run the program.

    Args:
        layers: the layers but the last, which has an output for each target; a number stands for a dense layer of so
            many units with relu. By default (100,).
        config: a TOML config, or its table, with the whole model, loss, optimizer and more; its data and folder are not
            used.
        loss: a loss or its name; by default that of the config, or mean_squared_error.
        optimizer: an optimizer or its name; by default that of the config, or Adam.
        learning_rate: of the optimizer, in place of its own.
        epochs: passes over the rows; by default those of the config, or 100.
        batch_size: rows of a step over all ranks, or "all"; by default that of the config, or 32.
        standardize: subtract the mean of each column and divide by its deviation, of targets too.
        validation: the fraction of the rows that is held out to measure each epoch.
        patience: epochs without a better cost after which the training ends; 0 for never.
        shards: parts of a mini-batch, on which the bits depend; by default those of the config, or one a rank.
        random_state: seed of weights and order; None for another one each time.

    Attributes:
        model_: the dbp.TrainedModel.
        loss_curve_: the cost of each epoch, of standardized targets if they are.
        n_iter_: the number of epochs.
    """

    default_loss = "mean_squared_error"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  scikit-learn's name
        """Train on rows X (rows, ...) with their targets y, (rows,) or (rows, targets), and weights; collective.

        Raises:
            ValueError: scikit-learn's checks refuse an argument.
            UserError: a parameter breaks a rule.
        """
        self._train(self._settings_for(X, y, sample_weight, reset=True))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  scikit-learn's name
        """Train one epoch more on these rows, which may be others than before; collective.

        Mean and deviation of columns and targets are those of the first call. Arguments and errors: those of fit().
        """
        self._train_on(self._settings_for(X, y, sample_weight, reset=not hasattr(self, "model_")))
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803  scikit-learn's name
        """Return the prediction for each row, of the shape of the targets; collective."""
        found = self._outputs_for(X, "predict")
        return found[:, 0] if self._is_single else found

    def _settings_for(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> Settings:  # noqa: N803
        """Return the settings of a run on arrays that are checked here; collective."""
        inputs, targets = validate_data(
            self, X, y, reset=reset, dtype=DTYPES, allow_nd=True, multi_output=True, y_numeric=True
        )
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
        self._is_single = targets.ndim == 1
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, inputs, dtype=inputs.dtype)
        outputs = 1 if self._is_single else targets.shape[1]
        return self._settings(inputs, targets.astype(inputs.dtype, copy=False), weights, outputs)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
