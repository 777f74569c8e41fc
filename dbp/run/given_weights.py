"""The initial weights that the settings of a run name: read and checked by rank 0, before their vectors exist."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from dbp.config.initial_weights import InitialWeights, arrays_of
from dbp.config.settings import Settings
from dbp.data import Meaning, meaning_differences, parse_meaning, role_of
from dbp.errors import UserError, remedy
from dbp.nn import InitialParameters, RunningMoments, check_model_weights, running_arrays
from dbp.nn.name_patterns import is_match, matching_names
from dbp.nn.rename import renamed
from dbp.parallel import Arena, Communicator, from_rank_0
from dbp.text import shortened
from dbp.types import Array

MOST_NAMES = 6  # of weights that one line names
LEAVE_OUT = "leave it out of weights.only, and it is drawn from the seed"
TAKE_PART = 'take those that fit by their names, weights = { from = ..., only = ["conv2d_*"] }'


def meaning_of(given: InitialWeights) -> Meaning | None:
    """Return what the data that weights were trained on means; None for plain arrays."""
    if given.path is None:
        return getattr(given.source, "meaning", None)
    from dbp.checkpoint import find

    with find(Path(given.path)) as found:
        return parse_meaning(found.meaning)


class GivenWeights:
    """The initial weights of a run, as the settings name them; its constructor is collective.

    Rank 0 reads and holds them. All ranks take over the running moments, which are small.

    Args:
        comm: the ranks.
        settings: of the run.
        initial: the initial parameters of the model.
        running: its running moments, which are overwritten by those given.
        now: the meaning of the training data.

    Attributes:
        warnings: what the user should know of them.
        notes: the parameters that they leave out, which are drawn from the seed, in one line.

    Raises:
        UserError: the weights do not fit the model.
    """

    def __init__(
        self,
        comm: Communicator,
        settings: Settings,
        initial: InitialParameters,
        running: Mapping[str, RunningMoments],
        now: Meaning,
    ):
        self._given, self._arrays = InitialWeights.of(settings.weights), dict[str, Array]()
        moments, self.warnings, self._drawn = from_rank_0(comm, self._read, initial, now)
        names = shortened(self._drawn, MOST_NAMES)
        self.notes = [f"drawn from the seed, not from {self._given.name}: {names}"] if self._drawn else []
        for name, array in running_arrays(running).items():
            array[...] = moments.get(name, array)

    def _read(self, initial: InitialParameters, now: Meaning) -> tuple[dict[str, Array], list[str], tuple[str, ...]]:
        """Keep the arrays that the model takes; return its running moments, warnings, and the names that are drawn."""
        found, meaning = self._source()
        needed = initial.shapes_of_weights
        self._arrays = taken = self._taken(found, needed)
        expected = {name: shape for name, shape in needed.items() if name in taken} if self._given.only else needed
        check_model_weights(expected, taken, self._given.name, LEAVE_OUT if self._given.only else TAKE_PART)
        moments = {name: taken[name] for name in running_arrays(initial.running) if name in taken}
        drawn = tuple(name for name in initial.shapes if name not in taken)
        return moments, self._warnings(meaning, now), drawn

    def _source(self) -> tuple[Mapping[str, Array], Meaning | None]:
        """Return all arrays of the source by name, and the meaning of its data."""
        if self._given.path is None:
            return arrays_of(self._given.source), meaning_of(self._given)
        from dbp.checkpoint import find

        with find(Path(self._given.path)) as found:
            return found.inference_weights(), parse_meaning(found.meaning)

    def _taken(self, found: Mapping[str, Array], needed: Collection[str]) -> dict[str, Array]:
        """Return the arrays that the settings name, under the names that they have in the model."""
        only, rename = self._given.only, self._given.rename
        old_names = renamed(found, rename, "weights.rename") if rename else {name: name for name in found}
        if not only:
            return {new: found[old] for new, old in old_names.items()}
        for name in matching_names("weights.only", only, needed):
            if name not in old_names:
                raise UserError(
                    f"{self._given.name}: {name!r} is missing, which weights.only names; {remedy(name, old_names)}"
                )
        return {new: found[old] for new, old in old_names.items() if new in needed and is_match(only, new)}

    def _warnings(self, then: Meaning | None, now: Meaning) -> list[str]:
        if then is None:
            return []
        if self._given.only:  # as what it learns now may be other targets
            then, now = ({name: what for name, what in m.items() if role_of(name) == "inputs"} for m in (then, now))
        if not (differences := meaning_differences(then, now, with_units=True)):
            return []
        return [
            f"{self._given.name} were trained on data that means something else ({'; '.join(differences)}); give this "
            "data the same order and scale, unless the training is to learn the difference"
        ]

    def write(self, arena: Arena, vector: Array, draw: Callable[[str, Array], object]) -> None:
        """Write the initial weights of a vector; collective.

        Args:
            arena: of the vector.
            vector: whose parameters are given by rank 0, or drawn.
            draw: writes the initial values of the parameter of a name.
        """
        drawn = set(self._drawn).intersection(arena.shapes)
        if drawn:
            arena.fill(vector, lambda path, out: draw(path, out) if path in drawn else None)
        if len(drawn) == len(arena.shapes):
            return
        views = arena.layout.views(vector, writable=True) if arena.comm.rank == 0 else {}
        for name, view in views.items():
            if name in self._arrays:
                view[...] = self._arrays[name]
        arena.broadcast_vector(vector)


def is_in_file(settings: Settings) -> bool:
    """Return True if the initial weights are in a file or folder, which a run that resumes does not need."""
    return InitialWeights.of(settings.weights).path is not None
