// The page: photos and crops of the gallery go to the server's API, what it says is drawn here.

const TOP = 24;
const SHOWN_CLASSES = 4;
const $ = (id) => document.getElementById(id);
const LEFT = "#ffd600", RIGHT = "#00dcff", HIDDEN = "#ff3c3c", ACROSS = "#fff";
const FACETS = { camera: "cameras", color: "colors", type: "types" };

let about = null;
// What is asked about: {name, image, id, prediction}, id for crops of the gallery alone.
let queries = [], current = null, matches = [], reach = null;
// "right" or "wrong" by query's name and crop's id.
const marks = new Map();
// Of several questions at a time the last one counts.
let looking = 0, searching = 0;

class Problem extends Error {}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== ""));
  return element;
}

function drawn(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const pictureOf = (id) => "/gallery/" + id.split("/").map(encodeURIComponent).join("/");
const percent = (value) => (100 * value).toFixed(value > 0.0995 && value < 0.9995 ? 0 : 1) + " %";
const short = (value) => Number(value.toPrecision(3)).toString();

// The server

async function call(path, body) {
  const options = body == null ? {} : body instanceof FormData
    ? { method: "POST", body }
    : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  for (;;) {
    let answer;
    try { answer = await fetch(path, options); } catch { throw new Problem("The server does not answer."); }
    if (answer.ok) return answer.json();
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) await login();
    else if (answer.status === 503) {
      say("The server is loading or busy: waiting …");
      await new Promise((resolve) => setTimeout(resolve, 1000));
    } else throw new Problem([problem.file, problem.detail || answer.statusText].filter(Boolean).join(": "));
  }
}

function login() {
  const dialog = $("login");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    $("token-form").onsubmit = async (event) => {
      event.preventDefault();
      const headers = { Authorization: "Bearer " + $("token").value };
      const answer = await fetch("/api/token", { method: "POST", headers });
      $("refused").textContent = answer.ok ? "" : "That is not the token.";
      if (answer.ok) { dialog.close(); resolve(); }
    };
  });
}

function say(text, isProblem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", isProblem);
}

async function guarded(work) {
  try { await work(); } catch (error) {
    if (!(error instanceof Problem)) throw error;
    say(error.message, true);
  }
}

// The query

async function take(files) {
  const pictures = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  if (!pictures.length) return say(`${files[0]?.name ?? "That"} is no picture; expected JPEG, PNG, WebP or BMP.`, true);
  if (pictures.length > 64) return say(`${pictures.length} photos; at most 64 at a time.`, true);
  say("Looking …");
  const form = new FormData();
  pictures.forEach((file) => form.append("images", file, file.name));
  const turn = ++looking;
  const { predictions } = await call("/api/predict", form);
  if (turn !== looking) return;
  queries = pictures.map((file, place) => ({
    name: file.name, id: null, image: URL.createObjectURL(file), prediction: predictions[place],
  }));
  $("photos").replaceChildren(...queries.map((query) => make("li", {},
    make("button", { type: "button", "aria-pressed": "false", "aria-label": query.name, onclick: () => guarded(() => choose(query)) },
      make("img", { src: query.image, alt: "" })))));
  $("photos").hidden = queries.length < 2;
  await choose(queries[0]);
}

async function takeCrop(id) {
  say("Looking …");
  const turn = ++looking;
  const { predictions } = await call("/api/predict", { ids: [id] });
  if (turn !== looking) return;
  queries = [{ name: id, id, image: pictureOf(id), prediction: predictions[0] }];
  $("photos").hidden = true;
  await choose(queries[0]);
}

async function choose(query) {
  const before = current;
  current = query;
  reach = before === null ? reach : null;
  [...$("photos").querySelectorAll("button")].forEach((button, place) =>
    button.setAttribute("aria-pressed", String(queries[place] === query)));
  const said = query.prediction;
  $("looked").hidden = false;
  $("intro").hidden = true;
  $("shown").replaceChildren(overlaid(query.image, said, query.name));
  $("pose").textContent = said.pose.origin === "neutral"
    ? "No pose network: predicted without a pose."
    : `Pose ${said.pose.origin}, mean confidence ${percent(said.pose.confidence)}`;
  $("bars").replaceChildren(bars("Colour", said.color_probabilities), bars("Type", said.type_probabilities));
  $("times").textContent = `Pose ${milliseconds(said.seconds.pose)}, network ${milliseconds(said.seconds.network)}`;
  remember(before !== null && before.id !== query.id);
  await search();
}

const milliseconds = (seconds) => (1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0) + " ms";

