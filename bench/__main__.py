"""Run every benchmark, one after the other."""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Return 0 when all of them ran."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py") if "_" not in file.stem)
    status = 0
    for name in names:
        print(f"== bench.{name}", flush=True)
        status |= subprocess.run([sys.executable, "-m", f"bench.{name}", *sys.argv[1:]], check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
