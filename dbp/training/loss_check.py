"""The check of a loss of one's own at the start of training: its derivative on a few examples of the data."""

from __future__ import annotations

from dbp.autodiff import array_of
from dbp.nn import FunctionLoss, losses_by_target
from dbp.parallel import agree
from dbp.run.run import Run

CHECKED_EXAMPLES = 3  # of each rank


def check_own_loss(run: Run) -> None:
    """Raise UserError if the loss is a function whose derivative by the model's outputs is wrong; collective."""
    if any(isinstance(loss, FunctionLoss) for loss in losses_by_target(run.form.loss).values()):
        run.arena.fence(run.weights)
        agree(run.comm, _check, run)


def _check(run: Run) -> None:
    """Check the derivatives on the first examples of this rank."""
    objective, loader = run.objective, run.loader(run.sources.train, CHECKED_EXAMPLES)
    examples = next((shard for number in run.shards.mine for shard in loader.chunks(number)), None)
    if examples is None:  # a rank with nothing to do
        return
    outputs = objective.outputs(objective.call(run.layout.views(run.weights), examples, None), examples)
    for name, loss in losses_by_target(run.form.loss).items():
        if isinstance(loss, FunctionLoss):
            one = examples.of_target(name) if name else examples
            loss.check_derivative(array_of(outputs[name] if name else outputs), one.targets)