function bars(title, probabilities) {
  const best = Object.entries(probabilities).slice(0, SHOWN_CLASSES);
  if (!best.length) return "";
  return make("table", { class: "bars" }, make("caption", {}, title),
    make("tbody", {}, ...best.map(([name, value]) => make("tr", {},
      make("th", { scope: "row" }, name), make("td", {}, track(value)), make("td", {}, percent(value))))));
}

function track(share) {
  const filled = make("i");
  filled.style.width = `${100 * Math.min(Math.max(share, 0.005), 1)}%`;
  return make("span", { class: "track", "aria-hidden": "true" }, filled);
}

function overlaid(image, said, name) {
  const frame = make("div", { class: "frame" },
    make("img", { src: image, alt: `${name}: ${[said.color, said.type].filter(Boolean).join(" ")}` }));
  frame.style.setProperty("--wide", Math.min(said.width / said.height, 1));
  const svg = drawn("svg", { viewBox: `0 0 ${said.width} ${said.height}`, "aria-hidden": "true" });
  const { keypoints, surfaces, origin } = said.pose;
  const side = Math.max(said.width, said.height);
  const color = ([, , confidence], index) => confidence < 0.5 ? HIDDEN : index < 18 ? LEFT : RIGHT;
  if (origin !== "neutral") {
    for (const surface of surfaces) {
      const corners = about.surfaces[surface].map((corner) => keypoints[corner].slice(0, 2).join(","));
      const hue = `hsl(${360 * surface / about.surfaces.length} 100% 50%)`;
      svg.append(drawn("polygon", { points: corners.join(" "), fill: hue, "fill-opacity": 0.22 }));
    }
    for (const [a, b] of about.skeleton) {
      const [first, second] = [color(keypoints[a], a), color(keypoints[b], b)];
      if (first === HIDDEN || second === HIDDEN) continue;
      svg.append(drawn("line", {
        x1: keypoints[a][0], y1: keypoints[a][1], x2: keypoints[b][0], y2: keypoints[b][1],
        stroke: first === second ? first : ACROSS, "stroke-width": side / 220, "stroke-opacity": 0.9,
      }));
    }
    keypoints.forEach((point, index) => svg.append(drawn("circle", {
      cx: point[0], cy: point[1], r: side / 100 * Math.min(Math.max(point[2], 0.3), 1),
      fill: color(point, index), stroke: "#0009", "stroke-width": side / 600,
    })));
  }
  frame.append(svg);
  return frame;
}

// The results

const chosen = (facet) => [...document.querySelectorAll(`#chips input[name=${facet}]:checked`)].map((box) => box.value);

async function search() {
  if (!current || !about.images) return;
  const turn = ++searching;
  const asked = { top: TOP, cameras: chosen("camera"), colors: chosen("color"), types: chosen("type") };
  if ($("from").value) asked.not_before = $("from").value;
  if ($("to").value) asked.not_after = $("to").value;
  if (current.id) asked.ids = [current.id]; else asked.embeddings = [current.prediction.embedding];
  const { results } = await call("/api/search", asked);
  if (turn !== searching) return;
  matches = results[0].matches;
  show();
}

const farthest = () => Math.max(...matches.map((match) => match.distance), 0);
// A little more than the farthest, so that rounding leaves nothing out.
const limit = () => reach ?? farthest() * 1.001;

const measured = () => `measured on ${about.calibration.measured_on}`;

function probabilityAt(distance) {
  if (!about.calibration) return null;
  const { distances, probabilities } = about.calibration;
  const next = distances.findIndex((one) => one >= distance);
  if (next < 0) return probabilities.at(-1);
  if (next === 0) return probabilities[0];
  const share = (distance - distances[next - 1]) / (distances[next] - distances[next - 1]);
  return probabilities[next - 1] + share * (probabilities[next] - probabilities[next - 1]);
}

function show() {
  $("tools").hidden = false;
  $("examples").hidden = true;
  const scale = Math.max(farthest(), reach ?? 0) || 1;
  // By the root: what is near matters most.
  $("reach").value = Math.round(1000 * Math.sqrt(Math.min(limit() / scale, 1)));
  $("reach").dataset.scale = scale;
  const certain = probabilityAt(limit());
  $("certain").textContent = `distance ${short(limit())}` +
    (certain === null ? ", not calibrated" : `, ${percent(certain)} likely the same (${measured()})`);
  $("reach").setAttribute("aria-valuetext", $("certain").textContent);
  const filters = document.querySelectorAll("#chips :checked").length + !!$("from").value + !!$("to").value;
  $("active").textContent = filters ? `(${filters} on)` : "";
  if ($("from").value || $("to").value || matches.some((match) => match.time)) {
    for (const name of ["from", "to"]) $(name).parentElement.hidden = false;
  }
  const near = matches.filter((match) => match.distance <= limit());
  say(near.length ? `${near.length} of ${about.images.toLocaleString("en")} crops shown`
    : "Nothing in the gallery is this near." + (filters ? " Filters are on." : ""));
  const view = document.querySelector("[name=view]:checked").value;
  $("found").replaceChildren(...(near.length ? { rank: byRank, camera: byCamera, journey }[view](near) : []));
  showMarks();
}

