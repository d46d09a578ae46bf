"""`edgellm rerank`: documents in the order of their relevance to a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.cli.shared.sampling import engine_options, valid_text
from edgellm.terminal import emit, visible

if TYPE_CHECKING:
    from edgellm.session import EngineOptions


@click.command(short_help="Put documents in the order of their relevance to a query.")
@click.argument("model")
@click.argument("documents", metavar="[DOC]...", nargs=-1, callback=valid_text)
@click.option("-q", "--query", required=True, metavar="TEXT", callback=valid_text, help="What is looked for.")
@click.option(
    "--instruct",
    metavar="TEXT",
    callback=valid_text,
    help="The task in your words, instead of the model's own: given a web search query, ...",
)
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the documents from FILE, one a line.",
)
@click.option("--top-n", type=click.IntRange(min=1), metavar="N", help="Print the first N.")
@click.option(
    "--truncate", is_flag=True, help="Cut documents that do not fit the context, instead of failing."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, in the form rerank servers answer in."
)
@engine_options
def command(
    model: str,
    documents: tuple[str, ...],
    query: str,
    instruct: str | None,
    file: Path | None,
    top_n: int | None,
    truncate: bool,
    as_json: bool,
    offline: bool,
    engine: EngineOptions,
) -> None:
    """Score each DOC, or each line of FILE or standard input, with MODEL, a reranker: Qwen3-Reranker.

    Prints score, number and text of each, the most relevant first. A score is the probability, 0 to 1, that the
    document answers the query.

    \b
      edgellm rerank qwen3-reranker.gguf -q "Where do pandas live?" "In bamboo forests." "They eat bamboo."
      edgellm rerank qwen3-reranker.gguf -q "Where do pandas live?" --top-n 5 < passages.txt
    """
    from edgellm.cli.shared import lines, model_argument, open_model
    from edgellm.generation import reranking

    wanted = lines.given(documents, "DOC", "rank", file)
    artifact = model_argument.resolve(model, offline=offline)
    with open_model.session(artifact, engine) as session:
        found = reranking.rerank(session, query, wanted, instruct=instruct, top_n=top_n, truncate=truncate)
    if not as_json:
        emit("\n".join(f"{one.score:.6f}  {one.index + 1}  {visible(one.document)}" for one in found))
        return
    results = [
        {"index": one.index, "relevance_score": one.score, "document": {"text": one.document}}
        for one in found
    ]
    emit(json.dumps({"model": artifact.name, "quantization": artifact.quantization, "results": results}))
