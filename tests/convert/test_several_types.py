"""Several types from one reading: the bytes are those of conversions one by one, and the kernel counts the reading."""

import dataclasses
import json
import subprocess
import sys

import pytest
import tinymodels
from click.testing import CliRunner

from edgellm.catalog import conversion
from edgellm.cli.convert import command
from edgellm.convert.gguf.convert import ConvertRequest, convert, convert_all
from edgellm.errors import CheckFailedError, UsageError

TYPES = ("Q4_K_M", "Q8_0", "IQ4_XS", "BF16", "F32")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tinymodels.write(tinymodels.CASES["llama-256"], tmp_path_factory.mktemp("source") / "tiny")


def requests(source, folder, types=TYPES, **more):
    folder.mkdir()
    return [ConvertRequest(source, name, folder / f"{name}.gguf", **more) for name in types]


@pytest.mark.parametrize("more", [{}, {"split_max_bytes": 1_600_000, "n_threads": 2}], ids=["whole", "split"])
def test_bytes_are_those_of_one_conversion_each(source, tmp_path, more):
    together = requests(source, tmp_path / "together", **more)
    convert_all(together)
    for request in requests(source, tmp_path / "alone", **more):
        convert(request)
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "together").iterdir())
    for name in names:
        assert (tmp_path / "together" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


COUNTED = """
import dataclasses, sys
from pathlib import Path
from edgellm.convert.gguf.convert import ConvertRequest, convert_all
source, folder, *types = sys.argv[1:]
requests = [ConvertRequest(Path(source), name, Path(folder) / f"{name}.gguf") for name in types]
def read(): return int(dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())["rchar"])
convert_all(requests)  # libraries are loaded
before = read()
convert_all([dataclasses.replace(r, force=True) for r in requests])
print(read() - before - sum(request.output.stat().st_size for request in requests))  # whose headers are read, too
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts what a process reads")
def test_the_source_is_read_once_however_many_types(source, tmp_path):
    """Twice, to be exact, as for one type: its weights, and all of it for its hash."""
    weights = (source / "model.safetensors").stat().st_size

    def read(*types: str) -> int:
        folder = tmp_path / "-".join(types)
        folder.mkdir()
        command = [sys.executable, "-c", COUNTED, str(source), str(folder), *types]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    one, four = read("Q8_0"), read(*TYPES[:4])
    assert one > 1.8 * weights
    assert four < one + 0.2 * weights, "four readings would be eight times the weights"


def test_one_that_fails_its_proof_leaves_the_others(source, tmp_path):
    def verifier(request):
        def verify(path):
            if request.quant == "Q8_0":
                raise CheckFailedError("not like its source")
            return "passed"

        return verify

    asked = requests(source, tmp_path / "out")
    made = convert_all(asked, verify=[verifier(request) for request in asked])
    assert [isinstance(each, CheckFailedError) for each in made] == [name == "Q8_0" for name in TYPES]
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == sorted({*TYPES} - {"Q8_0"})


def test_an_output_that_is_there_stops_all_before_anything_is_written(source, tmp_path):
    asked = requests(source, tmp_path / "out")
    asked[2].output.write_text("mine")
    with pytest.raises(Exception, match=r"IQ4_XS\.gguf exists"):
        convert_all(asked)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]
    same = [dataclasses.replace(request, output=tmp_path / "one.gguf") for request in asked]
    with pytest.raises(UsageError, match=r"two of the types would be written to .*one\.gguf"):
        convert_all(same)


def test_a_bound_on_memory_is_for_all_of_them(source, tmp_path):
    with pytest.raises(UsageError, match="is too little for this model; it needs at least"):
        convert_all(requests(source, tmp_path / "out", max_ram=1 << 20))


def test_the_command_writes_gguf_and_onnx_by_their_names(source, tmp_path):
    done = CliRunner().invoke(
        command, [str(source), "-q", "q4_k_m, Q8_0,onnx-int4", "-o", str(tmp_path / "new")]
    )
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert [name.rpartition("-")[2] for name in names] == ["Q4_K_M.gguf", "Q8_0.gguf", "int4"]
    assert done.output.count("verified: ") == 3
    assert (
        json.loads((tmp_path / "new" / names[2] / "edgellm.json").read_text())["quantization"] == "onnx-int4"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-q", "Q8_0,,Q4_0"), "a type is missing between the commas"),
        (("-q", "Q8_0,Q4_0", "-o", "x.gguf"), "x.gguf is no folder"),
        (("-q", "Q8_0,Q9_9"), "Q9_9"),
        (("-q", "Q8_0,Q4_0", "--onnx", "block=32"), "refine ONNX types"),
    ],
)
def test_what_cannot_be_meant_is_said(source, arguments, said):
    done = CliRunner().invoke(command, [str(source), "--dry-run", *arguments])
    assert isinstance(done.exception, UsageError) and said in str(done.exception)


def test_a_dry_run_writes_nothing_and_tells_each_size(source, tmp_path):
    done = CliRunner().invoke(
        command, [str(source), "-q", "Q8_0,onnx-int4", "-o", str(tmp_path / "no"), "--dry-run"]
    )
    assert done.exit_code == 0 and not (tmp_path / "no").exists()
    assert "Q8_0.gguf: " in done.output and "int4: " in done.output and "blk.0" not in done.output


def test_each_is_proved_by_its_own_engine(source, tmp_path):
    made = conversion.run_all(requests(source, tmp_path / "out", TYPES[:2]))
    assert [done.verdict is not None and "tensors match" in done.verdict for done in made] == [True, True]