const list = (near) => make("ol", { class: "grid" }, ...near.map((match) => make("li", {}, card(match))));
const byRank = (near) => [list(near)];

function byCamera(near) {
  const cameras = Map.groupBy ? Map.groupBy(near, (match) => match.camera)
    : near.reduce((all, match) => all.set(match.camera, [...(all.get(match.camera) ?? []), match]), new Map());
  return [...cameras].flatMap(([camera, hits]) => [
    make("h3", {}, `${camera ? `Camera ${camera}` : "Camera unknown"} (${hits.length})`), list(hits)]);
}

function journey(near) {
  const timed = near.filter((match) => match.time).sort((a, b) => a.time.localeCompare(b.time));
  const rest = near.filter((match) => !match.time);
  return [
    timed.length ? make("ol", { class: "journey" }, ...timed.map((match) => make("li", {}, card(match)))) : "",
    rest.length ? make("h3", {}, `Time unknown (${rest.length})`) : "", rest.length ? list(rest) : ""].filter(Boolean);
}

function card(match) {
  const mark = marks.get(current.name)?.get(match.id);
  const kind = [match.color, match.type].filter(Boolean).join(" ");
  const place = match.camera ? `Camera ${match.camera}` : "Camera unknown";
  const button = (label, title, onclick, more = {}) =>
    make("button", { type: "button", "aria-label": `${title}: ${match.id}`, title, onclick, ...more }, label);
  const markAs = (verdict, sign) => button(sign, verdict === "right" ? "The same vehicle" : "Another vehicle",
    () => setMark(match.id, verdict),
    { class: verdict === "right" ? "yes" : "no", "aria-pressed": String(mark === verdict) });
  return make("article", { class: `hit ${mark ?? ""}`, "data-id": match.id },
    make("img", { src: pictureOf(match.id), alt: `${kind}, ${place}`, loading: "lazy", title: match.id }),
    make("div", { class: "facts" },
      make("b", {}, match.probability === null ? `distance ${short(match.distance)}` : `${percent(match.probability)} likely`),
      track(match.probability ?? 1 - Math.sqrt(match.distance / (Number($("reach").dataset.scale) * 1.15))),
      match.probability === null ? "" : make("span", { class: "soft" }, `distance ${short(match.distance)}, ${measured()}`),
      make("span", {}, place), match.time ? make("time", { datetime: match.time }, match.time.replace("T", " ")) : "",
      make("span", { class: "soft" }, kind)),
    make("div", { class: "actions" },
      button("Similar", "Similar to this", () => guarded(() => takeCrop(match.id))),
      button("Compare", "Side by side", () => guarded(() => sideBySide(match))),
      markAs("right", "✓"), markAs("wrong", "✗")));
}

async function sideBySide(match) {
  const { predictions: [other] } = await call("/api/predict", { ids: [match.id] });
  const figure = (image, said, name) => make("figure", {}, make("div", { class: "overlaid" }, overlaid(image, said, name)),
    make("figcaption", {}, name, make("br"), [said.color, said.type].filter(Boolean).join(" ")));
  $("verdict").textContent = `Distance ${short(match.distance)}: ` +
    (match.probability === null ? "not calibrated" : `${percent(match.probability)} likely the same vehicle (${measured()})`);
  $("two").replaceChildren(figure(current.image, current.prediction, current.name), figure(pictureOf(match.id), other, match.id));
  $("pair").showModal();
}

// Marks

function setMark(id, verdict) {
  const own = marks.get(current.name) ?? new Map();
  if (own.get(id) === verdict) own.delete(id); else own.set(id, verdict);
  marks.set(current.name, own);
  const hit = document.querySelector(`.hit[data-id="${CSS.escape(id)}"]`);
  const label = document.activeElement?.className;
  hit.replaceWith(card(matches.find((match) => match.id === id)));
  document.querySelector(`.hit[data-id="${CSS.escape(id)}"] button.${label || "yes"}`)?.focus();
  showMarks();
}

function showMarks() {
  const verdicts = [...marks.values()].flatMap((own) => [...own.values()]);
  const right = verdicts.filter((verdict) => verdict === "right").length;
  $("marks").hidden = !verdicts.length;
  $("marked").textContent = `${right} marked right, ${verdicts.length - right} wrong`;
}

