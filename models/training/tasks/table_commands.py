"""What there is to ask about edgellm's commands, as tables."""

from __future__ import annotations

from dataclasses import dataclass

SLOTS: dict[str, tuple[str, ...]] = {
    "m": (
        "tiny-qwen3", "tiny-llama3", "qwen3-0.6b", "qwen3-1.7b", "qwen2.5-0.5b", "qwen2.5-1.5b",
        "llama-3.2-1b",
        "llama-3.2-3b", "my-model", "model.gguf",
    ),
    "k": ("tiny-qwen3", "tiny-llama3", "qwen3-0.6b", "llama-3.2-1b", "my-model", "other.gguf"),
    "q": ("q8_0", "q4_0", "Q4_K_M", "Q5_K_M", "f16", "bf16", "f32"),
    "n": ("1", "7", "16", "42", "64", "100", "128", "256"),
}  # fmt: skip


@dataclass(frozen=True)
class HowTo:
    """A question that a command with slots answers."""

    name: str
    command: str
    ask_en: tuple[str, ...]
    ask_zh: tuple[str, ...]


@dataclass(frozen=True)
class LookUp:
    """A question that a fixed sentence answers."""

    name: str
    ask_en: tuple[str, ...]
    reply_en: str
    ask_zh: tuple[str, ...]
    reply_zh: str


HOW_TO = (
    HowTo(
        "convert",
        "edgellm convert {m} --quant {q}",
        (
            "How do I convert {m} to {q}?",
            "Which command converts {m} to {q}?",
            "Quantize {m} to {q}.",
            "I want {m} as {q}. What do I type?",
        ),
        (
            "怎么把{m}转换成{q}？",
            "用什么命令把{m}转成{q}？",
            "把{m}量化为{q}。",
            "我想要{q}格式的{m}，该输入什么？",
        ),
    ),
    HowTo(
        "convert-out",
        "edgellm convert {m} -o {k} --quant {q}",
        ("How do I convert {m} to {q} and write it to {k}?", "Convert {m} to {q} with the output {k}."),
        ("怎么把{m}转换成{q}并保存到{k}？", "把{m}转成{q}，输出到{k}。"),
    ),
    HowTo(
        "chat",
        "edgellm chat {m}",
        ("How do I chat with {m}?", "Which command starts a chat with {m}?", "I want to talk to {m}."),
        ("怎么和{m}聊天？", "用什么命令和{m}对话？", "我想跟{m}聊聊。"),
    ),
    HowTo(
        "run",
        "edgellm run {m}",
        ("How do I run {m}?", "Which command runs {m}?", "How can I send one prompt to {m}?"),
        ("怎么运行{m}？", "用什么命令运行{m}？", "怎么给{m}发一条提示？"),
    ),
    HowTo(
        "run-seed",
        "edgellm run {m} --seed {n}",
        ("How do I run {m} with seed {n}?", "Run {m} with the seed {n}."),
        ("怎么用种子{n}运行{m}？", "用随机种子{n}运行{m}。"),
    ),
    HowTo(
        "profile",
        "edgellm profile {m}",
        ("How fast is {m}?", "How do I measure the speed of {m}?", "Which command profiles {m}?"),
        ("{m}有多快？", "怎么测量{m}的速度？", "用什么命令测试{m}的性能？"),
    ),
    HowTo(
        "profile-runs",
        "edgellm profile {m} -r {n}",
        ("How do I profile {m} with {n} runs?", "Measure the speed of {m} {n} times."),
        ("怎么把{m}测试 {n} 次？", "测量{m}的速度，重复{n}次。"),
    ),
    HowTo(
        "profile-tokens",
        "edgellm profile {m} -n {n}",
        ("How do I profile {m} with {n} new tokens?", "Measure {m} while it writes {n} tokens."),
        ("怎么测量{m}生成{n}个词元的速度？", "测试{m}，让它生成{n}个词元。"),
    ),
    HowTo(
        "compare",
        "edgellm compare {m} {k}",
        (
            "How do I compare {m} and {k}?",
            "Which command compares {m} with {k}?",
            "Which is better, {m} or {k}?",
        ),
        ("怎么比较{m}和{k}？", "用什么命令比较{m}和{k}？", "{m}和{k}哪个更好？"),
    ),
    HowTo(
        "eval",
        "edgellm eval {m}",
        ("How good is {m}?", "How do I measure the quality of {m}?", "Which command evaluates {m}?"),
        ("{m}的质量怎么样？", "怎么评测{m}？", "用什么命令评估{m}的质量？"),
    ),
    HowTo(
        "inspect",
        "edgellm inspect {m}",
        ("What is inside {m}?", "How do I look into {m}?", "How do I see the tensors of {m}?"),
        ("{m}里面有什么？", "怎么查看{m}？", "怎么看{m}的张量？"),
    ),
)

