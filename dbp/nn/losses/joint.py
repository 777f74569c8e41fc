"""The loss of several targets by name: a loss for each of them, and how much its cost counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dbp.checks import check_at_least
from dbp.errors import UserError
from dbp.nn.losses.loss import Loss
from dbp.text import brief, shortened


@dataclass(frozen=True)
class TargetLoss:
    """The loss of one of several targets.

    Args:
        loss: of the target.
        weight: factor on its mean loss in the cost, 0 or positive.
    """

    loss: Loss
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(0, weight=self.weight)
        object.__setattr__(self, "weight", float(self.weight))


@dataclass(frozen=True)
class JointLoss:
    """The losses of several targets, by name.

    The cost is sum_t(c_t cost_t) with the weight c_t of the loss of a target t, and the mean cost_t of its losses,
    weighted with the example weights of this target.

    Args:
        parts: by the name of the target.
    """

    kind: ClassVar[str] = "joint"
    default_metrics: ClassVar[tuple[str, ...]] = ()
    parts: Mapping[str, TargetLoss] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("loss must have a loss for each target, but has none; name them, such as { energy = ... }")
        for name in self.parts:
            if not isinstance(name, str) or not name.isidentifier():
                raise UserError(f"the name of a target must be an identifier, such as energy, but is {brief(name)}")
            if name == "kind":
                raise UserError("a target must not have the name kind, by which a loss is chosen; rename it")
        if not any(part.weight for part in self.parts.values()):
            raise UserError(f"loss has weight 0 for {shortened([*self.parts])}, so that nothing is trained; raise one")

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the weight of each target's loss."""
        return tuple(part.weight for part in self.parts.values())

    def loss_of(self, target: str) -> Loss:
        """Return the loss of a target."""
        return self.parts[target].loss

    def named(self, outputs: Any) -> Any:
        """Return a model's outputs by name: a single one is that of the only target."""
        return dict(outputs) if isinstance(outputs, Mapping) else dict.fromkeys(self.parts, outputs)

    def with_losses(self, losses: Mapping[str, Loss]) -> JointLoss:
        """Return this loss with other losses for some targets."""
        changed = {name: TargetLoss(losses.get(name, part.loss), part.weight) for name, part in self.parts.items()}
        return JointLoss(changed)