// Pictures that are marked right are of their query's vehicle, joined across queries; one that is
// marked wrong alone is a vehicle of its own.
function labels() {
  const parent = new Map();
  const root = (name) => {
    if (!parent.has(name)) parent.set(name, name);
    return parent.get(name) === name ? name : root(parent.get(name));
  };
  for (const [query, own] of marks) for (const [id, verdict] of own) {
    const [first, second] = [root(query), root(id)];
    if (verdict === "right") parent.set(second, first);
  }
  const vehicles = [...new Set([...parent.keys()].map(root))];
  const quoted = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const lines = [...parent.keys()].map((name) => `${quoted(name)},${1 + vehicles.indexOf(root(name))}`);
  return ["image,vehicle_id", ...lines, ""].join("\n");
}

function download() {
  const link = make("a", { href: URL.createObjectURL(new Blob([labels()], { type: "text/csv" })), download: "train.csv" });
  link.click();
}

// The address

function remember(isNew = false) {
  const state = new URLSearchParams();
  if (current?.id) state.set("id", current.id);
  for (const facet of Object.keys(FACETS)) chosen(facet).forEach((value) => state.append(facet, value));
  for (const name of ["from", "to"]) if ($(name).value) state.set(name, $(name).value);
  if (reach !== null) state.set("reach", short(reach));
  const view = document.querySelector("[name=view]:checked").value;
  if (view !== "rank") state.set("view", view);
  const address = state.size ? `?${state}` : location.pathname;
  history[isNew ? "pushState" : "replaceState"](null, "", address);
}

async function recall() {
  const state = new URLSearchParams(location.search);
  for (const box of document.querySelectorAll("#chips input")) box.checked = state.getAll(box.name).includes(box.value);
  for (const name of ["from", "to"]) $(name).value = state.get(name) ?? "";
  const view = document.querySelector(`[name=view][value="${CSS.escape(state.get("view") ?? "rank")}"]`);
  if (view) view.checked = true;
  const stated = Number(state.get("reach"));
  current = null;
  looking += 1;
  searching += 1;
  reach = state.has("reach") && stated >= 0 ? stated : null;
  $("filters").open = document.querySelectorAll("#chips :checked").length > 0 || !!$("from").value || !!$("to").value;
  if (state.get("id")) await takeCrop(state.get("id")); else welcome();
}

function welcome() {
  $("looked").hidden = $("tools").hidden = $("photos").hidden = true;
  $("intro").hidden = false;
  $("found").replaceChildren();
  say("");
  $("examples").hidden = !about.examples?.length;
}

// The start

function build() {
  $("about").textContent = about.images ? `${about.images.toLocaleString("en")} crops` : "no gallery";
  $("random").hidden = !about.random;
  $("chips").replaceChildren(...Object.entries(FACETS).filter(([, name]) => about[name]?.length).map(([facet, name]) =>
    make("fieldset", {}, make("legend", {}, { camera: "Camera", color: "Colour", type: "Type" }[facet]),
      ...about[name].map((value) => make("label", { class: "chip" },
        make("input", { type: "checkbox", name: facet, value }), make("span", {}, value))))));
  $("examples").querySelector("ul").replaceChildren(...(about.examples ?? []).map((row) => make("li", {},
    make("button", { type: "button", "aria-label": `Take ${row.id}`, onclick: () => guarded(() => takeCrop(row.id)) },
      make("img", { src: pictureOf(row.id), alt: "" })))));
}

function listen() {
  const changed = () => guarded(async () => { remember(); await search(); });
  $("file").addEventListener("change", (event) => guarded(async () => { await take(event.target.files); event.target.value = ""; }));
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) guarded(() => take(event.clipboardData.files)); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  document.addEventListener("dragleave", () => document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    if (event.dataTransfer.files.length) guarded(() => take(event.dataTransfer.files));
  });
  $("overlay").addEventListener("change", (event) => document.body.classList.toggle("plain", !event.target.checked));
  $("chips").addEventListener("change", changed);
  for (const name of ["from", "to"]) $(name).addEventListener("change", changed);
  $("clear").addEventListener("click", () => {
    document.querySelectorAll("#chips :checked").forEach((box) => { box.checked = false; });
    $("from").value = $("to").value = "";
    changed();
  });
  $("reach").addEventListener("input", (event) => {
    const share = Number(event.target.value) / 1000;
    reach = share === 1 ? null : share ** 2 * Number(event.target.dataset.scale);
    show();
    remember();
  });
  document.querySelectorAll("[name=view]").forEach((radio) => radio.addEventListener("change", () => { remember(); if (current) show(); }));
  $("download").addEventListener("click", download);
  $("forget").addEventListener("click", () => { marks.clear(); show(); });
  window.addEventListener("popstate", () => guarded(recall));
}

guarded(async () => {
  about = await call("/api/gallery");
  build();
  listen();
  await recall();
  document.body.dataset.ready = "yes";
});
