"""Runs a command in a process of its own and tells what it took."""

import os
import subprocess
import time


def measured(command, **options):
    """(exit code, seconds, the resources that the kernel counted) of a command; `ru_maxrss` is in KiB."""
    start = time.time()
    process = subprocess.Popen(command, **options)
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), time.time() - start, usage
