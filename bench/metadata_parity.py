"""Our metadata and tensors against those of llama.cpp's own converter for the same checkpoints, key by key.

    python bench/metadata_parity.py --llama-cpp PATH [FOLDER ...] [--tiny] [--golden tests/golden/metadata.json]
                                    [--tensors]

PATH is a llama.cpp source tree (its conversion/ and gguf-py/ are imported; needs `pip install edgellm[train]`).
FOLDER is a checkpoint, or a folder with config.json and tokenizer files alone: then its weights are imagined
from the config, for no key depends on their values. `--tiny` adds the tests' random checkpoints. Differences
that docs/gguf.md explains are not counted. `--tensors` writes both files, F16, and compares every tensor's bytes;
numbers that both compute may differ in the last bit. `--golden` writes what the converter says, for tests that run
without it. The last line is one JSON object; the exit code is 1 when a difference is left.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

import metadata_cases as cases  # tests/helpers/metadata_cases.py

VALUE_TYPES = {0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "str"} | {
    10: "u64",
    11: "i64",
    12: "f64",
}
COMPUTED = ("ssm_a", "rope_freqs.weight")  # from others, by both
ARRAY = 9
ARRAYS = {str: "str", bytes: "str", bool: "bool", float: "f32", int: "i32"}


def load_converter(llama_cpp: Path) -> Any:
    """llama.cpp's converter package and the gguf package of the same tree."""
    if not (llama_cpp / "conversion").is_dir():
        sys.exit(f"{llama_cpp} has no conversion/ folder; give a llama.cpp source tree of 2026 or later")
    sys.path[:0] = [str(llama_cpp / "gguf-py"), str(llama_cpp)]
    import conversion

    logging.disable(logging.WARNING)
    return conversion


def authority(conversion: Any, folder: Path, output: Path | None = None) -> dict[str, tuple[str, Any]]:
    """The key-values llama.cpp's converter would write for `folder`, as (type, value); written to `output`."""
    import gguf
    from conversion.base import ModelBase, ModelType

    hparams, config = ModelBase.load_hparams(folder, False), folder / "config.json"
    name = conversion.get_model_architecture(hparams, ModelType.TEXT)
    base = conversion.get_model_class(name)

    class Model(base):  # type: ignore[misc, valid-type]  # the class is chosen at run time
        model_arch = base.model_arch

        def index_tensors(self, remote_hf_model_id: str | None = None) -> dict[str, Any]:
            if any(folder.glob("*.safetensors")):
                return super().index_tensors(remote_hf_model_id)
            return imagined_tensors(self, folder)

        def get_vocab_base_pre(self, tokenizer: Any) -> str:
            # It knows tokenizers by the hash of one text's ids, so a small vocabulary is unknown to it.
            with contextlib.suppress(NotImplementedError):
                return super().get_vocab_base_pre(tokenizer)
            return cases.pre_tokenizer(folder)

        def _set_vocab_sentencepiece(self, add_to_gguf: bool = True) -> None:
            raise FileNotFoundError("no tokenizer.model")  # what it finds after importing sentencepiece

    # It wants to be told (--no-mtp) where a checkpoint has no block that predicts further tokens.
    shapes = cases.shapes_of(folder, json.loads(config.read_text()))
    Model.no_mtp = not any(name.startswith("mtp.") for name in shapes)
    target = output or folder / "unused.gguf"
    model = Model(folder, gguf.LlamaFileType.MOSTLY_F16, target)
    if output:
        model.write()
    else:
        model.prepare_tensors()
        model.prepare_metadata(vocab_only=False)
    return {key: plain(entry) for kv in model.gguf_writer.kv_data for key, entry in kv.items()}


def imagined_tensors(model: Any, folder: Path) -> dict[str, Any]:
    """Tensors of the shapes the config asks for, without values."""
    import torch
    from conversion.base import LazyTorchTensor

    def make(shape: tuple[int, ...]) -> Any:
        meta = LazyTorchTensor.meta_with_dtype_and_shape(torch.bfloat16, shape)
        return LazyTorchTensor(meta=meta, args=(), func=lambda: torch.zeros(shape, dtype=torch.bfloat16))

    shapes = cases.imagined_shapes(json.loads((folder / "config.json").read_text()))
    items = [(name, lambda shape=shape: make(shape)) for name, shape in shapes.items()]
    return dict(kept for item in items if (kept := model.filter_tensors(item)))


def compare_tensors(folder: Path, theirs: Path, scratch: Path) -> list[str]:
    """A line for each tensor that is not the same in our F16 file."""
    import gguf
    import numpy as np

    from edgellm.convert.gguf.convert import ConvertRequest, convert

    ours = convert(ConvertRequest(folder, "F16", scratch / "ours.gguf", force=True)).path
    a, b = ({t.name: t for t in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    again = {"output.weight"} - b.keys()  # a tied embedding, which Qwen2-MoE does not load without
    lines = [f"{name} is only in one" for name in sorted((a.keys() ^ b.keys()) - again)]
    for name in sorted(a.keys() & b.keys()):
        x, y = a[name], b[name]
        if (x.tensor_type, [*x.shape]) != (y.tensor_type, [*y.shape]):
            lines.append(f"{name}: llama.cpp {y.tensor_type} {y.shape}, edgellm {x.tensor_type} {x.shape}")
        elif name.endswith(COMPUTED):
            if not np.allclose(x.data, y.data, rtol=2e-7, atol=0):
                lines.append(f"{name}: {np.max(np.abs(x.data / y.data - 1)):g} apart")
        elif not np.array_equal(x.data.view(np.uint8), y.data.view(np.uint8)):
            lines.append(f"{name} has other bytes")
    return lines


def plain(entry: Any) -> tuple[str, Any]:
    """A value of gguf's writer as (type, value)."""
    if int(entry.type) != ARRAY:
        return VALUE_TYPES[int(entry.type)], entry.value
    first = entry.value[0]
    inner = next(name for kind, name in ARRAYS.items() if isinstance(first, kind))
    return f"arr[{inner}]", list(entry.value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--llama-cpp", type=Path, required=True, help="a llama.cpp source tree")
    parser.add_argument("--tiny", action="store_true", help="add the tests' random checkpoints")
    parser.add_argument("--golden", type=Path, help="write what the converter says")
    parser.add_argument("--tensors", action="store_true", help="compare the bytes of every tensor too")
    arguments = parser.parse_args()
    conversion = load_converter(arguments.llama_cpp)
    golden, n_keys, left = {}, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        folders = list(arguments.folders)
        folders += cases.write_tiny(Path(scratch)) if arguments.tiny else []
        for folder in folders:
            output = Path(scratch) / "theirs.gguf" if arguments.tensors else None
            theirs = cases.summary(authority(conversion, folder, output))
            ours = cases.summary(cases.our_metadata(folder))
            differences = cases.differences(theirs, ours)
            differences += compare_tensors(folder, output, Path(scratch)) if output else []
            golden[folder.name] = theirs
            n_keys, left = n_keys + len(theirs), left + len(differences)
            print(
                f"{folder.name}: {len(theirs)} keys, {len(differences)} differences", *differences, sep="\n  "
            )
    if arguments.golden:
        text = json.dumps(golden, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        arguments.golden.write_text(text, encoding="utf-8")
        print(f"wrote {arguments.golden}, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]}")
    print(json.dumps({"checkpoints": len(golden), "keys": n_keys, "differences": left}))
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