LOOK_UP = (
    LookUp(
        "doctor",
        ("How do I check my machine?", "Which command checks my computer?", "What does edgellm doctor do?",
         "How do I find problems on this machine?"),
        "`edgellm doctor` checks your machine.",
        ("怎么检查我的电脑？", "用什么命令检查机器？", "edgellm doctor 是做什么的？",
         "怎么查找这台机器的问题？"),
        "`edgellm doctor` 检查你的机器。",
    ),
    LookUp(
        "list",
        ("Which models are there?", "How do I list the models?", "What does edgellm list do?",
         "Show me the models."),
        "`edgellm list` shows the models.",
        ("有哪些模型？", "怎么列出模型？", "edgellm list 是做什么的？", "给我看看有什么模型。"),
        "`edgellm list` 列出模型。",
    ),
    LookUp(
        "flag-quant",
        ("What does --quant do?", "What is --quant for?", "Explain the option --quant.",
         "What does the flag --quant mean?"),
        "`--quant` chooses the type of the weights.",
        ("--quant 是什么意思？", "--quant 有什么用？", "解释一下选项 --quant。", "参数 --quant 做什么？"),
        "`--quant` 选择权重的类型。",
    ),
    LookUp(
        "flag-o",
        ("What does -o do in convert?", "What is -o for?", "Explain the option -o.",
         "What does the flag -o mean?"),
        "`-o` names the output.",
        ("-o 是什么意思？", "-o 有什么用？", "解释一下选项 -o。", "参数 -o 做什么？"),
        "`-o` 指定输出的位置。",
    ),
    LookUp(
        "flag-seed",
        ("What does --seed do?", "What is --seed for?", "Explain the option --seed.",
         "How do I make an answer repeatable?"),
        "`--seed` makes an answer repeatable.",
        ("--seed 是什么意思？", "--seed 有什么用？", "解释一下选项 --seed。", "怎么让回答可以重复？"),
        "`--seed` 让回答可以重复。",
    ),
    LookUp(
        "flag-force",
        ("What does --force do?", "What is --force for?", "Explain the option --force.",
         "How do I replace an old output?"),
        "`--force` replaces an output that exists.",
        ("--force 是什么意思？", "--force 有什么用？", "解释一下选项 --force。", "怎么覆盖旧的输出？"),
        "`--force` 覆盖已有的输出。",
    ),
    LookUp(
        "flag-verify",
        ("What does --no-verify do?", "What is --no-verify for?", "Explain the option --no-verify.",
         "How do I skip the check after a conversion?"),
        "`--no-verify` skips the check of the converted model.",
        ("--no-verify 是什么意思？", "--no-verify 有什么用？", "解释一下选项 --no-verify。",
         "怎么跳过转换后的检查？"),
        "`--no-verify` 跳过转换后的检查。",
    ),
    LookUp(
        "edgellm",
        ("What is edgellm?", "What does edgellm do?", "Tell me about edgellm.",
         "What can I do with edgellm?"),
        "edgellm converts, runs and measures small language models.",
        ("edgellm是什么？", "edgellm有什么用？", "介绍一下edgellm。", "我可以用edgellm做什么？"),
        "edgellm可以转换、运行和测量小型语言模型。",
    ),
    LookUp(
        "gguf",
        ("What is GGUF?", "What is a GGUF file?", "Explain GGUF.", "Tell me about GGUF."),
        "GGUF is a file format for language models.",
        ("GGUF是什么？", "什么是GGUF文件？", "解释一下GGUF。", "介绍一下GGUF。"),
        "GGUF是一种语言模型的文件格式。",
    ),
    LookUp(
        "quantization",
        ("What is quantization?", "What does quantization mean?", "Explain quantization.",
         "Tell me about quantization."),
        "Quantization stores the weights of a model in fewer bits.",
        ("量化是什么？", "什么叫量化？", "解释一下量化。", "介绍一下量化。"),
        "量化就是用更少的位来保存模型的权重。",
    ),
)  # fmt: skip
