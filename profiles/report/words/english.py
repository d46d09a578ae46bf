"""Every word a rendered report says, in each language: one table, so that a language is one more column."""

# ruff: noqa: E501 - sentences and rules stay whole
from __future__ import annotations

from edgellm.profiles.report import LANGUAGES
from edgellm.profiles.report.words.study import STUDY
from edgellm.profiles.result.caveats import TEXT, Caveat, words

#: key -> (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "on": ("on {machine}", "运行于 {machine}"),
    "versus": ("{a} and {b}", "{a} 与 {b}"),
    "several": ("{n} models", "{n} 个模型"),
    "workload": (
        "reads {n_prompt} tokens, writes {n_gen} · {launches} × {repetitions} repetitions, each launch a fresh process",
        "读入 {n_prompt} 个词元，写出 {n_gen} 个 · {launches} × {repetitions} 次重复，每次启动均为全新进程",
    ),
    "threads": ("{n} threads", "{n} 个线程"),
    "incomplete": ("unfinished run", "运行未完成"),
    "found": ("What was found", "结论"),
    "speed": ("Speed", "速度"),
    "speed_note": (
        "Bars are means; the line across the end is the 95% interval, each dot one sample. Tokens are not a "
        "common unit, for each tokenizer cuts text its own way: bytes are, so compare models by them.",
        "条形为均值；末端横线为 95% 区间，每个点是一个样本。不同分词器切分文本的方式不同，词元不是共同单位；请以字节比较模型。",
    ),
    "tokens_title": ("Token by token", "逐词元耗时"),
    "tokens_note": (
        "Time from one token to the next along the answer: the median of all repetitions, in each position.",
        "回答中每个位置到下一个词元的时间：所有重复的中位数。",
    ),
    "memory": ("Memory", "内存"),
    "memory_note": (
        "What the process held when the work was done. Weights are mapped from the file: the system can drop and "
        "reread them, and share them among processes. The mark is the highest the process ever rose to.",
        "工作完成时进程占用的内存。权重由文件映射而来：系统可以丢弃并重新读取，也可以在进程之间共享。竖线为进程达到过的最高值。",
    ),
    "energy": ("Energy", "能耗"),
    "energy_note": (
        "Measured by {meter}: {scope}. Gross is everything it counted; net leaves out what the machine draws idle "
        "with the model loaded. A package counter without memory flatters models that read more bytes per token.",
        "由 {meter} 测得：{scope}。毛值为计数器的全部；净值减去加载模型后空闲时的功耗。不含内存的处理器计数器会偏向每词元读取字节更多的模型。",
    ),
    "not_measured": ("not measured", "未测量"),
    "no_estimate": (
        "Nothing is drawn here because nothing was measured; edgellm does not guess.",
        "没有测量，因此这里没有数值；edgellm 不做猜测。",
    ),
    "order": ("Repetitions in order", "按顺序的各次重复"),
    "order_note": (
        "Writing speed of each repetition as it was taken, launch after launch. A slope or a step is the "
        "machine's doing, and a ring marks an outlier (it counts all the same).",
        "按测量顺序排列的每次重复的写出速度，依次为各进程。斜坡或台阶来自机器本身；圆圈标出离群值（同样计入）。",
    ),
    "numbers": ("All numbers", "全部数值"),
    "numbers_note": (
        "Mean ± standard deviation, with the 95% interval of the mean below it.",
        "均值 ± 标准差，下方为均值的 95% 区间。",
    ),
    "quantity": ("quantity", "指标"),
    "trust": ("Before you trust these numbers", "采信之前"),
    "trust_none": (
        "Nothing suspicious was seen: other programs kept quiet, and nothing drifted or throttled.",
        "未发现可疑之处：其他程序保持安静，没有漂移，也没有降频。",
    ),
    "n_caveats": ("{n} things to know before trusting these numbers", "采信之前需要知道的 {n} 件事"),
    "one_caveat": ("One thing to know before trusting these numbers", "采信之前需要知道的一件事"),
    "where": ("Where and how", "环境与方法"),
    "machine": ("Machine", "机器"),
    "engine": ("Engine and workload", "引擎与负载"),
    "definitions": ("What the words mean", "术语"),
    "again": ("Measure it again", "重新测量"),
    "again_note": (
        "The same command on your machine gives a page like this one; the JSON beside it holds every sample.",
        "在你的机器上运行同样的命令，会得到同样的页面；同时生成的 JSON 含有每一个样本。",
    ),
    "made_by": ("Made by edgellm {version} on {date}.", "由 edgellm {version} 于 {date} 生成。"),
    "launch": ("launch {n}", "进程 {n}"),
    "position": ("token", "词元"),
    "peak": ("peak", "峰值"),
    "and": (" and ", "、"),
    "unknown": ("not told by this system", "系统未提供"),
    "none": ("none", "无"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    # segments of the memory bar
    "seg_weights": ("weights, from the file", "权重（文件映射）"),
    "seg_engine": ("KV cache, buffers, copies of weights", "KV 缓存、缓冲区与权重副本"),
    "seg_python": ("Python and libraries, private", "Python 与库（私有）"),
    "seg_code": ("libraries' code, from files", "库代码（文件映射）"),
    # findings: one sentence each
    "f_busy": (
        "<b>The machine was busy</b>: other programs used up to {share} of the processor, so read what follows as rough.",
        "<b>机器繁忙</b>：其他程序最多占用了 {share} 的处理器，以下结论仅供粗略参考。",
    ),
    "interval": ("95%: {low} to {high}", "95%：{low} 至 {high}"),
    "by_phase": ("Peak by phase", "各阶段峰值"),
    "p_load": ("load", "加载"),
    "p_prefill": ("read the prompt", "读取提示"),
    "p_decode": ("write the answer", "写出回答"),
    "f_faster": (
        "{a} writes <b>{ratio} times as fast</b> as {b}: {va} against {vb} of text {interval}.",
        "{a} 的写出速度是 {b} 的 <b>{ratio} 倍</b>：文本 {va}，对比 {vb}{interval}。",
    ),
    "f_same_speed": (
        "<b>No measurable difference</b> in writing speed between {a} and {b}: {va} against {vb} of text.",
        "{a} 与 {b} 的写出速度<b>没有可测量的差异</b>：文本 {va}，对比 {vb}。",
    ),
    "f_reads": (
        "{a} <b>reads a prompt {ratio} times as fast</b> as {b} {interval}; the first token comes after {ta} against {tb}.",
        "{a} <b>读取提示的速度是 {b} 的 {ratio} 倍</b>{interval}；首个词元分别在 {ta} 和 {tb} 后出现。",
    ),
    "f_same_reads": (
        "<b>No measurable difference</b> in reading speed; the first token comes after {ta} ({a}) and {tb} ({b}).",
        "读取速度<b>没有可测量的差异</b>；首个词元在 {ta}（{a}）和 {tb}（{b}）后出现。",
    ),
    "f_memory": (
        "{a} needs <b>{percent} less memory</b> than {b}: at most {va} against {vb}.",
        "{a} 比 {b} <b>少用 {percent} 内存</b>：最多 {va}，对比 {vb}。",
    ),
    "f_same_memory": (
        "{a} and {b} need <b>the same memory</b> within 1%: at most {va} and {vb}.",
        "{a} 与 {b} 所需<b>内存相同</b>（相差不到 1%）：最多 {va} 和 {vb}。",
    ),
    "f_energy": (
        "{a} writes on <b>{percent} less energy</b> than {b}: {va} against {vb} of text ({scope}).",
        "{a} 写出文本比 {b} <b>少用 {percent} 能量</b>：{va}，对比 {vb}（{scope}）。",
    ),
    "f_same_energy": (
        "<b>No measurable difference</b> in energy for writing: {va} against {vb} of text.",
        "写出所需能量<b>没有可测量的差异</b>：{va}，对比 {vb}。",
    ),
    "f_no_energy": (
        "<b>Energy was not measured</b>: no counter works on this machine.",
        "<b>未测量能耗</b>：这台机器上没有可用的计数器。",
    ),
    "f_energy_off": ("Energy was not measured: it was not asked for.", "未测量能耗：未要求测量。"),
    "f_one": (
        "{a} writes <b>{rate}</b> ({bytes} of text) and gives the first token after <b>{ttft}</b>.",
        "{a} 每秒写出 <b>{rate}</b>（文本 {bytes}），首个词元在 <b>{ttft}</b> 后出现。",
    ),
    "f_one_memory": ("It needs at most <b>{peak}</b> of memory.", "最多需要 <b>{peak}</b> 内存。"),
    "f_failed": ("{a} did not run: see below.", "{a} 未能运行：见下文。"),
    # tiles
    "t_writes": ("writes", "写出"),
    "t_first": ("first token after", "首词元延迟"),
    "t_peak": ("memory at most", "内存峰值"),
    "t_energy": ("energy to write", "写出能耗"),
    "params": ("{n} parameters", "{n} 参数"),
    # machine and model facts
    "k_cpu": ("processor", "处理器"),
    "k_cores": ("cores", "核心"),
    "cores": ("{physical} physical, {logical} logical, {usable} usable", "物理 {physical}，逻辑 {logical}，可用 {usable}"),
    "k_features": ("CPU features", "CPU 特性"),
    "k_cache": ("last-level cache", "末级缓存"),
    "k_governor": ("frequency governor", "调频策略"),
    "k_frequency": ("frequency", "频率"),
    "frequency": ("{now} MHz (at most {most})", "{now} MHz（最高 {most}）"),
    "k_memory": ("memory", "内存"),
    "k_hypervisor": ("virtual machine", "虚拟机"),
    "k_power": ("power", "供电"),
    "k_os": ("system", "系统"),
    "k_python": ("Python", "Python"),
    "k_libraries": ("libraries", "库"),
    "k_backend": ("engine", "引擎"),
    "k_build": ("built with", "构建选项"),
    "k_threads": ("threads: decode, prefill", "线程：解码、预填充"),
    "k_context": ("context", "上下文"),
    "k_kv": ("KV cache types", "KV 缓存类型"),
    "k_mmap": ("weights mapped", "权重映射"),
    "k_repack": ("weights repacked", "权重重排"),
    "k_flash": ("flash attention", "flash attention"),
    "k_batch": ("batch, micro-batch", "批大小、微批大小"),
    "k_sampling": ("sampling", "采样"),
    "greedy": ("greedy, EOS ignored, seed {seed}", "贪心，忽略 EOS，种子 {seed}"),
    "sampled": ("temperature {temperature}, EOS ignored, seed {seed}", "温度 {temperature}，忽略 EOS，种子 {seed}"),
    "k_noise": ("others' load", "其他程序负载"),
    "noise": ("{share} of the processors at most", "最多占处理器的 {share}"),
    "k_text": ("prompt text", "提示文本"),
    "k_file": ("file", "文件"),
    "k_sha": ("SHA-256", "SHA-256"),
    "k_size": ("size", "大小"),
    "k_arch": ("architecture", "架构"),
    "k_params": ("parameters", "参数量"),
    "k_quant": ("quantization", "量化"),
    "k_tensors": ("tensors", "张量"),
    "k_bpt": ("bytes per token", "每词元字节数"),
    "bpt": ("{value} on our text", "{value}（本项目文本）"),
} | STUDY  # fmt: skip

