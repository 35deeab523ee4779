"""Check that a wheel contains every data file of the package and the licence.

python .ci/check_wheel.py dist/otoscope-0.1.0-py3-none-any.whl
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
LICENCE = "licenses/LICENSE"


def tracked_files() -> set[str]:
    """Paths of all files of the package that git tracks, relative to `src`."""
    listed = subprocess.run(["git", "ls-files", "-z", "."], cwd=SOURCE, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name}


def missing_from(wheel: Path) -> list[str]:
    """Files that the wheel should contain and does not."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    missing = sorted(tracked_files() - names)
    return missing if any(name.endswith(LICENCE) for name in names) else [*missing, LICENCE]


if __name__ == "__main__":
    (path,) = map(Path, sys.argv[1:])
    if missing := missing_from(path):
        sys.exit(f"{path} lacks {len(missing)} files:\n" + "\n".join(missing))
    print(f"{path} is complete")
