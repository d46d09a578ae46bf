"""`edgellm embed`: texts as vectors, for search and comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared.sampling import engine_options, valid_text
from edgellm.errors import UsageError
from edgellm.formats.purpose import POOLINGS
from edgellm.terminal import emit, note, say

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.formats.purpose import Pooling
    from edgellm.generation.embedding import Vectors
    from edgellm.session import EngineOptions


@click.command(short_help="Turn texts into vectors.")
@click.argument("model")
@click.argument("texts", metavar="[TEXT]...", nargs=-1, callback=valid_text)
@click.option(
    "--pooling",
    type=click.Choice(POOLINGS),
    help="The mean over a text's tokens, or the first's (cls) or last's state. Default: the model's own, else mean.",
)
@click.option(
    "--prompt-name", metavar="NAME", help="Put the model's prompt of this name before every text: query."
)
@click.option(
    "--instruct",
    metavar="TEXT",
    callback=valid_text,
    help="Put a task before every text, as Qwen3-Embedding wants it before queries (not documents).",
)
@click.option(
    "--dimensions",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the first N numbers of each vector, for models trained so (Matryoshka).",
)
@click.option("--truncate", is_flag=True, help="Cut texts that do not fit the context, instead of failing.")
@click.option("--no-normalize", is_flag=True, help="Leave vectors as long as they come, instead of one long.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, in the form of OpenAI's API.")
@click.option(
    "--npy", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a NumPy array."
)
@click.option("--force", is_flag=True, help="Let --npy replace a file that is there.")
@engine_options
def command(
    model: str,
    texts: tuple[str, ...],
    pooling: Pooling | None,
    prompt_name: str | None,
    instruct: str | None,
    dimensions: int | None,
    truncate: bool,
    no_normalize: bool,
    as_json: bool,
    npy: Path | None,
    force: bool,
    offline: bool,
    engine: EngineOptions,
) -> None:
    """Embed each TEXT, or each line of standard input, with MODEL: the hidden states after its last layer.

    Prints one JSON array of numbers a line. Texts are compared by the dot product of their vectors. How a vector is
    made of a text is the model's own where its file says so, and is told on standard error.

    \b
      edgellm embed tiny-qwen3 "The cat sleeps." "A dog runs."
      edgellm embed qwen3-embedding.gguf --npy notes.npy < notes.txt
      edgellm embed qwen3-embedding.gguf --prompt-name query "Where did I put the keys?"
    """
    from edgellm import files
    from edgellm.cli.shared import lines, model_argument, open_model
    from edgellm.generation import embedding

    if as_json and npy:
        raise UsageError("--json and --npy exclude each other: give one")
    if npy:
        files.check_output(npy, force=force)
    wanted = lines.given(texts, "TEXT", "embed")
    artifact = model_argument.resolve(model, offline=offline)
    manner = embedding.manner_of(artifact, pooling=pooling, prompt_name=prompt_name, instruct=instruct)
    note(manner.remark)
    with open_model.session(artifact, engine) as session:
        vectors = embedding.embed(
            session, wanted, manner, normalize=not no_normalize, dimensions=dimensions, truncate=truncate
        )
    if npy:
        _write(npy, vectors, force=force)
    else:
        emit(_json(artifact, vectors, manner.pooling) if as_json else _rows(vectors))


def _rows(vectors: Vectors) -> str:
    import json

    return "\n".join(json.dumps(_numbers(row)) for row in vectors)


def _numbers(row: Any) -> list[float]:
    """float32 in as many digits as tell it from its neighbours."""
    return [float(str(value)) for value in row]


def _json(artifact: Artifact, vectors: Vectors, pooling: Pooling) -> str:
    import json

    data = [{"object": "embedding", "index": i, "embedding": _numbers(row)} for i, row in enumerate(vectors)]
    result = {"object": "list", "model": artifact.name, "quantization": artifact.quantization}
    return json.dumps({**result, "pooling": pooling, "data": data})


def _write(path: Path, vectors: Vectors, *, force: bool) -> None:
    import numpy as np

    from edgellm import files

    with files.atomic_path(path, force=force) as temporary, temporary.open("wb") as file:
        np.save(file, vectors)
    say(f"{path}: {vectors.shape[0]} x {vectors.shape[1]} float32")