#: Names of the measurements that reports show, and what they mean: name -> ((en, zh), (en, zh)).
METRICS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "decode_bytes_per_second": (
        ("writing speed, text", "写出速度（文本）"),
        (
            "Decode tokens per second times the bytes of UTF-8 a token of this model stands for on our fixed text.",
            "每秒解码词元数乘以该模型每个词元在固定文本上的 UTF-8 字节数。",
        ),
    ),
    "decode_tokens_per_second": (
        ("writing speed, tokens", "写出速度（词元）"),
        ("Decode: (n - 1) / (time of the last token - time of the first).", "解码：(n - 1) / (末词元时间 - 首词元时间)。"),
    ),
    "prefill_bytes_per_second": (
        ("reading speed, text", "读取速度（文本）"),
        ("Prefill tokens per second times bytes per token on our fixed text.", "每秒预填充词元数乘以固定文本上的每词元字节数。"),
    ),
    "prefill_tokens_per_second": (
        ("reading speed, tokens", "读取速度（词元）"),
        (
            "Prefill: prompt tokens divided by the time from handing them over to the first token in hand.",
            "预填充：提示词元数除以从提交到得到首个词元的时间。",
        ),
    ),
    "ttft_seconds": (
        ("time to first token", "首词元时间"),
        ("Tokenizing the prompt, reading it, and drawing the first token; model loaded and warm.", "分词、读取提示并采样首个词元；模型已加载并预热。"),
    ),
    "tpot_seconds": (
        ("time per token", "每词元时间"),
        ("Mean of the gaps between tokens after the first.", "首词元之后各词元间隔的均值。"),
    ),
    "gap_p95_seconds": (
        ("time per token, 95th percentile", "每词元时间（95 分位）"),
        ("95 of 100 gaps inside a repetition are shorter.", "一次重复中 95% 的间隔比它短。"),
    ),
    "answer_seconds": (
        ("whole answer", "完整回答"),
        ("From the prompt's text to the last token.", "从提示文本到最后一个词元。"),
    ),
    "load_seconds": (
        ("load", "加载"),
        ("Opening the model in a fresh process, its file in the page cache, the engine's library loaded.", "在全新进程中打开模型；文件已在页缓存，引擎库已载入。"),
    ),
    "peak_bytes": (
        ("peak memory", "内存峰值"),
        ("The highest the process's resident memory rose to, by the kernel's own mark (VmHWM).", "进程常驻内存达到的最高值，取自内核的记录（VmHWM）。"),
    ),
    "needed_bytes": (
        ("needed at least", "最低需要"),
        ("Anonymous memory plus the weights touched: with less, the model is read from disk again and again.", "匿名内存加已访问的权重：再少就要反复从磁盘读取模型。"),
    ),
    "anonymous_bytes": (
        ("anonymous memory", "匿名内存"),
        ("Private memory with no file behind it: KV cache, buffers, repacked weights, Python.", "没有文件支撑的私有内存：KV 缓存、缓冲区、重排权重、Python。"),
    ),
    "file_bytes": (
        ("file-backed memory", "文件映射内存"),
        ("Resident pages of mapped files: the weights, and the code of libraries.", "映射文件的常驻页：权重与库代码。"),
    ),
    "pss_bytes": (
        ("proportional memory (PSS)", "按比例内存（PSS）"),
        ("Shared pages divided among the processes that share them.", "共享页按共享进程数分摊。"),
    ),
    "decode_joules_per_byte": (
        ("energy to write, text", "写出能耗（文本）"),
        ("Joules per byte of text written, gross.", "每写出一字节文本的焦耳数（毛值）。"),
    ),
    "decode_joules_per_token": (
        ("energy to write, tokens", "写出能耗（词元）"),
        ("Joules per token decoded, gross.", "每解码一个词元的焦耳数（毛值）。"),
    ),
    "decode_joules_per_token_net": (
        ("energy to write, net of idle", "写出能耗（净值）"),
        ("The same without what the idle machine draws in that time.", "扣除同一时间内空闲功耗。"),
    ),
    "prefill_joules_per_token": (
        ("energy to read, tokens", "读取能耗（词元）"),
        ("Joules per prompt token, gross.", "每个提示词元的焦耳数（毛值）。"),
    ),
    "prefill_joules_per_token_net": (
        ("energy to read, net of idle", "读取能耗（净值）"),
        ("The same without what the idle machine draws in that time.", "扣除同一时间内空闲功耗。"),
    ),
    "idle_watts": (
        ("idle power", "空闲功率"),
        ("Before and after, the model loaded and nothing asked.", "测量前后，模型已加载但无请求。"),
    ),
}  # fmt: skip


def say(key: str, lang: str, /, **values: object) -> str:
    """The words for `key` in a language, filled in."""
    return WORDS[key][LANGUAGES.index(lang)].format(**values)


def metric_name(name: str, lang: str) -> str:
    """What people call a measurement; one of a meter beside the headline's (`NAME@METER`) with the meter's name."""
    base, _, meter = name.partition("@")
    called = METRICS[base][0][LANGUAGES.index(lang)] if base in METRICS else base
    return f"{called} ({meter})" if meter else called


def metric_meaning(name: str, lang: str) -> str:
    """How a measurement is defined."""
    return METRICS[name][1][LANGUAGES.index(lang)]


def caveat_words(caveat: Caveat, lang: str) -> tuple[str, str]:
    """(fact, advice) with the measurement called by its name."""
    from edgellm.profiles.report.words.chinese import CAVEATS

    values = dict(caveat.values)
    if "metric" in values:
        names = [metric_name(name, lang) for name in str(values["metric"]).split(",")]
        values["metric"] = say("and", lang).join(names)
    return words(TEXT if lang == "en" else CAVEATS, caveat.code, values)
