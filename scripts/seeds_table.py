#!/usr/bin/env python3
"""The table of `scripts/seeds`: mean and range over training seeds, from the files of scores.

    scripts/seeds_table.py OUT [--write FILE...]

Prints it; with --write it also takes the place of what stands between the marks `<!-- seeds -->` and
`<!-- /seeds -->` of each file. Needs nothing but Python.
"""

import json
import re
import sys
from pathlib import Path

AXES = {"gender": "gender", "skin": "skin tone", "age": "age"}
MODELS = {"before": "before", "recipe": "the demo's recipe", "plain": "plain PopAlign (no `--preserve`)"}


def read(out):
    """Scores by model, guidance and seed; of each the number by column."""
    found = {}
    for path in sorted(out.glob("*-*-*.json")):
        model, seed, guidance = path.stem.split("-")
        scores = json.loads(path.read_text())
        for name, side in ((model, "scored"), ("before", "against")):
            numbers = found.setdefault((float(guidance), name), {}).setdefault(int(seed), {})
            for axis in scores["axes"]:
                if axis["axis"] in AXES:
                    numbers[axis["axis"]] = axis["discrepancy"][side]["value"]
                    numbers["floor " + axis["axis"]] = axis["floor"][side]
            numbers["named"] = 100 * scores["recall"]["all"][side]["value"]
            [agreement] = [q for q in scores["quality"] if q["metric"] == "clip"]
            numbers["agreement"] = agreement["all"][side]["value"]
    return found


def cell(seeds, column, digits):
    values = [numbers[column] for numbers in seeds.values()]
    mean, low, high = sum(values) / len(values), min(values), max(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(found):
    lines = [
        "| guidance | | " + " | ".join(f"discrepancy of {name}" for name in AXES.values())
        + " | captions that name an identity, all right, % | agreement |",
        "| --- | --- |" + " --- |" * (len(AXES) + 2),
    ]
    for guidance in sorted({guidance for guidance, _ in found}):
        for model, name in MODELS.items():
            seeds = found.get((guidance, model))
            if not seeds:
                continue
            cells = [cell(seeds, axis, 2) for axis in AXES]
            cells += [cell(seeds, "named", 1), cell(seeds, "agreement", 1)]
            lines.append(f"| {guidance:g} | {name} | " + " | ".join(cells) + " |")
        floors = found[(guidance, "before")]
        mean = {axis: sum(n["floor " + axis] for n in floors.values()) / len(floors) for axis in AXES}
        lines.append(f"| {guidance:g} | floor: no bias, as few pictures | " + " | ".join(f"{mean[axis]:.2f}" for axis in AXES) + " | | |")
    seeds = sorted(set.intersection(*(set(s) for s in found.values())))
    lines += ["", f"Mean and range over training seeds {', '.join(map(str, seeds))}, each judged on noise of its own."]
    return "\n".join(lines)


def main():
    out, *rest = sys.argv[1:]
    text = table(read(Path(out)))
    print(text)
    for name in rest[1:]:
        path = Path(name)
        whole, count = re.subn(
            r"(<!-- seeds -->\n).*?(<!-- /seeds -->)", lambda m: m[1] + text + "\n" + m[2], path.read_text(), flags=re.S
        )
        if count != 1:
            sys.exit(f"{name}: expected one pair of marks <!-- seeds --> and <!-- /seeds -->")
        path.write_text(whole)


main()
