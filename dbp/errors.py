"""The errors that users see, and their exit codes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user asked for: told in one line, without a traceback, exit code 2."""

    exit_code = 2
    on_all_ranks = False  # whether every rank raises the same one, so that one of them can tell it


class UsageError(UserError):
    """A mistake in the command line, which is that of every rank."""

    on_all_ranks = True


class DataError(UserError):
    """A file holds other bytes than were written to it, or none that dbp has written."""

    exit_code = 65


class StorageError(UserError):
    """A file could not be read or written, or a disk not be used.

    Args:
        message: with the file's name.
        reason: the system's answer alone, by which the same failure of another file is recognized.
    """

    exit_code = 74

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason or message


class NotFiniteError(UserError):
    """The cost or its gradient became infinite or not a number; the weights were left as they were."""

    exit_code = 70
    on_all_ranks = True  # seen in the sum over all ranks


class DivergedError(UserError):
    """Nodes no longer have the same weights."""

    exit_code = 70
    on_all_ranks = True  # compared by all


# What other frameworks call it, and people type.
ALIASES = {
    "avgpool": "average_pool2d",
    "avg_pool": "average_pool2d",
    "bce": "binary_cross_entropy",
    "bn": "batch_norm",
    "ce": "cross_entropy",
    "conv": "conv2d",
    "convolution": "conv2d",
    "deconv": "conv_transpose2d",
    "eps": "epsilon",
    "fc": "dense",
    "features": "units",
    "hidden": "units",
    "kernel_initializer": "initializer",
    "kernel_size": "size",
    "kl": "kullback_leibler",
    "kld": "kullback_leibler",
    "l1": "mean_absolute_error",
    "l2": "mean_squared_error",
    "linear": "dense",
    "lr": "learning_rate",
    "mae": "mean_absolute_error",
    "maxpool": "max_pool2d",
    "max_pool": "max_pool2d",
    "mse": "mean_squared_error",
    "multi_head_attention": "attention",
    "nll": "cross_entropy",
    "num_epochs": "epochs",
    "num_heads": "heads",
    "out_channels": "filters",
    "out_features": "units",
    "p": "rate",
    "softmax_cross_entropy": "cross_entropy",
    "swish": "silu",
    "xavier": "glorot_uniform",
    "kaiming": "he_normal",
}


def nearest(name: object, valid: Iterable[str]) -> str | None:
    """The valid name that is meant, if one is near: by its last part after a dot, in small letters, or as an alias."""
    before, dot, last = str(name).rpartition(".")
    lasts = {n.removeprefix(before + dot).lower(): n for n in valid if n.startswith(before + dot)}
    word = last.lower().replace("-", "_").replace(" ", "_")
    bare = {n.replace("_", ""): n for n in lasts}
    alias = ALIASES.get(word)
    if word in lasts or alias in lasts:
        return lasts[word if word in lasts else str(alias)]
    if (plain := word.replace("_", "")) in bare:
        return lasts[bare[plain]]
    near = difflib.get_close_matches(word, lasts, n=1, cutoff=0.6)
    return lasts[near[0]] if near else None


def remedy(name: object, valid: Iterable[str]) -> str:
    """What to write instead of an unknown name: the nearest valid one, or else one of them all."""
    names = sorted(valid)
    near = nearest(name, names)
    return f"did you mean {near!r}?" if near else "valid: " + ", ".join(names)


def unknown(what: str, name: object, valid: Iterable[str]) -> UserError:
    """An unknown name, with the nearest valid one if there is one that near, else with all of them."""
    return UserError(f"unknown {what} {name!r}; {remedy(name, valid)}")


ENDED = "DBP_ENDED"  # set by dbp run: a file that a rank makes at its end, if it is not killed


NOT_FINISHED = 75  # exit code of a run that is saved and to be started again (EX_TEMPFAIL)


class Stopped(SystemExit):
    """A run was asked to stop: its state is saved, and the same command goes on with it."""

    on_all_ranks = True
