// Questions to the service: with the key where one is wanted, again where nobody answered, and dropped when overtaken.

import { askForKey, heldKey } from "./key.js";
import { away, back } from "./banner.js";

const LONGEST = 20_000; // milliseconds for one answer
const WAITS = [1, 2, 4, 8, 15]; // seconds before the next try

/** What the service said was wrong. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Ask, and wait for as long as it takes: it ends with the answer, Refused, or an AbortError. */
export async function ask(path, { method = "GET", body = null, signal = null } = {}) {
  for (let tries = 0; ; tries += 1) {
    const outcome = await once(path, method, body, signal);
    if (outcome.answer) {
      back();
      return read(await outcome.answer.text());
    }
    if (outcome.wantsKey) {
      await askForKey(outcome.wrongKey);
      tries = -1;
      continue;
    }
    await away(outcome.why, outcome.wait ?? WAITS[Math.min(tries, WAITS.length - 1)], signal);
  }
}

async function once(path, method, body, signal) {
  const key = heldKey();
  const headers = { Accept: "application/json" };
  if (body !== null) headers["Content-Type"] = "application/json";
  if (key) headers.Authorization = `Bearer ${key}`;
  const signals = [AbortSignal.timeout(LONGEST), ...(signal ? [signal] : [])];
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === null ? undefined : JSON.stringify(body),
      signal: AbortSignal.any(signals),
    });
  } catch (error) {
    signal?.throwIfAborted();
    return { why: error.name === "TimeoutError" ? "The service takes too long." : "The service does not answer." };
  }
  if (response.ok) return { answer: response };
  if (response.status === 401) return { wantsKey: true, wrongKey: Boolean(key) };
  if (response.status === 503) {
    return { why: "The service has too much to do.", wait: Number(response.headers.get("Retry-After")) || undefined };
  }
  const problem = await response.json().catch(() => ({}));
  throw new Refused(response.status, problem.detail ?? `the service answered ${response.status}`);
}

/** JSON, in which whole numbers too large for JavaScript stay as they are written, as texts. */
function read(text) {
  return JSON.parse(text, (_, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source ? context.source : value,
  );
}

/** A series of questions of which only the newest counts: each drops the one before. */
export function newest() {
  let current = null;
  return (path, options = {}) => {
    current?.abort();
    current = new AbortController();
    return ask(path, { ...options, signal: current.signal });
  };
}

/** Run what asks; that it was overtaken is no error, and a refusal goes to `refused`. */
export async function whileWanted(work, refused) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    refused(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
  }
}
