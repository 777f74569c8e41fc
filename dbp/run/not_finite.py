"""The record of a run's steps whose cost or gradient was not finite: small, and a part of every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class NotFiniteRecord:
    """How many steps were skipped, how often the run rolled back, and which checkpoints it can roll back to.

    Only checkpoints that the settings ask for count as rollback targets. So a run takes the same way however often it
    was stopped, killed or resumed in between.

    Args:
        skipped_steps: steps skipped since the start of the run.
        skipped_in_a_row: steps skipped since the last update.
        last_checkpoint_step: the step of the last checkpoint that the settings asked for.
        previous_checkpoint_step: the step of the checkpoint before it.
        failed_step: the latest step after which the run rolled back.
        rollbacks: rollbacks since the run last passed the failed step.
        rate_factor: the factor on the learning rate that all rollbacks have led to.
    """

    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    last_checkpoint_step: int = 0
    previous_checkpoint_step: int = 0
    failed_step: int = 0
    rollbacks: int = 0
    rate_factor: float = 1.0

    def after_step(self, step: int) -> None:
        """Note that the weights were updated in a step."""
        self.skipped_in_a_row = 0
        if step > self.failed_step:
            self.rollbacks = 0

    def after_skipped_step(self) -> None:
        """Count a step that changed nothing."""
        self.skipped_steps += 1
        self.skipped_in_a_row += 1

    def mark_checkpoint(self, step: int) -> None:
        """Note that the settings ask for a checkpoint after this step."""
        if self.last_checkpoint_step != step:
            self.previous_checkpoint_step, self.last_checkpoint_step = self.last_checkpoint_step, step

    def rollback_targets(self) -> set[int]:
        """Return the steps of the checkpoints that the run may have to roll back to."""
        return {self.last_checkpoint_step, self.previous_checkpoint_step}

    def rollback_target(self, step: int) -> int | None:
        """Return the step to roll back to from another step; None if there is no checkpoint from before it.

        Every second rollback in a row goes to the previous checkpoint: the last one may hold weights that already
        grow towards infinity.
        """
        targets = [s for s in (self.last_checkpoint_step, self.previous_checkpoint_step) if s < step]
        return targets[min(self.rollbacks % 2, len(targets) - 1)] if targets else None

    def after_rollback(self, before: NotFiniteRecord, step: int, factor: float) -> None:
        """Count a rollback in this record, which was restored with the checkpoint.

        Args:
            before: the record at the failed step.
            step: the failed step.
            factor: the factor on the learning rate, besides those of earlier rollbacks.
        """
        self.failed_step = max(before.failed_step, step)
        self.rollbacks = before.rollbacks + 1
        self.previous_checkpoint_step = min(self.last_checkpoint_step, before.previous_checkpoint_step)
        self.rate_factor = before.rate_factor * factor
