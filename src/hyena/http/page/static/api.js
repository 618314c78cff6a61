// Requests to the server that this page came from. Paths are relative, so that a proxy may put the
// server below a path of its own.

let key = "";

/** The access token that later requests carry; an empty one is none. */
export function useKey(value) {
  key = value;
}

/** What the server refused, or that it could not be reached: `status` 0. */
export class RequestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, { body, signal } = {}) {
  const headers = {};
  if (key) headers.authorization = `Bearer ${key}`;
  const options = { headers, signal };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError(0, "The server does not answer. Is it still running?");
  }
  if (!response.ok) throw new RequestError(response.status, await messageOf(response));
  return response;
}

async function messageOf(response) {
  try {
    const { error } = await response.json();
    return error.message;
  } catch {
    return `The server answered ${response.status} ${response.statusText}.`;
  }
}

/** The JSON of a GET, or of a POST if there is a body. */
export async function ask(path, options) {
  return (await request(path, options)).json();
}

/** The chunks of a completion, as they come. */
export async function* complete(body, signal) {
  const options = { stream: true, stream_options: { include_usage: true } };
  const response = await request("v1/completions", { body: { ...body, ...options }, signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new RequestError(response.status, chunk.error.message);
    yield chunk;
  }
  throw new RequestError(0, "The server’s answer broke off.");
}

/** The data of server-sent events. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trimStart();
    }
  }
}
