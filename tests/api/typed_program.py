"""A program that uses the Python API as its users do. A line with `wrong:` has a mistake, and mypy says the code there.

Read by test_types.py; never run.
"""

import asyncio
from dataclasses import dataclass

import edgellm
from edgellm import Answer, AsyncStream, Chat, EdgellmError, EngineOptions, Model, Stream, TokenLogprob

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


@dataclass
class City:
    """What pydantic would make."""

    name: str

    @classmethod
    def model_json_schema(cls) -> dict[str, object]:
        return {"type": "object"}

    @classmethod
    def model_validate_json(cls, json_data: str) -> "City":
        return cls(json_data)


def complete(model: Model) -> str:
    answer: Answer = model.complete(FRANCE, temperature=0.5, max_tokens=8, stop=["\n"], logprobs=2)
    model.complete(FRANCE, temprature=0.5)  # wrong: call-arg
    model.complete(FRANCE, temperature="hot")  # wrong: arg-type
    model.complete(7)  # wrong: arg-type
    model.complete(FRANCE, think="yes")  # wrong: arg-type
    for one in answer.logprobs or ():
        drawn: TokenLogprob = one
        print(drawn.text, drawn.logprob + 1, drawn.top[0].data.hex())
    for unguarded in answer.logprobs:  # wrong: union-attr
        print(unguarded)
    answer.text = "other"  # wrong: misc
    length: str = answer.usage.n_generated  # wrong: assignment
    return answer.txt + length  # wrong: attr-defined, no-any-return


def stream(model: Model) -> None:
    with model.stream("Once", seed=None) as pieces:
        for piece in pieces:
            print(piece.upper())
    bytes_: list[bytes] = list(model.stream("Once"))  # wrong: arg-type
    print(bytes_)
    whole: Stream = model.complete("Once")  # wrong: assignment
    print(whole)


def talk(model: Model) -> None:
    chat: Chat = model.chat(system="Be brief.", on_full="stop", top_k=5)
    model.chat(on_full="explode")  # wrong: arg-type
    print(chat.ask("Hello", seed=1).answer.calls[0].arguments["city"])
    chat.respond(["sunny"])  # wrong: arg-type
    chat.save("talk.json")
    Chat.load(model, "talk.json", on_full="drop").aask("Hi")
    Chat.load("talk.json")  # wrong: call-arg, arg-type


def parse(model: Model) -> City:
    found = model.respond(FRANCE, as_=City)
    print(found.name, found.population)  # wrong: attr-defined
    model.respond(FRANCE, as_=dict)  # wrong: type-var
    model.complete(FRANCE, json_schema=City)
    model.complete(FRANCE, json_schema=3)  # wrong: arg-type
    return found


async def wait(model: Model) -> list[str]:
    answer = await model.acomplete(FRANCE)
    forgotten = model.acomplete(FRANCE).text  # wrong: attr-defined
    pieces: AsyncStream = model.astream(FRANCE)
    for piece in pieces:  # wrong: attr-defined
        print(piece, forgotten)
    asked = (await model.chat().aask("Hello")).text
    return [answer.text, asked, *[piece async for piece in pieces]]


def main() -> None:
    with edgellm.load("tiny-qwen3", n_ctx=512, options=EngineOptions(n_threads=1)) as model:
        complete(model)
        asyncio.run(wait(model))
    edgellm.laod("tiny-qwen3")  # wrong: attr-defined
    edgellm.load("tiny-qwen3", n_ctx="512")  # wrong: arg-type
    edgellm.load("tiny-qwen3", options={"n_threads": 1})  # wrong: arg-type
    try:
        print(model.embed(["a"]).shape, model.score("a").perplexity, model.rerank("a", ["b"])[0].score)
    except EdgellmError as error:
        print(error.exit_code + 1)
