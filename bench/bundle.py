"""What bundles cost, beside the same models run by this installation: MB on disk and resident, time to a first token.

    python bench/bundle.py MODEL... --for x86-laptop-avx2 [--root FOLDER] [--starts 5] [--engine-wheel WHEEL]

Each model is bundled twice and the bytes compared; the bundle is unpacked, verified and run where there is no network
(`unshare -n`, as root) and no program on the PATH but Python: below --root, say a fresh `debootstrap --variant=minbase
--include=python3`, which has no compiler either and may be another architecture's under qemu-user. The greedy text is
compared with this installation's. Prints one JSON line a model.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import edgellm
from edgellm.formats.artifact import Artifact

QUESTION = ("What is the capital of France?", "--temp", "0", "--no-stats", "-n")
#: The command and the engine, before a model: bytes resident.
RESIDENT = """
import re, edgellm.cli.run
{engine}
print(int(re.search(r"VmRSS:\\s*(\\d+)", open("/proc/self/status").read()).group(1)) * 1024)
"""
ENGINES = {
    "onnx": "from edgellm import privacy; privacy.onnxruntime(); import tokenizers",
    "gguf": "from edgellm.backends.llama import lib; lib.load()",
}
#: Runs a command, and prints its exit code, what it says, its seconds and its peak in bytes. A process begins with the
#: peak of the one that it was forked from, and this one is small.
WATCH = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
taken = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([done.returncode, done.stdout, taken, peak]))
"""


class Place:
    """Where a program runs: here, or below another root; without network where that can be had."""

    def __init__(self, root: Path, python: str, environment: dict[str, str]) -> None:
        self.root, self.python, self.environment = root, python, environment

    def run(self, *arguments: str | Path) -> tuple[str, float, int]:
        """What Python says with these arguments, the seconds it takes, and its peak in bytes."""
        alone = ["unshare", "-n"] if os.geteuid() == 0 else []
        below = ["chroot", str(self.root)] if self.root != Path("/") else []
        start = [self.python, *map(self.inside, arguments)]
        line = [*alone, *below, self.python, "-c", WATCH, *start]
        watched = subprocess.run(line, env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        code, said, seconds, peak = json.loads(watched.stdout)
        if code:
            raise SystemExit(f"{start} ended with {code}")
        return said, seconds, peak

    def inside(self, argument: str | Path) -> str:
        """A path as it is called below the root."""
        return f"/{argument.relative_to(self.root)}" if isinstance(argument, Path) else argument


def measure(model: Path, options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """One model's line."""
    archives = [scratch / "one.tar", scratch / "two.tar"]
    for archive in archives:
        line = ["bundle", model, "--for", options.device, "-o", archive, "--python", options.python]
        line += ["--engine-wheel", options.engine_wheel] if options.engine_wheel else []
        subprocess.run([sys.executable, "-m", "edgellm", *map(str, line)], check=True, stdout=sys.stderr)
    shutil.unpack_archive(archives[0], scratch / "there", "tar")
    (folder,) = (scratch / "there").iterdir()
    environment = {"PATH": "/nowhere", "HOME": str(scratch), "EDGELLM_NO_TUNE": "1", **options.env}
    python = "/usr/bin/python3"
    if options.root == Path("/"):
        venv.create(scratch / "python")  # which sees no packages
        python = str(scratch / "python" / "bin" / "python")
    there = Place(options.root, python, environment | {"PATH": "/usr/bin:/usr/sbin:/bin"})
    here = Place(Path("/"), sys.executable, dict(os.environ))
    script = folder / "edgellm-bundle"
    there.run(script, "verify")
    _, first, _ = there.run(script, "run", *QUESTION, "1")  # unpacks the wheels, tries the engine
    runtime = next((folder / ".runtime").iterdir())
    kind = Artifact.open(model).format
    ways = {
        "bundle": (there, (script, "run"), {"PYTHONPATH": there.inside(runtime)}),
        "installed": (here, ("-m", "edgellm", "run", model), {}),
    }
    found: dict[str, object] = {
        "model": model.name,
        "device": options.device,
        "same_bytes": filecmp.cmp(*archives, shallow=False),
        "archive_bytes": archives[0].stat().st_size,
        "model_bytes": size(folder / "model"),
        "disk_bytes": {"bundle": size(runtime), "installed": sum(closure().values())},
        "packages": {"bundle": len([*runtime.glob("*.dist-info")]), "installed": len(closure())},
        "first_start_seconds": round(first, 2),
    }
    texts = {}
    for way, (place, start, more) in ways.items():
        place.environment |= more
        (resident, _, _) = place.run("-c", RESIDENT.format(engine=ENGINES[kind]))
        taken = [place.run(*start, *QUESTION, "1") for _ in range(options.starts)]
        texts[way], _, peak = place.run(*start, *QUESTION, "32")
        found[way] = {
            "resident_bytes": int(resident),
            "peak_bytes": peak,
            "first_token_seconds": round(statistics.median(seconds for _, seconds, _ in taken), 3),
        }
    return found | {"same_text": texts["bundle"] == texts["installed"], "text": texts["bundle"].strip()}


def size(folder: Path) -> int:
    """Bytes of all files below, without what Python writes while it runs."""
    walked = os.walk(folder, followlinks=True)  # in a checkout some rooms are links
    inside = [Path(below, name) for below, _, names in walked if "__pycache__" not in below for name in names]
    return sum(path.stat().st_size for path in inside)


def closure(names: Sequence[str] = ("edgellm", "llama-cpp-python", "onnxruntime")) -> dict[str, int]:
    """What pip installs for these: bytes by package, edgellm's own from where it lies."""
    found: dict[str, int] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another system or Python
            continue
        files = [Path(str(file.locate())) for file in package.files or () if "__pycache__" not in file.parts]
        found[name] = sum(path.stat().st_size for path in files if path.is_file())
        wanted = [each for each in package.requires or () if "extra ==" not in each]
        waiting += [re.split(r"[^\w.-]", each)[0] for each in wanted]
    return found | {"edgellm": size(Path(edgellm.__file__).parent)}


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, _, value = text.partition("=")
    return name, value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=lambda text: Path(text).absolute(), nargs="+")
    parser.add_argument("--for", dest="device", default="x86-laptop-avx2")
    parser.add_argument("--python", default="{}.{}".format(*sys.version_info))
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--env", type=pair, action="append", default=[], help="NAME=VALUE there")
    parser.add_argument("--engine-wheel", type=Path)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    options.env = dict(options.env)
    for model in options.models:
        with tempfile.TemporaryDirectory(dir=options.root / "tmp") as scratch:
            print(json.dumps(measure(model, options, Path(scratch))), flush=True)


if __name__ == "__main__":
    main()
