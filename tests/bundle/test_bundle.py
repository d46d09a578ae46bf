"""Bundles: the same bytes twice, run by another Python alone with no network's word, each damage by its name."""

import atexit
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import typing_extensions

import edgellm
from edgellm.backends.llama import lib
from edgellm.bundle import contents, engine, outlook, texts, wheels
from edgellm.errors import EdgellmError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.devices import device

PYTHON = "{}.{}".format(*sys.version_info)


HERE = device("raspberry-pi-5" if platform.machine() == "aarch64" else "x86-laptop-avx2")


def packed(name: str, folder: Path) -> Path:
    """An installed package as a wheel again."""
    found = metadata.distribution(name)
    tags = [line[5:] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    wheel = folder / f"{found.metadata['Name'].replace('-', '_')}-{found.version}-{tags[-1]}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                archive.write(file.locate(), str(file))
    return wheel


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """Wheels of what is installed here, which pip then chooses from."""
    folder = tmp_path_factory.mktemp("given")
    every = {
        *wheels.requirements("onnx", PYTHON, serve=False),
        *wheels.requirements("gguf", PYTHON, serve=False),
    }
    for wanted in every:
        packed(wanted.split("==")[0], folder)
    return folder


def converted(name: str, quant: str, target: Path) -> Path:
    from edgellm.cli import cli

    cli(["convert", name, "--quant", quant, "-o", str(target)], standalone_mode=False)
    return target


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, given) -> Path:
    """tiny-llama3 in ONNX for a machine of this one's kind."""
    folder = tmp_path_factory.mktemp("bundle")
    contents.make(plan(converted("tiny-llama3", "onnx-int4", folder / "model"), given), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def gguf_bundle(tmp_path_factory, given) -> Path:
    """tiny-qwen3 in GGUF, with the engine that is installed here."""
    folder = tmp_path_factory.mktemp("gguf")
    whole = packed("llama-cpp-python", folder)
    wheel = whole.rename(folder / f"{whole.name.rpartition('-')[0]}-linux_{platform.machine()}.whl")
    wheels.rewrite(wheel, engine.needed, {})
    contents.make(
        replace(plan(converted("tiny-qwen3", "Q4_0", folder / "m.gguf"), given), engine_wheel=wheel),
        folder / "bundle",
    )
    return folder / "bundle"


def plan(model: Path, given: Path) -> contents.Plan:
    return contents.Plan(Artifact.open(model), HERE, PYTHON, wheels=given)


@cache
def alone() -> Path:
    """A Python that sees no packages."""
    folder = Path(tempfile.mkdtemp(prefix="alone-"))
    atexit.register(shutil.rmtree, folder)
    venv.create(folder)
    return folder / "bin" / "python"


def start(bundle: Path, *argv: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The bundle's script by a Python alone."""
    environment = {"PATH": "/nonexistent", "HOME": str(bundle), "EDGELLM_NO_TUNE": "1"}
    command = [*before, str(alone()), str(bundle / "edgellm-bundle"), *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def peak(bundle: Path, *argv: str) -> int:
    """The kernel's mark of a start, in bytes: of a child of a small process, for it begins with its parent's."""
    program = """if True:
        import resource, subprocess, sys
        subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"""
    line = [alone(), "-c", program, alone(), bundle / "edgellm-bundle", *argv]
    return int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


@pytest.mark.wide
def test_the_same_bytes_twice(bundle, given, tmp_path):
    for name in ("one.tar.gz", "two.tar.gz"):
        contents.make(plan(bundle / "model", given), tmp_path / name)
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        held = {member.name.partition("/")[2] for member in archive}
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True)
    assert sums.returncode == 0 and len(sums.stdout.splitlines()) + 1 == len(held)


@pytest.mark.wide
@pytest.mark.parametrize("kind", ["bundle", "gguf_bundle"])
def test_it_answers_as_here(kind, request):
    bundle = request.getfixturevalue(kind)
    (model,) = [bundle / "model"] if kind == "bundle" else (bundle / "model").iterdir()
    assert start(bundle, "verify").returncode == 0
    asked = ("What is the capital of France?", "--temp", "0", "-n", "12", "--no-stats")
    here = subprocess.run(
        [sys.executable, "-m", "edgellm", "run", str(model), *asked],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    there = start(bundle, "run", *asked)
    assert (there.returncode, there.stdout) == (0, here.stdout)
    assert here.stdout.strip()
    refused = start(bundle, "serve")
    assert refused.returncode == 2 and "--with serve" in refused.stderr
    needed = json.loads((bundle / "bundle.json").read_text())["needs"]["memory_bytes"]
    assert peak(bundle, "run", *asked) == pytest.approx(needed, rel=0.2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def need(**changed):
    """A bundle made for something else: its sums are right."""

    def change(bundle: Path) -> None:
        facts = json.loads((bundle / "bundle.json").read_text())
        facts["needs"].update(changed)
        (bundle / "bundle.json").write_text(json.dumps(facts))
        lines = (bundle / "SHA256SUMS").read_text().splitlines()
        digest = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
        lines = [f"{digest}  bundle.json" if line.endswith("  bundle.json") else line for line in lines]
        (bundle / "SHA256SUMS").write_text("\n".join(lines) + "\n")

    return change


def wheel(bundle: Path) -> Path:
    return next((bundle / "wheels").glob("click-*.whl"))


DAMAGE = {
    "model": (lambda b: flip(b / "model" / "tokenizer.json"), "changed: model/tokenizer.json"),
    "facts": (lambda b: flip(b / "bundle.json"), "changed: bundle.json"),
    "script": (lambda b: (b / "README.md").write_text(""), "changed: README.md"),
    "wheel": (lambda b: wheel(b).unlink(), "missing: wheels/click-"),
    "flipped wheel": (lambda b: flip(wheel(b)), "changed: wheels/click-"),
    "sums": (lambda b: (b / "SHA256SUMS").unlink(), "missing: SHA256SUMS"),
    "architecture": (need(arch="riscv64"), "processor: made for riscv64"),
    "features": (need(cpu_features=["asimddp9"]), "processor: it has no asimddp9"),
    "Python": (need(python="3.2"), "Python: made for 3.2"),
    "C library": (need(glibc="2.999"), "C library: glibc 2.999 needed"),
    "memory": (need(memory_bytes=10**15), "memory: 1000000000 MB needed"),
}


@pytest.mark.wide
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(bundle, tmp_path, kind):
    damage, told = DAMAGE[kind]
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy, copy_function=os.link, ignore=shutil.ignore_patterns(".runtime"))
    for name in (
        "bundle.json",
        "SHA256SUMS",
        "README.md",
        "model/tokenizer.json",
        f"wheels/{wheel(copy).name}",
    ):
        (copy / name).unlink()  # so that the damage is the copy's own
        shutil.copyfile(bundle / name, copy / name)
    assert start(copy, "verify").returncode == 0
    damage(copy)
    found = start(copy, "verify")
    assert found.returncode == 3 and f"edgellm-bundle: {told}" in found.stderr, found.stderr
    assert start(copy, "run", "hi").returncode == 3


V1, V2 = ("memory", "memory.limit_in_bytes"), (".", "memory.max")


@pytest.fixture
def limited() -> Iterator[Path]:
    """A control group in another that may have 50 MB."""
    folder, limit = V1 if Path("/sys/fs/cgroup/memory").is_dir() else V2
    outer = Path("/sys/fs/cgroup", folder, f"edgellm-test-{os.getpid()}")
    try:
        (outer / "inner").mkdir(parents=True)
        (outer / limit).write_text(f"{50 * 10**6}")
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    yield outer / "inner"
    (outer / "inner").rmdir()
    outer.rmdir()


@pytest.mark.wide
def test_the_limit_of_a_group_above_counts(bundle, limited):
    join = ("/bin/sh", "-c", f'echo $$ > {limited}/cgroup.procs; exec "$@"', "sh")
    found = start(bundle, "run", "hi", before=join)
    free = re.search(r"memory: \d+ MB needed, (\d+) MB free", found.stderr)
    assert found.returncode == 3 and free and int(free[1]) <= 50


def test_settings_give_way_to_memory_and_to_what_was_tuned(tmp_path):
    artifact = Artifact.open(converted("tiny-qwen3", "Q8_0", tmp_path / "m.gguf"))
    board, system = device("rpi5"), round(0.6 * 2**30)
    roomy, tight = (outlook.look(artifact, board, ram_bytes=system + n) for n in (10**9, 58 * 10**6))
    assert roomy.options.type_k is None and roomy.options.n_ubatch is None and roomy.options.n_ctx == 2048
    assert tight.full.peak <= 58 * 10**6 < roomy.full.peak
    assert contents.flags(tight.options, None) == ["-t", "4", "-c", "2048", "-ub", "128", "--no-mmap"]
    with pytest.raises(UsageError, match="leaves a program 45"):
        outlook.look(artifact, board, ram_bytes=system + 45 * 10**6)
    said = tmp_path / "tuned.json"
    said.write_text(json.dumps({"settings": {"n_threads": 3, "repack": False}}))
    assert contents.flags(roomy.options, said) == ["-t", "3", "-c", "2048", "--no-repack"]


#: What a compiler says it may use, as /proc/cpuinfo says it.
MACROS = {
    **{
        f"__{name.upper()}__": name
        for name in ("ssse3", "sse4_2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi2")
    },
    **{f"__{name.upper()}__": name for name in ("avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl")},
    **{"__ARM_NEON": "asimd", "__ARM_FEATURE_ATOMICS": "atomics", "__ARM_FEATURE_CRC32": "crc32"},
    **{"__ARM_FEATURE_QRDMX": "asimdrdm", "__ARM_FEATURE_DOTPROD": "asimddp"},
    **{"__ARM_FEATURE_MATMUL_INT8": "i8mm", "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC": "asimdhp"},
    **{"__ARM_FEATURE_SVE": "sve", "__ARM_FEATURE_BF16": "bf16", "__BMI__": "bmi1", "__LZCNT__": "abm"},
}
V3 = ("-msse4.2", "-mavx", "-mavx2", "-mfma", "-mf16c", "-mbmi2")  # what ggml's CMake makes of its options


@pytest.mark.parametrize(
    ("name", "compiler", "flags"),
    [
        ("armv8", "aarch64-linux-gnu-gcc", ("-march=armv8-a",)),
        ("armv8.2-dotprod", "aarch64-linux-gnu-gcc", ("-march=armv8.2-a+dotprod",)),
        ("armv8.6-i8mm", "aarch64-linux-gnu-gcc", ("-march=armv8.2-a+dotprod+i8mm",)),
        ("x86-64-v2", "gcc", V3[:1]),
        ("x86-64-v3", "gcc", V3),
        ("x86-64-v4", "gcc", (*V3, *(f"-mavx512{part}" for part in ("f", "cd", "vl", "dq", "bw")))),
    ],
)
def test_a_target_asks_for_all_that_its_compiler_may_use(name, compiler, flags):
    if shutil.which(compiler) is None or (compiler == "gcc" and platform.machine() != "x86_64"):
        pytest.skip(f"no {compiler} for it here")
    said = subprocess.run(
        [compiler, *flags, "-dM", "-E", "-"], input="", capture_output=True, text=True, check=True
    )
    usable = {MACROS[word] for word in said.stdout.split() if word in MACROS}
    assert usable == {*engine.target(name).features}


def test_what_is_left_of_an_engine_is_what_running_needs(tmp_path):
    """The installed one, which has every library six times."""
    package = metadata.distribution("llama-cpp-python")
    names = [
        str(file)
        for file in package.files or ()
        if ".." not in file.parts and "/__pycache__/" not in str(file)
    ]
    kept = [name for name in names if engine.needed(name, names)]
    for name in kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(package.locate_file(name), tmp_path / name)
    libraries = {name.rpartition("/")[2] for name in kept if ".so" in name}
    assert len(libraries) <= 8 < len([name for name in names if ".so" in name])
    shutil.copyfile(typing_extensions.__file__, tmp_path / "typing_extensions.py")
    program = "from edgellm.backends.llama import lib; print(lib.version(), lib.system_info())"
    root = Path(edgellm.__file__).resolve().parents[1]
    there = subprocess.run(
        [alone(), "-c", program], env={"PYTHONPATH": f"{tmp_path}:{root}"}, capture_output=True, text=True
    )
    assert there.stdout.strip() == f"{lib.version()} {lib.system_info()}", there.stderr


def test_our_own_wheel_is_the_same_bytes_and_holds_no_weights(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = wheels.own(tmp_path / "a", serve=False), wheels.own(tmp_path / "b", serve=False)
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        names = archive.namelist()
    assert "edgellm/cli/run.py" in names and not [name for name in names if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("raspberry-pi-4", "armv8"),
        ("raspberry-pi-5", "armv8.2-dotprod"),
        ("x86-laptop-avx2", "x86-64-v3"),
        ("apple-m1", None),
    ],
)
def test_a_device_has_the_engine_it_can_run(name, wanted):
    if wanted is None:
        with pytest.raises(EdgellmError, match="no wheel is built"):
            engine.target(name)
    else:
        assert engine.target(name).name == wanted


def test_gguf_without_its_engine_is_refused_with_the_command():
    model = Artifact(Path("m.gguf"), "gguf", "qwen3", "m", "Q4_0", 10**6, 2048, None)
    with pytest.raises(UsageError, match="edgellm wheel --for raspberry-pi-5"):
        contents.check(contents.Plan(model, device("rpi5"), PYTHON))
    with pytest.raises(UsageError, match="has at most 8 GiB"):
        huge = Artifact(Path("m"), "onnx", "qwen3", "m", "onnx-int4", 10**11, 2048, None)
        contents.check(contents.Plan(huge, device("rpi4"), PYTHON))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_the_unit_hard(tmp_path):
    path = tmp_path / "edgellm.service"
    path.write_text(texts.unit("m", PYTHON, 10**9).replace(f"/usr/bin/python{PYTHON}", sys.executable))
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)],
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr
