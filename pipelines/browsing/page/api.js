// Calls to the server that the page came from.
const NO_ACCESS = "Open the address that `scriptorium browse` printed: this browser has no token, or an old one.";

export function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined && one !== false) query.append(name, one);
    }
  }
  return `api/${path}?${query}`;
}

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not respond: is `scriptorium browse` still running?");
  }
  if (response.ok) return response.json();
  if (response.status === 401) throw new Error(NO_ACCESS);
  const body = await response.json().catch(() => ({}));
  throw new Error(body.error?.message ?? `The server responded with status ${response.status}.`);
}

export function get(path, parameters = {}, signal = undefined) {
  return answered(fetch(address(path, parameters), { signal }));
}

export function post(path, body) {
  const headers = { "content-type": "application/json" };
  return answered(fetch(`api/${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
}
