// The page's words in English and Chinese, and how numbers are written.

/** Words in `{braces}` are filled in; `name.one` is used where `n` is 1. */
export const WORDS = {
  en: {
    newChat: "New chat", chats: "Chats", search: "Search chats", noChats: "No chats yet", untitled: "Untitled",
    openList: "Show chats", closeList: "Hide chats", settings: "Settings", model: "Model", language: "Language",
    today: "Today", yesterday: "Yesterday", week: "Last 7 days", older: "Older",
    options: "Options for {title}", rename: "Rename", remove: "Delete", removed: "Deleted “{title}”", undo: "Undo",
    exportMarkdown: "Export Markdown", exportJson: "Export JSON", exportAll: "Export all", importChats: "Import",
    imported: "{n} chats imported", "imported.one": "1 chat imported",
    hello: "What would you like to know?",
    privacy: "Your words go to this server and nowhere else. Chats are kept in this browser.",
    ideas: ["Explain how a KV cache speeds up decoding", "Write a Python function that merges two sorted lists",
      "Compare Wi-Fi and Ethernet in a table", "Translate into Chinese: The meeting starts at nine"],
    ask: "Ask something", send: "Send", stop: "Stop", sendKeys: "Enter sends, Shift+Enter begins a new line",
    think: "Thinking", thinkAuto: "Thinking: auto", thinkOn: "Thinking: on", thinkOff: "Thinking: off",
    you: "You", answer: "Answer", answerBy: "{model}", tool: "Result of {name}",
    copy: "Copy", copied: "Copied", copyFailed: "The browser did not let the page copy", code: "code",
    edit: "Edit", again: "Answer again", cancel: "Cancel", save: "Save", close: "Close",
    branch: "Version {i} of {n}", earlier: "Earlier version", later: "Later version",
    thinkingNow: "Thinking…", thought: "Thought", thoughtFor: "Thought for {time}",
    waiting: "Waiting for the first token…", loading: "Loading {model}…", writing: "Writing…",
    complete: "Answer complete", codeBlock: "Code, {n} lines", "codeBlock.one": "Code, one line",
    calls: "Calls {name}", result: "Result", sendResult: "Send result", sendResults: "Send results",
    stopped: "Stopped by you.", cutOff: "The answer was cut off at its token limit or where the context was full.",
    interrupted: "Not finished: the page was closed, or another window is writing it.", empty: "The answer is empty.",
    tokens: "{n} tokens", "tokens.one": "1 token", token: "token", firstAfter: "first after {time}",
    costPrompt: "Prompt", costAnswer: "Answer", costQueue: "Waited in the queue", costPrefill: "Prefill",
    costDecode: "Decode", costDrafts: "Draft tokens", costEnergy: "Energy", notMeasured: "not measured",
    ofCache: "{n} from the cache", ofThinking: "{n} of them thinking", ofDrafts: "{accepted} of {drafted} accepted",
    retry: "Try again", newest: "Jump to the newest",
    goneTitle: "The server does not answer", goneText: "Is edgellm serve still running? Your message is kept.",
    backText: "The server is back.",
    brokenTitle: "The answer broke off", brokenText: "The connection ended before the answer did.",
    keyTitle: "The server wants an API key", keyText: "It is the one that edgellm serve was started with.",
    key: "API key", keySave: "Use this key", keyKept: "Kept in this browser.",
    busyTitle: "The server's queue is full", busyText: "Others are being answered. Wait a moment.",
    crashTitle: "The engine has stopped", crashText: "The server starts it again for the next request.",
    timeoutTitle: "It took too long", timeoutText: "The server gave this request up.",
    requestTitle: "The server cannot do this", serverTitle: "The server failed",
    connecting: "Connecting…", noModel: "no model",
    full: "The browser's storage is full: this chat is not saved. Export or delete old chats.",
    refused: "The browser does not let the page save: chats last until it is closed.",
    gone: "This chat was deleted in another window and is no longer saved.",
    unreadable: "This file holds no chats that the page can read.",
    forChat: "For this chat; new ones begin with the same.",
    system: "System prompt", systemHint: "What the model is told before everything else.",
    temperature: "Temperature", topP: "Top-p", maxTokens: "Max tokens", seed: "Seed",
    byServer: "server's choice", seedHint: "a fresh one", noLimit: "no limit",
    tools: "Tools (JSON)", toolsHint: "A list of functions in OpenAI's form. Calls are shown; you type their results.",
    toolsWrong: "This is not a JSON list of tools.", forPage: "For this page",
    keys: "Keys", keyEnter: "Enter", keyEsc: "stop the answer", keyNew: "new chat", keyList: "show or hide chats",
    keyEdit: "edit your last message", keyNewline: "new line",
    exportedOn: "Exported from edgellm",
  },
  zh: {
    newChat: "新对话", chats: "对话", search: "搜索对话", noChats: "还没有对话", untitled: "无标题",
    openList: "显示对话列表", closeList: "隐藏对话列表", settings: "设置", model: "模型", language: "语言",
    today: "今天", yesterday: "昨天", week: "近 7 天", older: "更早",
    options: "“{title}”的操作", rename: "重命名", remove: "删除", removed: "已删除“{title}”", undo: "撤销",
    exportMarkdown: "导出 Markdown", exportJson: "导出 JSON", exportAll: "全部导出", importChats: "导入",
    imported: "已导入 {n} 个对话",
    hello: "想问点什么？",
    privacy: "您的内容只发送到这台服务器，不会去别处。对话保存在本浏览器中。",
    ideas: ["解释 KV 缓存为什么能加快解码", "写一个合并两个有序列表的 Python 函数", "用表格比较 Wi-Fi 和以太网",
      "翻译成英文：会议九点开始"],
    ask: "输入问题", send: "发送", stop: "停止", sendKeys: "Enter 发送，Shift+Enter 换行",
    think: "思考", thinkAuto: "思考：自动", thinkOn: "思考：开", thinkOff: "思考：关",
    you: "您", answer: "回答", answerBy: "{model}", tool: "{name} 的结果",
    copy: "复制", copied: "已复制", copyFailed: "浏览器不允许本页复制", code: "代码",
    edit: "编辑", again: "重新回答", cancel: "取消", save: "保存", close: "关闭",
    branch: "第 {i} 版，共 {n} 版", earlier: "上一版", later: "下一版",
    thinkingNow: "正在思考…", thought: "思考过程", thoughtFor: "思考了 {time}",
    waiting: "正在等待第一个 token…", loading: "正在加载 {model}…", writing: "正在回答…",
    complete: "回答完毕", codeBlock: "代码，{n} 行",
    calls: "调用 {name}", result: "结果", sendResult: "发送结果", sendResults: "发送结果",
    stopped: "您已停止。", cutOff: "回答达到 token 上限或上下文已满，被截断。",
    interrupted: "没有写完：页面被关闭，或另一个窗口正在写。", empty: "回答是空的。",
    tokens: "{n} 个 token", token: "token", firstAfter: "首个 {time}",
    costPrompt: "提示", costAnswer: "回答", costQueue: "排队", costPrefill: "预填充",
    costDecode: "解码", costDrafts: "草稿 token", costEnergy: "能耗", notMeasured: "未测量",
    ofCache: "{n} 个来自缓存", ofThinking: "其中思考 {n} 个", ofDrafts: "{drafted} 个中接受 {accepted} 个",
    retry: "重试", newest: "跳到最新",
    goneTitle: "服务器没有响应", goneText: "edgellm serve 还在运行吗？您的消息已保留。",
    backText: "服务器已恢复。",
    brokenTitle: "回答中断了", brokenText: "回答结束之前连接就断开了。",
    keyTitle: "服务器需要 API 密钥", keyText: "即启动 edgellm serve 时设置的密钥。",
    key: "API 密钥", keySave: "使用此密钥", keyKept: "保存在本浏览器中。",
    busyTitle: "服务器的队列已满", busyText: "正在回答其他请求，请稍候。",
    crashTitle: "引擎停止了", crashText: "下一个请求到来时，服务器会重新启动它。",
    timeoutTitle: "用时过长", timeoutText: "服务器放弃了这个请求。",
    requestTitle: "服务器无法执行", serverTitle: "服务器出错了",
    connecting: "正在连接…", noModel: "没有模型",
    full: "浏览器的存储空间已满，此对话没有保存。请导出或删除旧对话。",
    refused: "浏览器不允许本页保存，对话只保留到页面关闭。",
    gone: "此对话已在另一个窗口中删除，不再保存。",
    unreadable: "此文件中没有本页能读取的对话。",
    forChat: "用于此对话；新对话沿用相同设置。",
    system: "系统提示", systemHint: "在一切之前告诉模型的内容。",
    temperature: "温度", topP: "Top-p", maxTokens: "最多 token 数", seed: "随机种子",
    byServer: "由服务器决定", seedHint: "每次不同", noLimit: "不限",
    tools: "工具（JSON）", toolsHint: "OpenAI 格式的函数列表。调用会显示出来，结果由您输入。",
    toolsWrong: "这不是工具的 JSON 列表。", forPage: "用于本页",
    keys: "快捷键", keyEnter: "Enter", keyEsc: "停止回答", keyNew: "新对话", keyList: "显示或隐藏对话列表",
    keyEdit: "编辑最后一条消息", keyNewline: "换行",
    exportedOn: "由 edgellm 导出",
  },
};

