// What the pages share: elements, the server's answers, the token, and what went wrong.

export const $ = (id) => document.getElementById(id);

export class Problem extends Error {}

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== ""));
  return element;
}

export const pictureOf = (id) => "/gallery/" + id.split("/").map(encodeURIComponent).join("/");
export const clock = (time) => time.slice(0, 19).replace("T", " ");
export const described = (one) => [one.color, one.type].filter(Boolean).join(" ");

export async function call(path, options = {}) {
  for (;;) {
    let answer;
    try { answer = await fetch(path, options); } catch { throw new Problem("The server does not answer."); }
    if (answer.ok) return answer.json();
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) await login();
    else if (answer.status === 503) {
      say("The server is busy: waiting …");
      await new Promise((resolve) => setTimeout(resolve, 1000));
    } else throw new Problem([problem.file, problem.detail ?? answer.statusText].filter(Boolean).join(": "));
  }
}

let loggedIn = null;

// Asks for the token, once for all calls that lack it.
function login() {
  return loggedIn ??= new Promise((resolve) => {
    const token = make("input", { type: "password", autocomplete: "current-password", required: true });
    const refused = make("p", { class: "problem", role: "alert" });
    const dialog = make("dialog", { id: "login", "aria-labelledby": "login-title", onclose: () => dialog.showModal() },
      make("form", { onsubmit: async (event) => {
        event.preventDefault();
        const headers = { Authorization: "Bearer " + token.value };
        // What no header can hold is rejected here.
        const answer = await fetch("/api/token", { method: "POST", headers }).catch(() => null);
        refused.textContent = answer?.ok ? "" : "That is not the token.";
        if (answer?.ok) { dialog.remove(); loggedIn = null; resolve(); }
      } }, make("h2", { id: "login-title" }, "This server asks for a token"),
      make("label", {}, "Token ", token), refused, make("button", {}, "Continue")));
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function say(text, isProblem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", isProblem);
}

// Does something, shows what went wrong, and leaves no keyboard user without focus.
export async function guarded(work, onProblem = () => {}) {
  const held = document.activeElement;
  try { await work(); } catch (error) {
    if (!(error instanceof Problem)) throw error;
    onProblem();
    say(error.message, true);
  }
  const isLost = held !== document.body && !held.offsetParent; // hidden, or replaced
  if (isLost && [held, document.body].includes(document.activeElement)) $("results").focus({ preventScroll: true });
}
