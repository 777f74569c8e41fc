"""Classifier and Regressor, estimators of scikit-learn that dbp trains on all ranks that run the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbp import lazy
from dbp.library import library

if TYPE_CHECKING:
    from dbp.sklearn.estimators import Classifier, Regressor

__all__ = ["Classifier", "Regressor"]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else type checkers would take any name

    def __getattr__(name: str) -> Any:
        if name in __all__:
            library("sklearn", "dbp.sklearn", "scikit-learn")
        return lazy.attribute(__name__, dict.fromkeys(__all__, "estimators"), name)
