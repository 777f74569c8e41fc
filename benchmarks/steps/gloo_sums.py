"""The sum over ranks by PyTorch's all_reduce over Gloo; to be started by torchrun."""

from __future__ import annotations

import torch
import torch.distributed as dist
from measure import Report
from torch_steps import gloo
from vectors import Vector


def main() -> None:
    """Check and measure each size in turn; zeros are timed, as sums of sums would overflow."""
    report = Report(__doc__, Vector.of)
    report.versions = {"torch": torch.__version__}
    torch.set_num_threads(1)
    with gloo() as ranks:
        for name, vector in report.cases.items():
            values = torch.from_numpy(vector.of_rank(ranks.rank))
            dist.all_reduce(values)
            vector.check(values.numpy(), dist.get_world_size(), "Gloo")
            values.zero_()
            report.add("Gloo", name, lambda v=values: dist.all_reduce(v), ranks)
        report.write(ranks)


if __name__ == "__main__":
    main()
