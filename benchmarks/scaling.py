"""Scaling of a training step over ranks and hosts, and predictions of a model for larger clusters.

    python benchmarks/scaling.py [--case mlp-adam] [--ranks 16,32,64] [--rate 1gbit] [--hosts 2,4] [--json FILE]

On one machine: the time of a step with 1, 2, ... ranks up to the number of cores, each with as many examples as in
the case (weak scaling), and all together with as many as two ranks have (strong scaling). Then with more ranks than
cores (--ranks): a step of the same mini-batch in as many shards as there are most ranks, beside the same on as many
ranks as cores; what a barrier takes while cores are shared, dbp's within the node and MPI's; the memory of a rank; and
whether the weights have the same bits. Over emulated hosts, joined by links of that speed (see hosts.py; left out where
namespaces are not permitted): the time of a step with one rank per host, beside what the link alone takes for the bytes
of the step, PyTorch DDP over the same link, and the model.

The model: backward hands over its first bucket after `first` seconds; from then on each host sends, and receives at
the same time, 2 (N - 1) / N of the gradient, at the bandwidth that plain TCP reached on that link, while the rest is
computed, and then the weights of one bucket after the other are updated. A rank works `message` seconds for each
message; many hosts sum in groups where these need fewer (dbp/parallel/vectors/node_groups.py). Each host tells all
others a few scalars:

    step = max(compute + update, first + bytes / bandwidth + update of the last bucket,
               first + messages * message + update of the last bucket)
           + 4 latencies + N * (64 bytes / bandwidth + 1 microsecond)

Computing is taken from one rank alone, and slower by as much as ranks share cores; the time of a message from ranks of
this machine that take themselves for nodes of their own (DBP_NODE_SIZES). The parameters are printed, so that the table
for larger clusters, with one rank and with 64 on a host, can be computed anew for other machines.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from commands import Notes, carry_out, counts, footnotes, machine, parsed, parser, say
from programs import STEPS, Program, has_torch, own_program
from rounds import measured_or_noted
from scaling_model import RANKS, Model, clusters_table
from steps.cases import CASES
from tables import line, number

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests.hosts import Hosts, environment, why_not

EMULATED = 16  # nodes of one rank on this machine, for the time of a message


def measured(program: Program, case: str, *words: str) -> dict[str, Any]:
    """Run a program on a case and return its results."""
    return program.measure("--cases", case, *words)["results"]


def on_one_machine(case: str, cores: int) -> tuple[list[dict[str, float]], Model]:
    """Return the milliseconds of a step by number of ranks, and the model from the step of one rank."""
    rows = []
    for ranks in [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= cores]:
        say(f"{ranks} rank{'s' * (ranks > 1)} on this machine")
        program = own_program(ranks=ranks)
        weak = measured(program, case)["dbp"][case]
        strong = measured(program, case, "--examples", str(2 * CASES[case].batch))["dbp"][case]
        rows.append({"ranks": ranks, "weak": weak["ms"], "strong": strong["ms"], "stages": weak["stages"]})
        if ranks == 1:
            model = model_of(weak)
    return rows, model


def shared_cores(case: str, cores: int, numbers: list[int]) -> list[dict[str, Any]]:
    """Return a step, barriers, memory and bits of more ranks than cores, after those of as many as there are cores."""
    shards, rows = max(numbers), []
    for ranks in [cores, *numbers]:
        say(f"{ranks} ranks on {cores} cores")
        program = own_program("crowded_steps.py", ranks)
        rows.append({"ranks": ranks} | program.measure("--case", case, "--shards", str(shards))["results"])
    return rows


def seconds_of_a_message(case: str, model: Model, cores: int) -> float:
    """Return a rank's work for a message, from many nodes of one rank that are emulated on this machine."""
    say(f"{EMULATED} emulated nodes on this machine")
    program = replace(own_program(ranks=EMULATED), environment={"DBP_NODE_SIZES": ",".join(["1"] * EMULATED)})
    seconds = measured(program, case)["dbp"][case]["ms"] / 1e3 * min(1, cores / EMULATED)
    return max(0.0, seconds - model.compute - model.update) / model.messages(EMULATED)


def model_of(told: dict[str, Any]) -> Model:
    """Return the model from the stages of one rank's steps."""
    stages, parameters = told["stages"], told["parameters"]
    compute = stages["forward"] + stages["backward"] + stages["other"] + stages["data"] + stages["sum"]
    first = stages["forward"] + stages["backward"] * told["last"] / parameters
    return Model(parameters, compute, first, stages["update"])


def started(name: str, command: list[str], ranks: int) -> Program:
    """Return a program that runs on hosts."""
    return Program(name, command, threads=1, environment=environment(ranks))


