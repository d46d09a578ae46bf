// Server-sent events from bytes, wherever the network cuts them: inside a character, a line, between CR and LF.

/** @typedef {{event: string, data: string}} SseEvent */

/** Takes bytes and gives the events that are whole. One decoder serves one stream. */
export class SseDecoder {
  constructor() {
    this.text = new TextDecoder("utf-8"); // drops a byte order mark, replaces what is no UTF-8
    this.line = ""; // begun, not ended
    this.afterReturn = false; // the last character was CR: an LF that follows belongs to it
    this.event = "";
    this.data = [];
  }

  /**
   * @param {Uint8Array} bytes the next of the stream
   * @returns {SseEvent[]}
   */
  push(bytes) {
    let text = this.text.decode(bytes, { stream: true });
    if (this.afterReturn && text.startsWith("\n")) text = text.slice(1);
    if (text === "") return [];
    this.afterReturn = text.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.line + lines[0];
    this.line = lines.pop();
    const events = [];
    for (const line of lines) this.#take(line, events);
    return events;
  }

  #take(line, events) {
    if (line === "") {
      if (this.data.length) events.push({ event: this.event || "message", data: this.data.join("\n") });
      this.event = "";
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: the server says that it lives
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.data.push(value);
    else if (name === "event") this.event = value;
  }
}

/**
 * The events of a response's body. An event that the end cuts off is dropped, as the standard has it.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<SseEvent, void, void>}
 */
export async function* sseEvents(body) {
  const decoder = new SseDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* decoder.push(value);
    }
  } finally {
    reader.cancel().catch(() => {}); // the server stops computing when nobody reads
  }
}
