"""The check of a loss of one's own at the start of training: its derivative on a few examples of the data."""

from __future__ import annotations

from dbp.autodiff import array_of
from dbp.nn import FunctionLoss, Scope
from dbp.parallel import agree
from dbp.run.run import Run

CHECKED_EXAMPLES = 3  # of each rank


def check_own_loss(run: Run) -> None:
    """Raise UserError if the loss is a function whose derivative by the model's outputs is wrong; collective."""
    loss = run.settings.loss
    if isinstance(loss, FunctionLoss):
        run.arena.fence(run.weights)
        agree(run.comm, _check, run, loss)


def _check(run: Run, loss: FunctionLoss) -> None:
    """Check the derivative on the first examples of this rank."""
    objective, loader = run.objective, run.loader(run.sources.train, CHECKED_EXAMPLES)
    examples = next((shard for number in run.shards.mine for shard in loader.chunks(number)), None)
    if examples is None:  # a rank with nothing to do
        return
    call = objective.call(run.layout.views(run.weights), examples, None)
    loss.check_derivative(array_of(run.settings.model(Scope(call), examples.inputs)), examples.targets)
