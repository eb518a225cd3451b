#!/usr/bin/env python3
"""Freezes what diffusers saves of its schedulers for `src/family/schedule/tests.rs`.

Every scheduler class that can be made without arguments, saved as a model's folder has it: all keys
of its signature, at their defaults. Which of them are of one kind is decided there, by class.

Needs: torch, diffusers, scipy, torchsde. Run from the repository's root:
    python scripts/oracle/scheduler_configs.py tests/fixtures/schedulers/saved.json
"""

import sys
from pathlib import Path

import diffusers


def main(path):
    saved = []
    for name in sorted(dir(diffusers)):
        if not name.endswith("Scheduler") or name.startswith(("Flax", "ORT")):
            continue
        try:
            scheduler = getattr(diffusers, name)()
        except (TypeError, ImportError):
            continue  # needs arguments, or a library: no model's folder has it as it stands
        if not isinstance(scheduler, diffusers.SchedulerMixin):
            continue  # deprecated, nothing but its name is left
        saved.append(scheduler.to_json_string().strip())
    Path(path).write_text("[\n" + ",\n".join(saved) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
