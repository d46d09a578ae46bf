"""The engine's own log read right, the peak taken apart, and what a token costs by a file's header."""

import ctypes

import pytest
import tiny_gguf

from edgellm.backends.llama import lib
from edgellm.backends.llama.memory_estimate import Buffers
from edgellm.formats.artifact import Artifact
from edgellm.profiles.measure.memory import take_apart
from edgellm.profiles.result.model_files import model_record
from edgellm.profiles.result.result import MemoryPhase

MIB = 1 << 20


def test_the_log_is_read_by_kind_and_devices_of_their_own_are_left_out():
    lib.load()
    lib.log_clear()
    for line in (
        "load_tensors:   CPU_Mapped model buffer size =   718.75 MiB\n",
        "load_tensors:   CPU_REPACK model buffer size =   522.00 MiB\n",
        "load_tensors:        CUDA0 model buffer size =  9000.00 MiB\n",
        "llama_context:        CPU  output buffer size =     0.50 MiB\n",
        "llama_kv_cache:        CPU KV buffer size =    24.00 MiB\n",
        "sched_reserve:        CPU compute buffer size =   258.50 MiB\n",
        "sched_reserve:  CUDA_Host compute buffer size =     1.00 MiB\n",
    ):
        lib.load.callback(2, line.encode(), ctypes.c_void_p(0))
    sizes = (round(n * MIB) for n in (718.75, 522.0, 24.0, 260.0))
    assert lib.buffers() == Buffers(*sizes, "engine log")
    lib.log_clear()
    assert lib.buffers() is None


def phase(name: str, peak: int, anonymous: int, mapped: int) -> MemoryPhase:
    return MemoryPhase(name, peak * MIB, peak * MIB, anonymous * MIB, (peak - anonymous) * MIB, mapped * MIB)


def test_the_parts_of_the_peak_add_up():
    phases = [phase("load", 300, 100, 150), phase("prefill", 340, 130, 160), phase("decode", 320, 110, 160)]
    split = take_apart(phases, Buffers(160 * MIB, 40 * MIB, 20 * MIB, 250 * MIB, "engine log"))
    assert split
    parts = [part // MIB for part in (split.weights, split.kv, split.compute, split.rest)]
    assert parts == [200, 20, 30, 90] and sum(parts) == 340


def test_a_peak_while_loading_is_no_scratch_memory():
    phases = [phase("load", 500, 300, 150), phase("prefill", 340, 130, 160)]
    split = take_apart(phases, Buffers(160 * MIB, 0, 20 * MIB, 250 * MIB, "own accounting"))
    assert split and (split.compute, split.kv, split.rest) == (0, 0, 350 * MIB)


def test_phases_that_do_not_tell_give_no_split():
    assert take_apart([MemoryPhase("load", None)], Buffers(1, 0, 1, 1, "engine log")) is None


def test_an_untied_embedding_is_not_read(tmp_path):
    record = model_record(Artifact.open(tiny_gguf.write(tmp_path / "a.gguf")), "a")
    layers = 2 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 64 * 128 + 2 * 64) + 64
    assert record.n_params == layers + 258 * 64
    # tied: the embedding is the head, and read as a whole
    assert (record.n_params_active, record.n_params_head) == (layers, 258 * 64)
    assert record.weight_bytes_per_token == record.tensor_bytes


@pytest.mark.parametrize("n_layer", [1, 2])
def test_the_tokenizers_hash_is_of_the_tokenizer_alone(tmp_path, n_layer):
    own = model_record(Artifact.open(tiny_gguf.write(tmp_path / "a.gguf", n_layer=n_layer)), "a")
    other = model_record(Artifact.open(tiny_gguf.write(tmp_path / "b.gguf", merges=("h t",))), "b")
    again = model_record(Artifact.open(tiny_gguf.write(tmp_path / "c.gguf", seed=3)), "c")
    assert own.tokenizer_sha256 == again.tokenizer_sha256 != other.tokenizer_sha256
