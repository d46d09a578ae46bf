"""`edgellm serve` beside llama-server and llama-cpp-python's server: same file, threads, context, slots and requests.

    python bench/serve.py MODEL.gguf --llama-server PROGRAM --llama-cpp-python PYTHON
        [--clients 1,4,8,16] [-n 64] [-t 2] [--rounds 6] [--quick] [--only NAME,...] [-o FILE.jsonl]

Each client asks for one streamed chat answer after the other. Prompts of 40 to 600 tokens stand behind one system
prompt, no two alike; every answer has -n tokens exactly; sampling is the same. For each number of clients the servers
take turns (ABC, CBA, ...), each freshly started, alone on the machine and warmed up by two requests; the client is one
process (bench/serve_client.py) whose own processor share is shown. As the work is the same, so are the tokens: total
tok/s is prompt and answer tokens of all requests over the wall time, cached ones included. TTFT is from the request to
its first text, TPOT from there to the last over the tokens between, percentiles over all requests of all rounds;
memory is the peak resident size of a server's processes. Ratios are geometric means over neighbouring runs with the 95%
interval by Student's t. One JSON line a run, the last one the summary; exit code 3 where a goal is not met.

The others, from the engine's own sources and with its flags (make setup), so that servers and not compilers differ:
    pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
    tar xf llama_cpp_python-0.3.36.tar.gz
    cmake -S llama_cpp_python-0.3.36/vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \\
        -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse' -DBUILD_SHARED_LIBS=ON -DLLAMA_OPENSSL=OFF \\
        -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
    cmake --build build -j2 --target llama-server       (PROGRAM is build/bin/llama-server)
    python -m venv peer && CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'" peer/bin/pip \\
        install --no-binary llama-cpp-python 'llama-cpp-python[server]==0.3.36'         (PYTHON is peer/bin/python)
(The two -fno flags are GCC's alone: leave them out where the Makefile does.)
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import serve_servers
from serve_servers import Running, Server, Setup

from edgellm import stats

SYSTEM_WORDS = 110
PROMPT_TOKENS = (40, 600)
TOKENS_PER_WORD = 1.05  # of the words below
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
#: Wall time of the peer over ours, at least; by server and clients.
GOALS = {("llama-server", 1): 1.0, ("llama-server", 8): 0.97, ("llama-server", 16): 0.97}
GOALS |= {("llama-cpp-python", 8): 2.5}
WORDS = (
    "river bread robot lantern harbour winter garden engine paper window market bridge silver forest teacher letter "
    "island music morning kitchen shadow travel doctor history mountain question number weather station picture "
    "between without against because through another under every should would bring carry build measure explain "
    "compare describe remember imagine discover repair follow answer listen open close early late small large bright"
)


def words(rng: random.Random, n_tokens: float) -> str:
    """About so many tokens of plain words."""
    return " ".join(rng.choices(WORDS.split(), k=max(1, round(n_tokens / TOKENS_PER_WORD))))


def requests(server: Server, args: argparse.Namespace, n_clients: int, run: int) -> list[list[str]]:
    """Bodies by client; the same for every server, other ones in every run, so that no answer was cached before."""
    system = "You are a helpful assistant. " + words(random.Random(0), SYSTEM_WORDS)
    rng = random.Random(f"{run} {n_clients}")
    low, high = PROMPT_TOKENS
    n_requests = n_clients * args.requests
    # Evenly over the lengths' logarithms, in random order: every run has the same amount of work.
    lengths = [low * (high / low) ** ((i + 0.5) / n_requests) for i in range(n_requests)]
    rng.shuffle(lengths)

    def body(number: int, length: float) -> str:
        question = f"Number {rng.randrange(10**9)}: tell a story with these words: {words(rng, length - 20)}."
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        return json.dumps(
            {
                "messages": messages,
                "max_tokens": args.gen,
                "temperature": 0.8,
                "top_k": 40,
                "top_p": 0.95,
                "min_p": 0.05,
                "seed": number,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            | server.body
        )

    bodies = [body(i, length) for i, length in enumerate(lengths)]
    return [bodies[i::n_clients] for i in range(n_clients)]


def load(running: Running, bodies: list[list[str]]) -> dict[str, Any]:
    """What the client process says of its answers."""
    plan = {"port": running.port, "path": "/v1/chat/completions", "bodies": bodies, "timeout_s": 300}
    client = [sys.executable, "-S", "-E", str(Path(__file__).with_name("serve_client.py"))]
    done = subprocess.run(client, input=json.dumps(plan), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(
    server: Server, setup: Setup, args: argparse.Namespace, n_clients: int, run: int
) -> dict[str, Any]:
    """One server under one load: start, warm up, load, end."""
    with serve_servers.running(server, setup) as running:
        load(running, [bodies[:1] for bodies in requests(server, args, 2, -1)])
        cpu = running.cpu_seconds()
        found = load(running, requests(server, args, n_clients, run))
        cpu = running.cpu_seconds() - cpu
        peak = running.peak_bytes()
    answers, wall = found["answers"], found["wall_s"]
    for answer in answers:
        if answer["error"] is None and answer["n_generated"] not in (None, args.gen):
            answer["error"] = f"{answer['n_generated']} tokens instead of {args.gen}"
    good = [a for a in answers if a["error"] is None]
    prompts = [a["n_prompt"] for a in good if a["n_prompt"] is not None]
    return {
        "server": server.name,
        "clients": n_clients,
        "run": run,
        "wall_s": wall,
        "requests": len(answers),
        "errors": [a["error"] for a in answers if a["error"] is not None],
        "n_prompt": sum(prompts) if len(prompts) == len(good) else None,
        "n_cached": sum(a["n_cached"] or 0 for a in good),
        "n_generated": args.gen * len(good),
        "ttft_s": [a["ttft_s"] for a in good],
        "tpot_s": [a["decode_s"] / (args.gen - 1) for a in good],
        "gap_s": [max(a["gaps_s"], default=0.0) for a in good],
        "server_cpu": cpu / wall,
        "client_cpu": found["client_cpu_s"] / wall,
        "peak_mb": peak / 1e6,
    }


def summary(runs: list[dict[str, Any]], names: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Figures by clients and server, and ours against the others."""
    n_prompts = {r["clients"] + 1e-3 * r["run"]: r["n_prompt"] for r in runs if r["n_prompt"] is not None}
    result: dict[str, Any] = {}
    for n_clients in args.clients:
        rows: dict[str, Any] = {}
        for name in names:
            own = [r for r in runs if r["server"] == name and r["clients"] == n_clients]
            totals = [r["n_generated"] + n_prompts.get(n_clients + 1e-3 * r["run"], 0) for r in own]
            rows[name] = {
                "total_tok_s": statistics.median(t / r["wall_s"] for t, r in zip(totals, own, strict=True)),
                "generated_tok_s": statistics.median(r["n_generated"] / r["wall_s"] for r in own),
                "cached_tokens": statistics.median(r["n_cached"] for r in own),
                "errors": sum(len(r["errors"]) for r in own),
                "server_cpu": statistics.median(r["server_cpu"] for r in own),
                "client_cpu": statistics.median(r["client_cpu"] for r in own),
                "peak_mb": max(r["peak_mb"] for r in own),
                "walls_s": [r["wall_s"] for r in own],
            }
            for figure in ("ttft_s", "tpot_s", "gap_s"):
                values = [v for r in own for v in r[figure]]
                rows[name][figure] = (
                    {q: stats.quantile(values, at) for q, at in QUANTILES.items()} if values else None
                )
        result[str(n_clients)] = rows
    return result


