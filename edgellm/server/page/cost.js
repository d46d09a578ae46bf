// What an answer cost, from what the server says at its end: counts, rates, waiting, joules. What it does not say
// is null, and shown as not measured.

import { number, seconds, t } from "./words.js";

/**
 * Rates in tokens a second, times in milliseconds. `reason`: why there are no joules; `scope`: what they cover.
 * @typedef {{
 *   prompt: number | null, cached: number | null, generated: number | null, thinking: number | null,
 *   prefill: number | null, decode: number | null, queueMs: number | null, firstMs: number | null,
 *   drafted: number | null, accepted: number | null, joules: number | null, scope: string, reason: string,
 * }} Cost
 */

/**
 * @param {object} chunk the last of a stream, with `usage`, `timings` and `energy`
 * @param {number | null} firstMs from asking to the first token, as the page saw it
 * @returns {Cost}
 */
export function costOf({ usage, timings, energy }, firstMs) {
  return {
    prompt: known(usage?.prompt_tokens),
    cached: known(usage?.prompt_tokens_details?.cached_tokens),
    generated: known(usage?.completion_tokens),
    thinking: known(usage?.completion_tokens_details?.reasoning_tokens),
    prefill: known(timings?.prompt_per_second),
    decode: known(timings?.predicted_per_second),
    queueMs: known(timings?.queue_ms),
    firstMs: known(firstMs),
    drafted: known(timings?.draft_n),
    accepted: known(timings?.draft_n_accepted),
    joules: known(energy?.joules),
    scope: typeof energy?.scope === "string" ? energy.scope : "",
    reason: typeof energy?.reason === "string" ? energy.reason : "",
  };
}

/** The line below an answer. @param {Cost} cost @returns {string} */
export function costLine(cost) {
  return [
    cost.generated !== null && t("tokens", { n: cost.generated }),
    cost.decode !== null && rate(cost.decode),
    cost.firstMs !== null && t("firstAfter", { time: seconds(cost.firstMs) }),
    cost.joules !== null && joules(cost.joules),
  ].filter(Boolean).join(" · ");
}

/** All of it, as labels and values. @param {Cost} cost @returns {[string, string][]} */
export function costRows(cost) {
  const { prompt, cached, generated, thinking, drafted, accepted } = cost;
  const rows = [
    [t("costPrompt"), count(prompt) + (cached ? ` (${t("ofCache", { n: cached })})` : "")],
    [t("costAnswer"), count(generated) + (thinking ? ` (${t("ofThinking", { n: thinking })})` : "")],
    ["TTFT", cost.firstMs === null ? t("notMeasured") : seconds(cost.firstMs)],
    [t("costQueue"), cost.queueMs === null ? t("notMeasured") : seconds(cost.queueMs)],
    [t("costPrefill"), cost.prefill === null ? t("notMeasured") : rate(cost.prefill)],
    [t("costDecode"), cost.decode === null ? t("notMeasured") : rate(cost.decode)],
  ];
  if (drafted) rows.push([t("costDrafts"), t("ofDrafts", { accepted: number(accepted ?? 0), drafted: number(drafted) })]);
  rows.push([t("costEnergy"), energy(cost)]);
  return rows;
}

function energy({ joules: spent, scope, reason, generated }) {
  const why = reason.replace(/^not measured:\s*/i, "");
  if (spent === null) return why ? `${t("notMeasured")}: ${why}` : t("notMeasured");
  const each = generated ? `${number(spent / generated, 3)} J/${t("token")}` : "";
  return [joules(spent), each, scope].filter(Boolean).join(" · ");
}

function count(n) {
  return n === null ? t("notMeasured") : t("tokens", { n });
}

function rate(perSecond) {
  return `${number(perSecond, 3)} tok/s`;
}

function joules(spent) {
  return `${number(spent, 3)} J`;
}

function known(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
