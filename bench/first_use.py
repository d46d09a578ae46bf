"""From a clone to the first answer, phase by phase: what a stranger waits for.

    python bench/first_use.py [DIST]

Clones this repository into a temporary folder and installs it into a fresh environment: with the wheels of DIST
(what `make dist` made), else from source, the engine compiled. Then asks a bundled model, twice, and a third time
from Python. Caches of edgellm are empty; pip's are what they are, unless PIP_NO_CACHE_DIR is set. Ends with one JSON
line: seconds of each phase.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUESTION = "What is the capital of France?"
PROGRAM = (
    f"import edgellm; print(edgellm.load('tiny-qwen3').complete([dict(role='user', content={QUESTION!r})]))"
)


def main(dist: Path | None) -> None:
    seconds: dict[str, float] = {}

    def phase(name: str, *command: str | Path, cwd: Path) -> None:
        start = time.monotonic()
        done = subprocess.run(list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True)
        seconds[name] = round(time.monotonic() - start, 1)
        print(f"{seconds[name]:7.1f} s  {name}: {(done.stdout.strip().splitlines() or [''])[-1]}", flush=True)
        if done.returncode:
            sys.exit(done.stderr)

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGELLM"))
        }
        clean["EDGELLM_CACHE"] = str(here / "cache")
        program = here / "venv" / "bin"
        engine = f"llama_cpp_python-*{platform.machine()}.whl"
        wheels = [] if dist is None else [*dist.glob(engine), *dist.glob("edgellm-*.whl")]
        phase("clone", "git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), "edgellm", cwd=here)
        phase("environment", sys.executable, "-m", "venv", "venv", cwd=here)
        what = wheels or [here / "edgellm"]
        phase("install", program / "python", "-m", "pip", "install", "--quiet", *what, cwd=here)
        ask = (program / "edgellm", "run", "tiny-qwen3", QUESTION, "--temp", "0")
        phase("first answer", *ask, cwd=here)
        phase("second answer", *ask, cwd=here)
        phase("from Python", program / "python", "-c", PROGRAM, cwd=here)
    print(json.dumps({"wheels": bool(wheels), "seconds": seconds, "total": round(sum(seconds.values()), 1)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None)
