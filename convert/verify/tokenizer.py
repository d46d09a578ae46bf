"""The part of the proof that needs the `tokenizers` library; for a large vocabulary in a process of its own.

The library takes 180 MB for a real vocabulary, more than the whole rest of a conversion, and a hostile
tokenizer.json can make it panic. Neither is this process's concern then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from edgellm import errors
from edgellm.convert.verify import logits, tokens, transformers_rules
from edgellm.convert.verify.tokens import Expected
from edgellm.errors import CheckFailedError, EdgellmError
from edgellm.formats.gguf.reader import read_header

ISOLATED_BYTES = 4 << 20  # of tokenizer.json, from which on a process is worth its start


def check_tokenizer(path: Path, folder: Path) -> tuple[str, Expected]:
    """Everything about the tokenizer that can be checked without an engine, and what an engine must say.

    The first value is a fact about stop ids. Raises CheckFailedError, CheckpointError.
    """
    if (folder / "tokenizer.json").stat().st_size < ISOLATED_BYTES:
        return _check(path, folder)
    command = [sys.executable, "-m", "edgellm.convert.verify.tokenizer", str(path), str(folder)]
    child = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if child.returncode:
        raise CheckFailedError(
            f"the check of the tokenizer ended with exit code {child.returncode}; is there memory left?"
        )
    reply = json.loads(child.stdout)
    if "error" in reply:
        raise getattr(errors, reply["error"])(reply["text"])
    expected = reply["expected"]
    return reply["stops"], Expected(
        texts=tuple((text, ids) for text, ids in expected.pop("texts")), **expected
    )


def _check(path: Path, folder: Path) -> tuple[str, Expected]:
    header, reading = read_header(path), transformers_rules.read(folder)
    tokens.check_pre_tokenizer(header, reading)
    prompt = tokens.check_template(header, reading)
    tokens.check_vocabulary(header, reading)
    stops = tokens.check_stop_ids(header, reading)
    return stops, tokens.expect(reading, header, prompt, logits.TEXT)


def main() -> None:
    """Check the file and folder given as arguments; the outcome is one JSON object on standard output."""
    try:
        stops, expected = _check(Path(sys.argv[1]), Path(sys.argv[2]))
        reply: dict[str, object] = {"stops": stops, "expected": asdict(expected)}
    except EdgellmError as error:
        reply = {"error": type(error).__name__, "text": str(error)}
    sys.stdout.write(json.dumps(reply))


if __name__ == "__main__":
    main()
