"""K-FAC (Martens and Grosse 2015, Algorithm 2; Grosse and Martens 2016 for convolutions).

The direction is the gradient times the inverse of a Kronecker approximation of the Fisher matrix. Its length, and the
part of the last step that is added, minimize the quadratic model of the cost with the exact Gauss-Newton matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dbp.checks import check_at_least, check_fraction, check_positive
from dbp.errors import UserError
from dbp.optim.blockwise import cache_blocks, copy_owned
from dbp.optim.optimizer import AVERAGE, Optimizer, Outcome, State, Step, average_share
from dbp.optim.protocols import E, KroneckerFactors, MiniBatchCost, Vector

if TYPE_CHECKING:
    from dbp.optim.kronecker_inverse import KroneckerInverse

FIRST_STEPS = 3  # after each of which the factors are inverted anew, as their averages still change much
DAMPING_RATIO, FACTOR_DAMPING_RATIO = 19 / 20, math.sqrt(19 / 20)  # omega_1 and omega_2 to the power of one step
# Ratios of the decrease of the cost of all examples to the predicted one: for less damping, and for more. A step fits
# the noise of its mini-batch too. Near the end noise moves the weights about a minimum: the mean of the ratio is then 0
# with any damping, and as the limits are as far above as below, damping does not drift. A full batch has no noise.
GOOD_RATIO, BAD_RATIO, BAD_RATIO_OF_FULL_BATCH = 1 / 4, -1 / 4, 0.0
JUMP = 10  # times the predicted decrease: a rise of the cost for which a step is taken back
RAISE = 4  # factor on the damping where a step was taken back, not taken, or promises too much
MAX_ATTEMPTS = 50  # per step, each with more damping, until the model promises no more than all of the cost


@dataclass(frozen=True)
class KFAC(Optimizer):
    """Steps along the gradient times the inverse of a Kronecker approximation of the Fisher matrix.

    The source is Martens and Grosse 2015, Algorithm 2, with their names of the settings in brackets.

    Args:
        damping: the initial damping [lambda] of the quadratic model, added to the diagonal of its matrix.
        part: the part of the mini-batch that the products with the Gauss-Newton matrix use [tau_2].
        factor_part: the part of the mini-batch that the factors are computed from [tau_1].
        decay: the largest decay of the running averages of the factors.
        momentum: whether a step contains a part of the last one.
        damping_interval: steps between adaptations of the damping [T_1].
        factor_damping_interval: steps between adaptations of the damping of the factors [T_2].
        inverse_interval: steps between inversions of the factors [T_3].
        factors_up_to: the largest number of rows of a factor; weights with larger ones have a diagonal instead.
        average: the decay of an exponential moving average of the weights [xi], which is used in place of the weights
            for evaluation and in the result; 0 for none.
    """

    kind: ClassVar[str] = "kfac"
    length_name: ClassVar[str] = "damping"
    scratch = ("gradient", "direction", "trial")
    damping: float = 1e-3
    part: float = 1.0
    factor_part: float = 0.5
    decay: float = 0.95
    momentum: bool = True
    damping_interval: int = 5
    factor_damping_interval: int = 20
    inverse_interval: int = 20
    factors_up_to: int = 8192
    average: float = 0.0

    def __post_init__(self) -> None:
        check_positive(damping=self.damping)
        for name in ("part", "factor_part"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name} must be above 0 and at most 1, but is {getattr(self, name)}")
        check_fraction(decay=self.decay, average=self.average)
        check_at_least(1, damping_interval=self.damping_interval, inverse_interval=self.inverse_interval)
        check_at_least(1, factor_damping_interval=self.factor_damping_interval, factors_up_to=self.factors_up_to)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Name the last step, and the average of the weights if there is one."""
        return ("step", AVERAGE) if self.average else ("step",)

    def average_share(self, number: int) -> float:
        """Return the share of an update in the average of the weights."""
        return average_share(self.average, number)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Return the initial dampings, the number of updates, and of the last one its cost and expected decrease.

        The factors follow after the first step.
        """
        dampings = {"damping": np.array([self.damping]), "factor_damping": np.array([math.sqrt(self.damping)])}
        return dampings | {"updates": np.array([0]), "decrease": np.zeros(1), "cost": np.zeros(1)}

    def step(self, cost: MiniBatchCost[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:  # noqa: ARG002
        """Update the factors and take a step; see Optimizer.step()."""
        evaluation = cost.value_and_gradient(weights)
        with cost.space.changing:
            step = _KFACStep(self, cost, weights, state, evaluation, number)
            if not step.accepts_last():
                step.take_back()
            if not step.evaluation.finite:
                return Step(step.evaluation, Outcome.NOT_FINITE, reason="begin with other weights")
            return step.run()


def decrease_of_all(seen: float, predicted: float, steps_per_epoch: int) -> float:
    """Return an estimate of how much a step has lowered the cost of all examples.

    Args:
        seen: by how much it has lowered the cost of a mini-batch that it was not made for.
        predicted: by how much it lowers the cost of its own mini-batch, as the model says.
        steps_per_epoch: the mini-batches that together hold every example once; 0 if that is not known.
    """
    if steps_per_epoch == 1:  # both are the same mini-batch
        return seen
    # Without its own mini-batch the estimate would be too low, as the noise of the others of an epoch is, in sum, the
    # opposite of its own.
    own = 1 / steps_per_epoch if steps_per_epoch else 0.0
    return own * predicted + (1 - own) * seen


class _Model(NamedTuple):
    """The minimum of the quadratic model along the direction and the last step.

    Args:
        length: of the direction [alpha].
        momentum: the part of the last step [mu].
        decrease: of the cost, as the model predicts.
    """

    length: float
    momentum: float
    decrease: float


class _KFACStep(Generic[E]):
    """One step of K-FAC; the arguments are those of KFAC.step(), and cost and gradient at the weights."""

    def __init__(
        self, optimizer: KFAC, cost: MiniBatchCost[E], weights: Vector, state: State, evaluation: E, number: int
    ):
        self.optimizer, self.cost_function, self.weights, self.state = optimizer, cost, weights, state
        self.number = number
        self.space, self.evaluation = cost.space, evaluation
        self.gradient, self.direction = state.scratch["gradient"], state.scratch["direction"]
        self.trial, self.last = state.scratch["trial"], state.vectors["step"]
        self.products, self.evaluations = 0, 1
        self.updates = int(state.numbers["updates"][0]) + 1

    def accepts_last(self) -> bool:
        """Return False if the last step led to a cost or a gradient that is not finite, or to a much higher cost."""
        if not self._decrease:
            return True
        if not self.evaluation.finite:
            return False
        is_due = (self.updates - 1) % self.optimizer.damping_interval == 0
        if not is_due and not self._jumps_from(float(self.state.numbers["cost"][0])):
            return True
        self._write_weights_before(self.trial)
        self.evaluations += 1
        before = self.cost_function.value(self.trial)
        if is_due:
            steps, seen = self.cost_function.steps_per_epoch, before - self.evaluation.cost
            self._adapt_damping(decrease_of_all(seen, self._decrease, steps) / self._decrease, full_batch=steps == 1)
        return not self._jumps_from(before)

    def _jumps_from(self, before: float) -> bool:
        """Return True if the cost is far higher than before the last step, and not just that of other examples."""
        return self.evaluation.cost - before > max(JUMP * self._decrease, abs(before) / 2)

    def take_back(self) -> None:
        """Undo the last step, and raise the damping."""
        self._write_weights_before(self.weights)
        self._forget_last()
        self.evaluation = self.cost_function.value_and_gradient(self.weights)
        self.evaluations += 1

    def run(self) -> Step[E]:
        """Take the step."""
        optimizer, numbers = self.optimizer, self.state.numbers
        copy_owned(self.space, self.evaluation.gradient, self.gradient)
        self.space.fence(self.gradient)
        factors = self.cost_function.kronecker_factors(self.weights, optimizer.factor_part, optimizer.factors_up_to)
        if not factors.finite:
            return self._stay()
        self.inverse = self._averaged(factors)
        self.curvature = self.cost_function.curvature(self.weights, optimizer.part)
        model = self._believable(self._best_model())
        numbers["updates"] = np.array([self.updates])
        if not (model.decrease > 0 and math.isfinite(model.decrease)):
            return self._stay()
        for block in cache_blocks(self.space.owned):
            self.last[block] *= model.momentum
            self.last[block] += model.length * self.direction[block]
            self.weights[block] += self.last[block]
        numbers |= {"decrease": np.array([model.decrease]), "cost": np.array([self.evaluation.cost])}
        return self._end()

    def _stay(self) -> Step[E]:
        """Leave the weights as they are, and raise the damping."""
        self._forget_last()
        return self._end()

    def _forget_last(self) -> None:
        """Set the last step to zero, and raise the damping."""
        for part in self.space.owned:
            self.last[part] = 0
        self.state.numbers["decrease"] = np.zeros(1)
        self._set_damping(RAISE * self._damping)

    def _write_weights_before(self, target: Vector) -> None:
        """Write the weights before the last step."""
        for block in cache_blocks(self.space.owned):
            np.subtract(self.weights[block], self.last[block], out=target[block])

    def _end(self) -> Step[E]:
        if self.optimizer.average:
            average, share = self.state.vectors[AVERAGE], self.optimizer.average_share(self.number)
            for block in cache_blocks(self.space.owned):
                average[block] += share * (self.weights[block] - average[block])
        return Step(self.evaluation, Outcome.CONTINUES, self.evaluations, self.products, self._damping)

    @property
    def _decrease(self) -> float:
        """Return how much the last step was to lower the cost; 0 if there was none."""
        return float(self.state.numbers["decrease"][0])

    @property
    def _damping(self) -> float:
        return float(self.state.numbers["damping"][0])

    def _set_damping(self, damping: float) -> None:
        self.state.numbers["damping"] = np.array([damping])

    # --- factors ----------------------------------------------------------------------------------------

    def _averaged(self, factors: KroneckerFactors) -> KroneckerInverse:
        """Update the running averages of the factors (section 5)."""
        derived, numbers = self.state.derived, self.state.numbers
        inverse: KroneckerInverse | None = derived.get("inverse")
        if inverse is None:
            from dbp.optim.kronecker_inverse import KroneckerInverse  # which other optimizers do not need

            inverse = derived["inverse"] = KroneckerInverse(factors, self.space)
            inverse.share(numbers)
        inverse.average(factors.total, min(1 - 1 / self.updates, self.optimizer.decay))
        return inverse

    def _best_model(self) -> _Model:
        """Choose the damping of the factors, write the direction and return the model along it (section 6.6)."""
        updates, optimizer = self.updates, self.optimizer
        # The damping of the factors stands for that of the model, so it is not below its root.
        gamma = max(float(self.state.numbers["factor_damping"][0]), math.sqrt(self._damping))
        if updates % optimizer.factor_damping_interval == 0:
            ratio = FACTOR_DAMPING_RATIO**optimizer.factor_damping_interval
            least = math.sqrt(self._damping)
            tried = [(self._model_with(g), g) for g in (max(gamma * ratio, least), gamma / ratio, gamma)]
            best, best_gamma = max(tried, key=lambda pair: pair[0].decrease)
            self.state.numbers["factor_damping"] = np.array([best_gamma])
            return best if best_gamma == gamma else self._model_with(best_gamma)
        if updates % optimizer.inverse_interval == 0 or updates <= FIRST_STEPS:
            return self._model_with(gamma)
        return self._model_with(gamma, invert=False)

    def _model_with(self, gamma: float, invert: bool = True) -> _Model:
        """Write the direction with this damping of the factors, and return the model along it."""
        if invert:
            self.inverse.invert(gamma)
        self.inverse.write_direction(self.gradient, gamma, self.direction)
        return self._model()

    # --- the quadratic model ------------------------------------------------------------------------------

    def _model(self) -> _Model:
        """Return the minimum of the model along the direction and the last step (sections 6.4 and 7)."""
        along = [self.direction]
        if self.optimizer.momentum and self.updates > 1:
            along.append(self.last)
        self.products += len(along)
        products = self.space.dots(along, [self.gradient, *along])
        self._slopes, self._squares = products[:, 0], products[:, 1:]
        self._forms = self.curvature.gauss_newton_forms(along)
        return self._minimum()

    def _minimum(self) -> _Model:
        """Return the minimum of the model with the damping as it is now."""
        matrix, slopes = self._forms + self._damping * self._squares, self._slopes
        if len(slopes) == 2 and not matrix[1, 1] > 0:  # the last step was none
            matrix, slopes = matrix[:1, :1], slopes[:1]
        if not (np.isfinite(matrix).all() and np.isfinite(slopes).all() and (matrix.diagonal() > 0).all()):
            return _Model(0.0, 0.0, math.nan)
        scale = np.sqrt(matrix.diagonal())
        found = -np.linalg.lstsq(matrix / scale / scale[:, None], slopes / scale)[0] / scale
        decrease = -float(slopes @ found + found @ matrix @ found / 2)
        return _Model(float(found[0]), float(found[1]) if len(found) > 1 else 0.0, decrease)

    def _believable(self, model: _Model) -> _Model:
        """Return a model that promises no more than all of the cost, with more damping if need be.

        Where losses are nearly flat by the outputs, as those of classes that are certain, the model knows no limit.
        """
        attempts = 0
        while model.decrease > abs(self.evaluation.cost) and attempts < MAX_ATTEMPTS:
            self._set_damping(RAISE * self._damping)
            model, attempts = self._minimum(), attempts + 1
        return model

    def _adapt_damping(self, achieved: float, full_batch: bool) -> None:
        """Damp less if the last step lowered the cost, more if it raised it (section 6.5).

        Args:
            achieved: the ratio of the actual to the predicted decrease of the cost of all examples.
            full_batch: True if every mini-batch holds all examples.
        """
        ratio = DAMPING_RATIO**self.optimizer.damping_interval
        if achieved > GOOD_RATIO:
            self._set_damping(self._damping * ratio)
        elif not achieved >= (BAD_RATIO_OF_FULL_BATCH if full_batch else BAD_RATIO):
            self._set_damping(self._damping / ratio)
