"""One rank of a training up to its first step: the modules it imports, the files it opens, and the time it takes."""

import sys

opened = []  # files, in the order of opening; whatever else were imported here would not count for dbp
imported_before = set(sys.modules)


def note(event, arguments):
    """Note each file that Python opens; an audit hook."""
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode(errors="replace"))


def noted_at_first_call(owner, name, seen):
    """Note modules, files and the time when a function is called for the first time."""
    function = getattr(owner, name)

    def noting(*arguments):
        if not seen:
            seen.append((sorted(set(sys.modules) - imported_before), list(opened), age()))
        return function(*arguments)

    setattr(owner, name, noting)


def age():
    """Return the seconds since this process was started, to a hundredth (Linux)."""
    import os
    import time

    with open("/proc/self/stat") as file:  # noqa: PTH123  pathlib would count
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def main():
    """Train by the arguments after --out FILE, as the command line does; then write what each rank noted."""
    _, _, out, *words = sys.argv
    seen = []
    from dbp.saving.stopping import signals

    signals.enter()  # before anything that takes long
    from dbp import cli
    from dbp.training import loop

    noted_at_first_call(loop, "step", seen)
    if code := cli.main(["train", *words]):
        sys.exit(code)
    tell(out, *seen[0])


def tell(out, modules, files, seconds):
    """Write what each rank noted as JSON, with the shared libraries that are loaded."""
    import json
    import sysconfig
    from pathlib import Path

    import dbp
    from dbp.parallel import world

    words = Path("/proc/self/maps").read_text().split()
    libraries = sorted({word for word in words if ".so" in Path(word).name})
    comm = world()
    rows = comm.gather({"seconds": seconds, "modules": modules, "files": files, "libraries": libraries})
    if comm.rank == 0:
        folders = [sysconfig.get_path("purelib"), str(Path(dbp.__file__).parent)]
        versions = {"dbp": dbp.__version__, "python": sys.version.split()[0], "MPI": comm.description}
        Path(out).write_text(json.dumps({"results": rows, "packages": folders, "versions": versions}))


if __name__ == "__main__":
    sys.addaudithook(note)
    main()
