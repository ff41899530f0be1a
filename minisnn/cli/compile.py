"""`minisnn compile`: fill the cache of compiled loops."""

import sys
import time

DESCRIPTION = (
    "Compile every kernel ahead, on all cores, and keep it on disk: for a classroom, or as a line of a container image. "
    "Without it the first training run compiles what it needs, for half a minute or more. What is on disk already is kept."
)


def add_arguments(parser):
    pass


def run(options):
    from .. import rehearsal, threads

    def tell(done, total, name):
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{done} of {total} kernels: {name}".ljust(70), end=end, file=sys.stderr, flush=True)

    start, processes = time.perf_counter(), threads.get_num_threads()
    by_kernel = rehearsal.compile_all(processes, tell)
    seconds = time.perf_counter() - start
    print(f"{len(by_kernel)} kernels are compiled, in {seconds:.0f} s and {processes} processes")
    return {"kernels": len(by_kernel), "seconds": seconds, "processes": processes, "seconds_by_kernel": by_kernel}
