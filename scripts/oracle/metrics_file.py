"""Reads what `pa-datagen --metrics-file FILE` wrote with Prometheus' own client.

    python scripts/oracle/metrics_file.py FILE

Every family must have a type and a help, counters end in `_total`, and no sample stand twice. Prints what
was read. Needs `pip install prometheus_client`.
"""

import sys

from prometheus_client.parser import text_string_to_metric_families


def main():
    seen = set()
    for family in text_string_to_metric_families(open(sys.argv[1]).read()):
        assert family.documentation, f"{family.name} has no help"
        assert family.type in ("counter", "gauge"), f"{family.name} is {family.type}"
        for sample in family.samples:
            assert family.type != "counter" or sample.name.endswith("_total"), sample.name
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen, f"{key} stands twice"
            seen.add(key)
            print(family.type, sample.name, sample.labels, sample.value)
    assert len(seen) > 10, f"only {len(seen)} samples"


if __name__ == "__main__":
    main()
