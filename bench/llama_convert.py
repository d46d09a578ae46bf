"""llama.cpp's own converter on a checkpoint whose made-up tokenizer it does not know by the hash of one text's ids.

    LLAMA_CPP=/path/to/llama.cpp python bench/llama_convert.py FOLDER --outtype bf16 --outfile FILE

For `--reference-converter` of bench/convert.py on the shapes of bench/shapes.py. The pre-tokenizer's name is the one
that edgellm recognises; everything else is the converter's. Needs torch and transformers.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from edgellm.convert.checkpoint.folder import read_json
from edgellm.convert.checkpoint.tokenizer import recognise


def main() -> None:
    """Run the converter with the command line's arguments."""
    root, folder = Path(os.environ["LLAMA_CPP"]), Path(sys.argv[1])
    name = recognise(read_json(folder, "tokenizer.json") or {}, folder)[0].name
    sys.path[:0] = [str(root), str(root / "gguf-py")]
    from conversion.base import TextModel

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        return name

    TextModel.get_vocab_base_pre = get_vocab_base_pre
    if "mtp." not in (folder / "model.safetensors").open("rb").read(1 << 20).decode("latin-1"):
        sys.argv.append("--no-mtp")
    runpy.run_path(str(root / "convert_hf_to_gguf.py"), run_name="__main__")


if __name__ == "__main__":
    main()
