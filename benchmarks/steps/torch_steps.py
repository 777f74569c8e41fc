"""PyTorch's side: DistributedDataParallel where torchrun started it, else one process with two threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812  the name that everyone gives it
from cases import CASES, CLASSES, RANKS, TOKENS, Case
from measure import Alone, Ranks, Report, Step, take_first_steps
from torch import nn
from torch_layers import model_of

# The settings of DistributedDataParallel that a user who reads its manual takes; "plain" leaves them out.
TUNED = {"gradient_as_bucket_view": True, "static_graph": True}


class Gloo:
    """The processes that torchrun started."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value."""
        values = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return values


def channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an example with channels first."""
    return (shape[-1], *shape[:-1])


def data_of(case: Case, examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the inputs and targets of one mini-batch."""
    if case.language:
        tokens = torch.randint(0, TOKENS, (examples, case.shape[0] + 1))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    x = torch.randn(examples, *channels_first(case.shape))
    return x, x if case.autoencoder else torch.randint(0, CLASSES, (examples,))


def cost_of(case: Case, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean of the losses, over the positions too if each has one."""
    if case.autoencoder:
        return F.mse_loss(outputs, targets)
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def step_of(case: Case, examples: int, channels_last: bool, ddp: dict[str, bool] | None) -> Step:
    """Return a training step on one mini-batch.

    Args:
        case: what is trained.
        examples: of this process.
        channels_last: the layout of images in memory.
        ddp: arguments of DistributedDataParallel; None for one process.
    """
    torch.manual_seed(0)
    x, targets = data_of(case, examples)
    model: nn.Module = model_of(case.network, x[:1])
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if ddp is not None:
        model = nn.parallel.DistributedDataParallel(model, **ddp)
    optimizer = (
        torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        if case.adam
        else torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    )

    def step() -> None:
        optimizer.zero_grad()
        cost_of(case, model(x), targets).backward()
        optimizer.step()

    return step


def measure_ddp(report: Report, ranks: Ranks) -> None:
    """Measure DistributedDataParallel, tuned and by default, and for images with channels last."""
    for name, case in report.cases.items():
        report.add("DDP", name, step_of(case, case.batch, False, TUNED), ranks)
        if report.args.memory:
            continue
        report.add("DDP plain", name, step_of(case, case.batch, False, {}), ranks)
        if case.images:
            report.add("DDP channels last", name, step_of(case, case.batch, True, TUNED), ranks)


def measure_one_process(report: Report, ranks: Ranks) -> None:
    """Measure the same global work in one process."""
    for name, case in report.cases.items():
        examples = case.batch * RANKS
        report.add("PyTorch", name, step_of(case, examples, False, None), ranks)
        if case.images and not report.args.memory:
            report.add("PyTorch channels last", name, step_of(case, examples, True, None), ranks)


def versions() -> dict[str, str]:
    """Return the versions of PyTorch and the libraries that it was built with."""
    built = [line.strip(" -\n") for line in torch.__config__.show().splitlines()]
    libraries = [line for line in built if "Math Kernel Library" in line or "MKL-DNN" in line or "oneDNN" in line]
    libraries.append(f"CPU capability {torch.backends.cpu.get_cpu_capability()}")
    return {"torch": torch.__version__, "torch kernels": "; ".join(libraries)}


@contextlib.contextmanager
def gloo() -> Iterator[Ranks]:
    """Yield the processes of this job, within a with statement."""
    dist.init_process_group("gloo")
    try:
        yield Gloo()
    finally:
        dist.destroy_process_group()


def main() -> None:
    """Measure each case in turn."""
    report, distributed = Report(__doc__), "WORLD_SIZE" in os.environ
    torch.set_num_threads(1 if distributed else RANKS)
    report.versions = versions()
    with gloo() if distributed else contextlib.nullcontext(Alone()) as ranks:
        if report.args.memory:  # what PyTorch loads at the first step is no memory of the step
            take_first_steps(step_of(CASES["mlp-small"], 1, False, TUNED if distributed else None))
        report.start_counting_memory()
        (measure_ddp if distributed else measure_one_process)(report, ranks)
        report.write(ranks)


if __name__ == "__main__":
    main()
