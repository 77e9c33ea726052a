"""wpt-policy: list, verify, show and seed policy bundles.

Exit codes: 0 all well, 1 something is wrong with the bundle asked for, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wpt_policy.bundle import (
    WEIGHTS_FILE,
    find_bundle,
    list_bundles,
    load_bundle,
    load_config,
    search_folders,
    verify_bundle,
)
from wpt_policy.policy_config import BundleError, to_json
from wpt_policy.registry import announced_planners
from wpt_policy.seeded_weights import write_seeded_bundle


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="wpt-policy", description="List, verify, show and seed policy bundles."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("list", help="planners and bundles that a name can mean here")
    add.set_defaults(run=_list)
    add = commands.add_parser("verify", help="check a bundle's fields, hash and tensors")
    add.add_argument("bundle", metavar="PATH", help="folder or name of a bundle")
    add.set_defaults(run=_verify)
    add = commands.add_parser("show", help="print a bundle's policy.json and the size of its weights")
    add.add_argument("bundle", metavar="PATH", help="folder or name of a bundle")
    add.set_defaults(run=_show)
    add = commands.add_parser(
        "seed", help="write the bundle of seeded random weights, for tests and parity only"
    )
    add.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; files in it are replaced"
    )
    add.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the random weights (default 0)"
    )
    add.set_defaults(run=_seed)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (BundleError, OSError) as error:
        print(f"wpt-policy: {error}", file=sys.stderr)
        return 1


def _list(_: argparse.Namespace) -> int:
    print("planners:")
    for name, point in announced_planners().items():
        print(f"  {name:24} {point.value}")
    print("bundles:")
    bundles = list_bundles()
    for name, folder in bundles.items():
        try:
            trained = load_config(folder).provenance.trained
            remark = "trained" if trained else "SEEDED RANDOM WEIGHTS, for tests only"
        except BundleError as error:
            remark = f"cannot be used: {error}"
        print(f"  {name:24} {folder}  ({remark})")
    if not bundles:
        print(f"  none in {', '.join(str(folder) for folder in search_folders())}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    folder = find_bundle(options.bundle) if not Path(options.bundle).is_dir() else Path(options.bundle)
    problems = verify_bundle(folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{folder}: {f'{len(problems)} problems' if problems else 'all well'}")
    return 1 if problems else 0


def _show(options: argparse.Namespace) -> int:
    folder = find_bundle(options.bundle)
    bundle = load_bundle(folder)
    count = sum(tensor.numel() for tensor in bundle.tensors.values())
    print(to_json(bundle.config), end="")
    print(
        f"{folder / WEIGHTS_FILE}: {len(bundle.tensors)} tensors, {count:,} numbers, sha256 {bundle.sha256}"
    )
    if not bundle.config.provenance.trained:
        print("SEEDED RANDOM WEIGHTS: for tests and parity only, never drive with them.")
    return 0


def _seed(options: argparse.Namespace) -> int:
    if options.seed < 0:
        print(f"wpt-policy: seed is {options.seed}, expected 0 or more", file=sys.stderr)
        return 2
    bundle = write_seeded_bundle(options.out, options.seed)
    print(f"{options.out}: SEEDED RANDOM WEIGHTS of seed {options.seed}, sha256 {bundle.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