export const LANGUAGES = { en: "English", zh: "中文" };

let current = "en";

/** @param {string | null} chosen "en", "zh", or null for the browser's @returns {string} what it is now */
export function setLanguage(chosen) {
  const wanted = chosen ?? navigator.languages?.[0] ?? navigator.language ?? "en";
  current = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";
  return current;
}

/** @returns {string} the language's tag for `lang` attributes */
export function languageTag() {
  return current === "zh" ? "zh-CN" : "en";
}

/** @param {string} name @param {Object<string, string | number>} [values] @returns {any} text; of "ideas", a list */
export function t(name, values = {}) {
  const words = WORDS[current];
  const found = (values.n === 1 && words[`${name}.one`]) || words[name];
  if (typeof found !== "string") return found;
  return found.replace(/\{(\w+)\}/g, (_, key) => (typeof values[key] === "number" ? number(values[key]) : values[key]));
}

const formats = new Map(); // by language and digits: making one takes a millisecond

/** @param {number} value @param {number} [digits] significant ones; without, all @returns {string} */
export function number(value, digits) {
  const cut = digits && value < 10 ** digits ? digits : 0;
  const key = `${current}${cut}`;
  if (!formats.has(key)) {
    const options = cut ? { maximumSignificantDigits: cut } : { maximumFractionDigits: 0 };
    formats.set(key, new Intl.NumberFormat(languageTag(), options));
  }
  return formats.get(key).format(value);
}

/** @param {number} ms @returns {string} */
export function seconds(ms) {
  if (ms < 1000) return `${number(ms, 2)} ms`;
  return ms < 60_000 ? `${number(ms / 1000, 3)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}
