"""The passes over data that dbp and PyTorch make with a trained model, described without any framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cases import CASES, Case

EXAMPLES = {"cnn": 1024, "vgg": 256, "resnet": 256, "mlp": 8192, "autoencoder-adam": 4096}
EVALUATE, PREDICT = WORK = ("eval", "predict")
MEMORY, FILE = SOURCES = ("memory", "file")


@dataclass(frozen=True)
class Pass:
    """A pass over examples.

    Args:
        name: of the network's case.
        work: "eval" for cost and metrics, "predict" for the outputs.
        source: "memory", or "file" for an HDF5 file of which some rows are read at a time.
    """

    steps: ClassVar[int] = 1  # passes of one repetition
    name: str
    work: str
    source: str

    @classmethod
    def of(cls, text: str) -> Pass:
        """Return the pass of a name such as cnn/eval/file."""
        return cls(*text.split("/"))

    @property
    def case(self) -> Case:
        """Return the network and its data."""
        return CASES[self.name]

    @property
    def examples(self) -> int:
        """Return the number of examples."""
        return EXAMPLES[self.name]
