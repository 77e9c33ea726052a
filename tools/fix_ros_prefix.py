"""Repair the paths of the build container that the ROS message wheels carry in their cmake files.

The wheels' `share/*/cmake/export_*__rosidl_generator_pyExport.cmake` name the Python and numpy include
folders of the machine that built them; cmake then ends with "includes non-existent path". This rewrites
both to those of one environment. A second run changes nothing; a reinstalled wheel brings the paths
back, so it runs after every pip install. By hand: `.venv/bin/python tools/fix_ros_prefix.py`.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

EXPORTS = "share/*/cmake/export_*__rosidl_generator_pyExport.cmake"
# Any path, not only the container's: an exchanged numpy (core in 1.x, _core in 2.x) is repaired as well.
NUMPY_INCLUDE = re.compile(r'/[^;"]*/numpy/_?core/include')
PYTHON_INCLUDE = re.compile(r'/[^;"]*/include/python3\.\d+t?')


def fix_prefix(prefix: Path, python_include: Path, numpy_include: Path) -> int:
    """Rewrite the baked include folders under `prefix`; returns how many files changed."""
    changed = 0
    for export in sorted(prefix.glob(EXPORTS)):
        old = export.read_text()
        new = NUMPY_INCLUDE.sub(lambda _: str(numpy_include), old)
        new = PYTHON_INCLUDE.sub(lambda _: str(python_include), new)
        if new != old:
            export.write_text(new)
            changed += 1
    return changed


def main() -> int:
    import numpy

    count = fix_prefix(Path(sys.prefix), Path(sysconfig.get_paths()["include"]), Path(numpy.get_include()))
    print(f"repaired the include paths of {count} cmake files under {sys.prefix}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
