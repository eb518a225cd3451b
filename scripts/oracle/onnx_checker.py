"""Holds bundles to the newest `onnx`: what `onnx.checker` and `onnx.load` say of every graph.

    pa-export models/demo -o LINKED
    pa-export models/demo -o COPIED --copy
    python scripts/oracle/onnx_checker.py COPIED [--refused LINKED]

Every graph of COPIED must pass the checker and load with its weights. Every graph of LINKED whose weights
are hard links must be refused for that, which is what `--copy` is for: a later `onnx` that takes them
ends the need, and this script fails then. (On btrfs and XFS `pa-export` makes reflinks, which pass.)

Needs an environment of its own:

    python -m venv E && E/bin/pip install onnx
"""

import argparse
import sys
from pathlib import Path

import onnx


def problem(path):
    """Why onnx refuses a graph, or nothing."""
    for look in (onnx.checker.check_model, onnx.load):
        try:
            look(str(path))
        except Exception as error:  # the checker's and the loader's own kinds
            return f"{look.__module__}.{look.__name__}: {str(error).splitlines()[0]}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a bundle made with --copy")
    parser.add_argument("--refused", type=Path, help="a bundle of hard links")
    args = parser.parse_args()
    print(f"onnx {onnx.__version__}")
    wrong = False
    for bundle, refused in ((args.bundle, False), (args.refused, True)):
        for path in sorted(bundle.glob("*/*.onnx")) if bundle else []:
            why = problem(path)
            expected = bool(why and "hard link" in why) if refused else why is None
            wrong |= not expected
            print(f"{'as expected' if expected else 'WRONG'}: {path}: {why or 'passes'}")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
