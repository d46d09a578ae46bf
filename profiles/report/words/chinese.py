"""The caveats in Chinese: code -> (fact, advice), with the same fields as the English table in caveats.py."""

# ruff: noqa: E501 - sentences and rules stay whole
from __future__ import annotations

CAVEATS: dict[str, tuple[str, str]] = {
    "foreign-load": (
        "其他程序最多占用了 {share:.0%} 的处理器，{n} 个进程中有 {count} 个超过 2%",
        "关闭它们或稍候再运行：这里的慢可能是它们造成的",
    ),
    "steal": (
        "虚拟机监控器最多把 {share:.0%} 的处理器给了其他虚拟机，{n} 个进程中有 {count} 个超过 2%",
        "换个安静的时间，或使用独占的机器",
    ),
    "throttled": (
        "处理器降频 {count} 次",
        "改善散热或减少线程：这些数值来自过热的机器",
    ),
    "cpu-quota": (
        "容器的 CPU 配额限制了 {count} 次",
        "提高配额，或使用更少的线程",
    ),
    "outliers": ("{metric}：{n} 个样本中有 {count} 个明显偏离（同样计入）", "查看按顺序的各次重复；增加重复次数（-r）可减轻其影响"),
    "drift": (
        "{metric}：从第一次到最后一次重复漂移了 {percent:+.0f}%",
        "让机器达到稳定状态后再运行",
    ),
    "launches-differ": (
        "{metric}：各进程相差 {percent:.0f}%，大于进程内部的差异",
        "增加 --launches：显示的离散程度偏小",
    ),
    "one-launch": (
        "每个模型只在一个进程中运行，而进程之间的差异不会体现在重复中",
        "在断定哪个模型更快之前，请使用 --launches 2 或更多",
    ),
    "wide": (
        "{metric}：95% 区间宽达 ±{percent:.0f}%",
        "增加 -r 或 --launches，直到足以支持你的判断",
    ),
    "too-many-threads": ("{threads} 个线程，但只有 {cores} 个可用处理器", "使用 -t {cores} 或更少：互相等待的代价大于多出的线程"),
    "on-battery": ("机器正在使用电池，固件可能降低频率", "比较速度时请接通电源；用电池计量能耗时则保持电池供电"),
    "governor": ("CPU 调频策略为 {governor}", "选择 performance 策略可使数值更稳定（cpupower frequency-set -g performance）"),
    "swapping": ("{phase} 阶段结束时，进程有 {bytes} 字节被换出", "释放内存，或选择更小的量化：这些数值来自内存不足的机器"),
    "idle-differs": (
        "进程前后的空闲功率最多相差 {percent:.0f}%",
        "净能耗取决于基线：请在更安静的机器上运行",
    ),
    "small-model": (
        "{names}：小于处理器末级缓存（{megabytes:.0f} MB）的四倍",
        "权重可能来自缓存：不要由此推断更大模型的速度",
    ),
    "launch-failed": ("第 {launch} 个进程失败：{error}", "缺少它的数值；其他进程的结果有效"),
    "budget-spent": ("{n} 组运行中有 {count} 组未完成全部进程，时间已用完", "使用 --resume 和更大的 --budget 从此处继续"),
    "above-limit": (
        "{metric}：达到这台机器实测上限的 {percent:.0f}%",
        "上限或字节数在此有误：请相信速度，而不是它占上限的比例",
    ),
    "incomplete": ("已完成 {planned} 个进程中的 {done} 个", "此文件在运行期间写出，每个进程结束后更新"),
    "engine-note": ("{note}", "参见 `edgellm doctor`"),
}  # fmt: skip