def compare(figures: dict[str, Any], args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Ratios of ours to each other server by clients, and the goals that are not met."""
    ratios: dict[str, Any] = {}
    missed = []
    for n_clients in args.clients:
        rows = figures[str(n_clients)]
        ours = rows.get("edgellm")
        for name, row in rows.items():
            missed += [f"{row['errors']} errors of {name} at {n_clients} clients"] if row["errors"] else []
            if ours is None or name == "edgellm":
                continue
            if (
                name == "llama-cpp-python" and "llama-server" in rows
            ):  # what batching can give on this machine
                between = stats.paired_ratio(row["walls_s"], rows["llama-server"]["walls_s"])
                ratios.setdefault("llama-server of llama-cpp-python", {})[str(n_clients)] = vars(between)
            ratio = stats.paired_ratio(row["walls_s"], ours["walls_s"])
            ratios.setdefault(name, {})[str(n_clients)] = vars(ratio)
            goal = GOALS.get((name, n_clients))
            if goal is not None and ratio.value < goal:
                missed.append(f"{ratio.value:.3f} of {name} at {n_clients} clients, not {goal}")
            if name == "llama-server" and n_clients > 1 and ours["ttft_s"] and row["ttft_s"]:
                mine, other = ours["ttft_s"]["p95"], row["ttft_s"]["p95"]
                if mine > other:
                    missed.append(f"TTFT p95 {mine:.2f} s at {n_clients} clients, {name}'s {other:.2f} s")
    return ratios, missed


def show(figures: dict[str, Any], ratios: dict[str, Any]) -> None:
    """The table: a line a server and number of clients."""
    titles = "clients server total generated cached TTFT,p50/95/99 TPOT,p50/95/99 worst,gap,p95 peak server,CPU client"
    widths = (8, 17, 9, 10, 7, 19, 16, 16, 8, 11, 7)
    print(
        "".join(t.replace(",", " ").rjust(w) for t, w in zip(titles.split(), widths, strict=True)), "  ratio"
    )
    for n_clients, rows in figures.items():
        for name, row in rows.items():
            ttft = "/".join(f"{v:.2f}" for v in row["ttft_s"].values()) if row["ttft_s"] else "-"
            tpot = "/".join(f"{1000 * v:.0f}" for v in row["tpot_s"].values()) if row["tpot_s"] else "-"
            gap = f"{row['gap_s']['p95']:.2f} s" if row["gap_s"] else "-"
            cells = (
                n_clients, name, f"{row['total_tok_s']:.0f}", f"{row['generated_tok_s']:.1f}",
                f"{row['cached_tokens']:.0f}", f"{ttft} s", f"{tpot} ms", gap, f"{row['peak_mb']:.0f} MB",
                f"{row['server_cpu']:.2f}", f"{row['client_cpu']:.3f}",
            )  # fmt: skip
            ratio = ratios.get(name, {}).get(n_clients)
            said = ""
            if ratio:
                said = f"  ours is {ratio['value']:.3f} of it"
                if ratio["ci95_low"] is not None:
                    said += f" ({ratio['ci95_low']:.3f} to {ratio['ci95_high']:.3f})"
            print("".join(cell.rjust(w) for cell, w in zip(cells, widths, strict=True)) + said)


def record(out: Path | None, result: dict[str, Any]) -> None:
    """Append a JSON line where they are wanted."""
    if out is not None:
        with out.open("a") as file:
            print(json.dumps(result), file=file)


def eog_ids(model: Path) -> list[int]:
    """What ends an answer, for the server that must be kept from it by name."""
    import llama_cpp

    llama = llama_cpp.Llama(str(model), vocab_only=True, verbose=False)
    vocab = llama_cpp.llama_model_get_vocab(llama.model)
    ids = [i for i in range(llama.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocab, i)]
    llama.close()
    return ids


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL.gguf", type=Path)
    parser.add_argument("--llama-server", type=Path, metavar="PROGRAM")
    parser.add_argument("--llama-server-options", default="", help="further options of llama-server")
    parser.add_argument("--llama-cpp-python", type=Path, metavar="PYTHON")
    parser.add_argument(
        "--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 8, 16]
    )
    parser.add_argument("--requests", type=int, default=3, help="requests a client in each run")
    parser.add_argument("-n", "--gen", type=int, default=64, help="tokens of every answer")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--slot-ctx", type=int, default=2048, help="tokens of context a slot")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="two rounds, two requests a client")
    parser.add_argument("--only", help="names of the servers to run, by comma")
    parser.add_argument("-o", "--out", type=Path, help="append one JSON line a run, and the summary")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.requests = 2, 2
    return args


def main() -> None:
    args = parsed()
    setup = Setup(args.model.resolve(), args.threads, args.slots, args.slot_ctx)
    servers = [serve_servers.edgellm_server()]
    if args.llama_server:
        servers.append(serve_servers.llama_server(args.llama_server, *args.llama_server_options.split()))
    if args.llama_cpp_python:
        servers.append(serve_servers.llama_cpp_python(args.llama_cpp_python, eog_ids(setup.model)))
    if args.only:
        servers = [s for s in servers if s.name in args.only.split(",")]
    runs: list[dict[str, Any]] = []
    for run in range(args.rounds):
        for n_clients in args.clients:
            for server in servers if run % 2 == 0 else reversed(servers):
                runs.append(measure(server, setup, args, n_clients, run))
                record(args.out, runs[-1])
                said = f"round {run + 1}, {n_clients} clients, {server.name}: {runs[-1]['wall_s']:.1f} s"
                print(said, file=sys.stderr, flush=True)
    figures = summary(runs, [s.name for s in servers], args)
    ratios, missed = compare(figures, args)
    show(figures, ratios)
    settings = {name: str(value) for name, value in vars(args).items()}
    result = {"settings": settings, "figures": figures, "ratios": ratios, "missed": missed}
    record(args.out, result)
    print(json.dumps(result))
    sys.exit(3 if missed else 0)


if __name__ == "__main__":
    main()
