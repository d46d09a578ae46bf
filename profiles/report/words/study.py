"""The words of what only larger reports have: quality against cost, rooflines, depth, many runs, comparisons."""

# ruff: noqa: E501 - sentences and rules stay whole
from __future__ import annotations

#: key -> (English, Chinese)
STUDY: dict[str, tuple[str, str]] = {
    "short_threads": ("{n}t", "{n} 线程"),
    "spoken_depth": ("{n} tokens deep", "深度 {n} 词元"),
    "title_study": ("{models} models in {runs} runs", "{models} 个模型，{runs} 次运行"),
    "workloads": (
        "{launches} launches or more of each run, in random order, each a fresh process with {repetitions} timed repetitions",
        "每项至少启动 {launches} 次，顺序随机；每次启动均为全新进程，含 {repetitions} 次计时重复",
    ),
    "quality_cost": ("Quality against cost", "质量与代价"),
    "quality_cost_note": (
        "Lower and further left is better. Each model stands at the settings with which it writes fastest here; crosses "
        "are 95% intervals, and the line joins what nothing else beats in both. Bits per byte say how well a model "
        "predicts text ({text}), whatever its tokenizer; seconds and joules are for writing a thousand bytes of text.",
        "越靠左下越好。每个模型取其在本机写出最快的设置；十字为 95% 区间，折线连接两方面均不被超越的模型。每字节比特数衡量模型对文本（{text}）的预测能力，与分词器无关；秒与焦耳均指写出一千字节文本。",
    ),
    "ax_time": ("seconds to write 1 kB", "写出 1 kB 的秒数"),
    "ax_energy": ("joules to write 1 kB", "写出 1 kB 的焦耳数"),
    "ax_memory": ("peak memory", "内存峰值"),
    "ax_bits": ("bits per byte", "每字节比特数"),
    "ax_wrong": ("wrong answers", "答错比例"),
    "q_time": ("Prediction against time", "预测能力与时间"),
    "q_memory": ("Prediction against memory", "预测能力与内存"),
    "q_energy": ("Prediction against energy", "预测能力与能耗"),
    "q_tasks": ("Wrong answers against time", "答错比例与时间"),
    "all_runs": ("All runs", "全部运行"),
    "all_runs_note": (
        "Means, with half the 95% interval; a click on a column's name sorts by it. “–”: not measured.",
        "均值与 95% 区间的一半；点击列名可排序。“–”表示未测量。",
    ),
    "c_model": ("model", "模型"),
    "c_run": ("settings", "设置"),
    "c_size": ("file", "文件"),
    "c_bpb": ("bits per byte", "比特/字节"),
    "c_kld": ("mean KLD", "平均 KLD"),
    "c_same": ("same top", "首选相同"),
    "c_tasks": ("tasks right", "任务正确"),
    "c_mbu": ("of bandwidth", "占带宽"),
    "c_ttft": ("first token", "首词元"),
    "c_peak": ("peak memory", "内存峰值"),
    "c_read": ("reads", "读取"),
    "c_write": ("writes", "写出"),
    "c_load": ("load", "加载"),
    "c_energy": ("energy", "能耗"),
    "depth": ("Writing speed by context depth", "写出速度与上下文深度"),
    "depth_note": (
        "Tokens already in the cache when the answer begins; each point with its 95% interval.",
        "回答开始时缓存中已有的词元数；每点附 95% 区间。",
    ),
    "ax_depth": ("tokens in the cache", "缓存中的词元"),
    "roofline": ("Against the machine’s ceilings", "对照机器的上限"),
    "roofline_note": (
        "The roof is what this machine was seen to do in the same kind of process: it reads {bandwidth} and computes "
        "{operations} with {threads}. Filled points write (one token reads all weights), rings read a prompt (many tokens "
        "share each weight read). Where a point touches the roof, no kernel could be faster.",
        "上限为本机在同类进程中的实测值：使用{threads}时读取 {bandwidth}，计算 {operations}。实心点为写出（每个词元读取全部权重），圆环为读取提示（多个词元共享一次读取）。触及上限处，任何内核都无法更快。",
    ),
    "roofline_cache": (
        "The processor’s cache may hold good parts of {names}: their points may lie over the roof, and no claim is made for them.",
        "处理器缓存可能容纳 {names} 的大部分：其点可能高于上限，不据此下结论。",
    ),
    "roofline_absent": ("The machine’s ceilings were not measured in this run.", "此次运行未测量机器的上限。"),
    "ax_intensity": ("operations per byte read", "每读一字节的运算"),
    "ax_operations": ("operations per second", "每秒运算"),
    "roof_memory": ("memory", "内存"),
    "seg_w": ("weights", "权重"),
    "seg_kv": ("KV cache", "KV 缓存"),
    "seg_compute": ("compute buffers", "计算缓冲区"),
    "seg_rest": ("rest: interpreter, libraries, tokenizer", "其余：解释器、库、分词器"),
    "split_note": (
        "The peak of the process taken apart. Weights are mapped from the file where the engine allows it: the system can "
        "drop and reread them, and share them among processes.",
        "进程峰值的构成。引擎允许时权重由文件映射：系统可以丢弃并重新读取，也可以在进程之间共享。",
    ),
    "e_phases": ("One request from a cold start", "一次冷启动请求"),
    "e_phases_note": (
        "A request is loading, reading {n_prompt} tokens and writing {n_gen}; a dashed part was not measured.",
        "一次请求指加载、读取 {n_prompt} 个词元并写出 {n_gen} 个；虚线部分未测量。",
    ),
    "e_load": ("load", "加载"),
    "e_prefill": ("read the prompt", "读取提示"),
    "e_decode": ("write the answer", "写出回答"),
    "order_all_note": (
        "Each dot is one repetition’s writing speed against the median of its own run, in the order in which all launches "
        "took turns. A slope or a step that all share is the machine’s doing.",
        "每个点是一次重复的写出速度相对其自身运行中位数的偏差，按全部启动的先后排列。所有运行共有的斜坡或台阶来自机器本身。",
    ),
    "ax_order": ("launch, in order", "启动次序"),
    "ax_deviation": ("from own median", "相对自身中位数"),
    "n_alike": ("{n} more of this kind", "另有 {n} 条同类"),
    "one_thread": ("1 thread", "1 个线程"),
    "speed_note_many": (
        "Bars are means, the line on each the 95% interval. All charts of a quantity share one scale. Tokens are not a "
        "common unit, for each tokenizer cuts text its own way: bytes are.",
        "条形为均值，其上横线为 95% 区间；同一指标的各图比例相同。不同分词器切分文本的方式不同，词元不是共同单位，字节才是。",
    ),
    "details": ("All numbers of each run", "每次运行的全部数值"),
    "models": ("Models", "模型"),
    "n_runs": ("{n} runs: {names}", "{n} 次运行：{names}"),
    "and_more": ("{names} and {n} more", "{names} 等另外 {n} 个"),
    # several machines
    "machines": ("Machine against machine", "机器对比"),
    "machines_note": (
        "The same files on each machine, each at the settings with which it writes fastest there; bars are means, lines 95% intervals.",
        "各机器运行同一文件，各取其写出最快的设置；条形为均值，横线为 95% 区间。",
    ),
    "join_title": ("{n} machines, {models} models in common", "{n} 台机器，{models} 个共有模型"),
    "join_speed": (
        "<b>{a} writes {ratio} times as fast as {b}</b> {interval}, over {n} models in common.",
        "<b>{a} 的写出速度是 {b} 的 {ratio} 倍</b>{interval}（{n} 个共有模型）。",
    ),
    "join_one": (
        "<b>{a} writes {ratio} times as fast as {b}</b> {interval}, with the {n} model in common.",
        "<b>{a} 的写出速度是 {b} 的 {ratio} 倍</b>{interval}（{n} 个共有模型）。",
    ),
    "join_energy": (
        "{a} takes <b>{ratio} times the energy</b> of {b} to write the same text {interval}; their meters see: each its own scope.",
        "写出同样文本，{a} 的能耗是 {b} 的 <b>{ratio} 倍</b>{interval}；各自的计量范围不同，见下文。",
    ),
    "join_more": ("{n} more models", "另外 {n} 个模型"),
    "join_each": ("Each machine in full", "各机器的完整报告"),
    # comparisons
    "ratios": ("Ratios", "比值"),
    "cmp_title": ("{names}", "{names}"),
    "cmp_versus": (" against ", " 对比 "),
    "cmp_ratio": ("ratio [95%]", "比值 [95%]"),
    "cmp_ahead": ("verdict", "结论"),
    "cmp_winner": ("{a} is better", "{a} 更优"),
    "cmp_to": (" against ", " 对 "),
    "cmp_several": ("no single best", "没有唯一的最优"),
    "cmp_against": ("{a} against {b}", "{a} 对比 {b}"),
    "cmp_worse": ("worse", "更差"),
    "cmp_better": ("better", "更好"),
    "cmp_plot_note": (
        "Each ratio with its 95% interval, turned so that right is better. Grey: no measurable difference.",
        "每个比值附 95% 区间，方向统一为右侧更好。灰色：没有可测量的差异。",
    ),
    "cmp_note": (
        "Ratios are to the first, with 95% intervals. A winner is named only where the difference survives {tests} tests "
        "judged together (Holm, {level}) and is larger than 1%.",
        "比值均相对第一项，附 95% 区间。只有差异在 {tests} 项检验的联合判断（Holm，{level}）下仍然成立且大于 1% 时，才指出优者。",
    ),
    "cmp_unpaired": (
        "These were measured at different times and not in turns: in time and energy only differences over {margin} count. "
        "`edgellm compare` with models measures them in turns.",
        "这些结果在不同时间测得，并非轮流进行：时间与能耗只有超过 {margin} 的差异才算数。用模型作参数运行 `edgellm compare` 会轮流测量。",
    ),
    "cmp_same_tokenizer": (
        "All cut text into tokens alike, so the ratios per byte are those per token.",
        "各模型切分文本的方式相同，因此按字节与按词元的比值一致。",
    ),
    # findings of studies
    "f_most": (
        "{a} gives <b>the most for the least here</b>: within {margin} of the best prediction ({bits} against {best} bits per byte of {b}), it writes text at {rate}{versus}, in {peak} of memory.",
        "{a} 在本机<b>以最小代价获得最多</b>：预测能力与最佳相差不到 {margin}（每字节 {bits} 比特，{b} 为 {best}），写出文本 {rate}{versus}，占用内存 {peak}。",
    ),
    "f_most_alone": (
        "{a} gives <b>the most for the least here</b>: it predicts best ({bits} bits per byte), none within {margin} of that writes measurably faster than its {rate}, and of those as fast it needs the least memory, {peak}.",
        "{a} 在本机<b>以最小代价获得最多</b>：预测能力最佳（每字节 {bits} 比特），与之相差不到 {margin} 的模型都没有比它的 {rate} 快得可以测出，而在同样快的模型中它占用内存最少，{peak}。",
    ),
    "f_versus": (", {ratio} times as fast as {b} {interval}", "，速度是 {b} 的 {ratio} 倍{interval}"),
    "f_versus_same": (", no measurable difference from {b}", "，与 {b} 没有可测量的差异"),
    "f_least_energy": (
        "Of those, {a} writes on the least energy: <b>{joules}</b> of text.",
        "其中 {a} 写出文本能耗最低：<b>{joules}</b>。",
    ),
    "f_smallest": (
        "{a} needs <b>the least memory</b>, {peak}; its predictions cost {percent} more bits per byte than the best.",
        "{a} <b>占用内存最少</b>，为 {peak}；其每字节比特数比最佳高 {percent}。",
    ),
    "f_families": (
        "<b>{qa} against {qb}</b> ({setting}): {parts}.",
        "<b>{qa} 对比 {qb}</b>（{setting}）：{parts}。",
    ),
    "p_bits": ("bits per byte {va} against {vb}, {verdict}", "每字节比特数 {va} 对 {vb}，{verdict}"),
    "p_tasks": ("tasks right {va} against {vb}, {verdict}", "任务正确率 {va} 对 {vb}，{verdict}"),
    "p_seconds": ("time to write 1 kB {va} against {vb}, {verdict}", "写出 1 kB 用时 {va} 对 {vb}，{verdict}"),
    "p_joules": ("energy to write 1 kB {va} against {vb}, {verdict}", "写出 1 kB 能耗 {va} 对 {vb}，{verdict}"),
    "p_no_joules": ("energy not measured", "未测量能耗"),
    "p_better": ("<b>{a} is better</b>{ratio}", "<b>{a} 更优</b>{ratio}"),
    "p_same": ("no measurable difference", "没有可测量的差异"),
    "p_untold": ("too few launches to tell", "启动次数太少，无法判断"),
    "join_parts": ("; ", "；"),
    "f_threads": (
        "<b>{n} threads write {ratio} times as fast as {m}</b> {interval}, as {a} shows.",
        "<b>{n} 线程的写出速度是 {m} 线程的 {ratio} 倍</b>{interval}（以 {a} 为例）。",
    ),
    "f_threads_same": (
        "<b>No measurable difference</b> in writing speed between {n} threads and {m}, as {a} shows.",
        "{n} 线程与 {m} 线程的写出速度<b>没有可测量的差异</b>（以 {a} 为例）。",
    ),
    "f_fastest": (
        "{a} <b>writes fastest</b>: {va} of text, {ratio} times {b} {interval}, which is next.",
        "{a} <b>写出最快</b>：文本 {va}，是次快的 {b} 的 {ratio} 倍{interval}。",
    ),
    "f_leaders": (
        "{a} and {b} <b>write fastest</b>, with no measurable difference between them: {va} and {vb} of text.",
        "{a} 与 {b} <b>写出最快</b>，二者没有可测量的差异：文本 {va} 与 {vb}。",
    ),
    "f_least_memory": (
        "{a} <b>needs the least memory</b>: {va}; {b} needs the most, {vb}.",
        "{a} <b>占用内存最少</b>：{va}；{b} 最多，为 {vb}。",
    ),
    "f_no_quality": (
        "What they are worth was not measured: add --quality to weigh quality against cost.",
        "未测量质量：加上 --quality 即可权衡质量与代价。",
    ),
}  # fmt: skip