def on_hosts(
    case: str, count: int, rate: str, model: Model, cores: int, with_torch: bool, notes: Notes
) -> dict[str, Any]:
    """Return the milliseconds of a step over hosts, of the link, the model and DDP."""
    say(f"{count} hosts with one rank each, {rate}")
    ranks, python = [1] * count, sys.executable
    with Hosts(count, rate) as hosts, tempfile.TemporaryDirectory() as folder:
        program = started("dbp", hosts.mpirun(ranks, python, str(STEPS / "dbp_steps.py")), count)
        told = measured(program, case)["dbp"][case]
        two = started("link", hosts.mpirun([1, 1, *[0] * (count - 2)], python, str(STEPS / "link.py")), 2)
        link = two.measure("--bytes", str(int(model.bytes(count))))["results"]["link"]["link"]
        ddp = None
        if with_torch:
            script = Path(folder) / "start.sh"
            script.write_text(DDP.format(count=count, python=python, script=STEPS / "torch_steps.py"))
            torch = started("DDP", hosts.mpirun(ranks, "/bin/sh", str(script)), count)
            if told_by_torch := measured_or_noted(torch, notes, "--cases", case):
                ddp = told_by_torch["results"]["DDP"][case]["ms"]
    slower = max(1.0, count / cores)
    bandwidth = model.bytes(count) / link["seconds"]
    predicted = model.step(count, bandwidth, link["latency"], slower)
    return {
        "hosts": count,
        "dbp": told["ms"],
        "compute": slower * (model.compute + model.update) * 1e3,
        "link": link["seconds"] * 1e3,
        "latency": link["latency"],
        "model": predicted * 1e3,
        "DDP": ddp,
    }


DDP = """export RANK=${{OMPI_COMM_WORLD_RANK:-$PMI_RANK}} WORLD_SIZE={count} LOCAL_RANK=0
export MASTER_ADDR=h0 MASTER_PORT=29511 GLOO_SOCKET_IFNAME=eth0
exec {python} {script} "$@"
"""


def machine_table(rows: list[dict[str, float]]) -> str:
    """Return a table of weak and strong scaling on one machine."""
    one = rows[0]
    lines = [line("one machine", ("ranks", "weak ms", "efficiency", "strong ms", "speed-up"))]
    for row in rows:
        cells = [str(row["ranks"]), number(row["weak"]), number(one["weak"] / row["weak"])]
        lines.append(line("", [*cells, number(row["strong"]), number(one["strong"] / row["strong"])]))
    return "\n".join(lines)


def shared_table(rows: list[dict[str, Any]], cores: int) -> str:
    """Return a table of steps, barriers, memory and bits of ranks that share cores."""
    titles = ("ranks", "step ms", "times", "barrier ms", "MPI's", "MB a rank", "bits")
    lines = [line(f"on {cores} cores", titles)]
    for row in rows:
        same = "equal" if row["bits"] == rows[0]["bits"] else "DIFFER"
        figures = [row["step"], row["step"] / rows[0]["step"], row["node barrier"], row["MPI barrier"], row["memory"]]
        lines.append(line("", [str(row["ranks"]), *map(number, figures), same]))
    return "\n".join(lines)


def hosts_table(rows: list[dict[str, Any]], rate: str) -> str:
    """Return a table that compares a step over hosts with the link, the model and DDP."""
    titles = ("hosts", "dbp ms", "compute", "link", "dbp/larger", "model", "model/dbp", "DDP ms")
    lines = [line(f"hosts, {rate}", titles)]
    for row in rows:
        larger = max(row["compute"], row["link"])
        cells = [str(row["hosts"]), *(number(row[key], 1) for key in ("dbp", "compute", "link"))]
        cells += [number(row["dbp"] / larger), number(row["model"], 1), number(row["model"] / row["dbp"])]
        lines.append(line("", [*cells, number(row["DDP"], 1)]))
    return "\n".join(lines)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure, print tables, and return all figures."""
    cores = machine()["cores"]
    rows, model = on_one_machine(args.case, cores)
    shared = shared_cores(args.case, cores, args.ranks)
    model = replace(model, message=seconds_of_a_message(args.case, model, cores))
    tables, over_hosts = [machine_table(rows), shared_table(shared, cores)], []
    if reason := why_not():
        notes.append(f"no hosts were emulated: {reason}")
    else:
        with_torch = has_torch(notes)
        over_hosts = [on_hosts(args.case, count, args.rate, model, cores, with_torch, notes) for count in args.hosts]
        tables.append(hosts_table(over_hosts, args.rate))
    tables.append(clusters_table([replace(model, ranks=ranks) for ranks in RANKS]))
    facts = {name: f"{value:.6g}" for name, value in asdict(model).items()}
    print(*tables, footnotes({f"model: {name}": text for name, text in facts.items()}, notes), sep="\n\n")
    return {"machine_rows": rows, "shared_cores": shared, "hosts": over_hosts, "model": asdict(model)}


def main() -> int:
    """Measure what the command line names."""
    known = parser(__doc__)
    known.add_argument("--case", choices=list(CASES), default="mlp-adam", help="of steps/cases.py (mlp-adam)")
    known.add_argument("--ranks", type=counts, default=[16, 32, 64], help="more than cores (16,32,64)")
    known.add_argument("--rate", default="1gbit", help="what each host may send (1gbit)")
    known.add_argument("--hosts", type=counts, default=[2, 4], help="numbers of hosts, at least 2 (2,4)")
    return carry_out(report, parsed(known))


if __name__ == "__main__":
    sys.exit(main())
