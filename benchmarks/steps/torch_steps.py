"""PyTorch's side: DistributedDataParallel where torchrun started it, else one process with two threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812  the name that everyone gives it
from cases import CASES, CLASSES, RANKS, Case, Layer
from measure import Alone, Ranks, Report, Step, take_first_steps
from torch import nn

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


def modules_of(layer: Layer, inputs: int) -> Iterator[nn.Module]:
    """Yield PyTorch's modules for a layer with a number of inputs or channels."""
    if layer.kind == "dense":
        yield nn.Linear(inputs, layer.size)
    elif layer.kind == "conv":
        yield nn.Conv2d(inputs, layer.size, 3, padding=layer.padding)
    elif layer.kind == "pool":
        yield nn.MaxPool2d(2)
    else:
        yield nn.Flatten()
    if layer.relu and layer.kind in ("dense", "conv"):
        yield nn.ReLU()


def network_of(case: Case) -> nn.Sequential:
    """Return the case's network; a forward pass of one example finds the number of inputs of each layer."""
    modules = []
    x = torch.zeros(1, *channels_first(case.shape))
    for layer in case.network:
        for module in modules_of(layer, x.shape[1]):
            modules.append(module)
            with torch.no_grad():
                x = module(x)
    return nn.Sequential(*modules)


def channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an example with channels first."""
    return (shape[-1], *shape[:-1])


def step_of(case: Case, examples: int, channels_last: bool, ddp: dict[str, bool] | None) -> Step:
    """Return a training step on one mini-batch.

    Args:
        case: what is trained.
        examples: of this process.
        channels_last: the layout of images in memory.
        ddp: arguments of DistributedDataParallel; None for one process.
    """
    torch.manual_seed(0)
    model, x = network_of(case), torch.randn(examples, *channels_first(case.shape))
    targets = x if case.autoencoder else torch.randint(0, CLASSES, (examples,))
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if ddp is not None:
        model = nn.parallel.DistributedDataParallel(model, **ddp)
    optimizer = (
        torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        if case.adam
        else torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    )
    loss = F.mse_loss if case.autoencoder else F.cross_entropy

    def step() -> None:
        optimizer.zero_grad()
        loss(model(x), targets).backward()
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
        if case.images:
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
        if distributed and report.args.memory:  # what PyTorch loads at the first step is no memory of the step
            take_first_steps(step_of(CASES["mlp-small"], 1, False, TUNED))
        report.start_counting_memory()
        (measure_ddp if distributed else measure_one_process)(report, ranks)
        report.write(ranks)


if __name__ == "__main__":
    main()
