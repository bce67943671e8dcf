// The page: sends photos and crops of the gallery to the server's API, and draws the answers.

import { $, call, clock, described, guarded, make, pictureOf, Problem, say } from "./common.js";

const TOP = 24;
const SHOWN_CLASSES = 4;
const LEFT = "#ffd600", RIGHT = "#00dcff", HIDDEN = "#ff3c3c", ACROSS = "#fff", AGREES = "#00e65a";
const FACETS = { camera: "cameras", color: "colors", type: "types" };

let about = null;
// What is searched for: {name, image, id, file, prediction}; crops of the gallery have an id, photos a file.
let queries = [], current = null, matches = [], reach = null;
// "right" or "wrong", by the keys of query and crop: a crop's id or a photo's name.
const marks = new Map(), names = new Map();
// Of several requests at a time the last one counts.
let looking = 0, searching = 0;

function drawn(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// The server states at most 0.99.
const percent = (value) => value < 0.01 ? "under 1 %" : `${Math.round(100 * value)} %`;
const score = (value) => value > 0.99 ? "> 0.99" : value.toFixed(2);
const doubted = ({ reason, quality }) => !reason ? ""
  : `${reason[0].toUpperCase()}${reason.slice(1)} (quality ${quality.toFixed(2)}): what follows means little.`;
// A crop and its own row differ by what float16 loses.
const short = (value) => (value < 1e-4 ? 0 : Number(value.toPrecision(3))).toString();

// The server

// Options go into the query, pictures into the form.
const post = (path, options, form = new FormData()) =>
  call(`${path}?${new URLSearchParams(options)}`, { method: "POST", body: form });

// The query

const takeAll = (files) => guarded(() => take([...files]), welcome);
const takeOne = (id) => guarded(() => takeCrop(id), welcome);

async function take(files) {
  const pictures = files.filter((file) => file.type.startsWith("image/") || !file.type);
  if (!pictures.length) throw new Problem(`${files[0]?.name ?? "That"} is not a picture; expected JPEG, PNG, WebP or BMP.`);
  if (pictures.length > 64) throw new Problem(`${pictures.length} photos; at most 64 at a time.`);
  const form = new FormData();
  pictures.forEach((file) => form.append("images", file, file.name));
  const predictions = await predict([], form);
  if (!predictions) return;
  queries = pictures.map((file, place) => ({
    name: file.name, id: null, file, image: URL.createObjectURL(file), prediction: predictions[place],
  }));
  $("photos").replaceChildren(...queries.map((query) => make("li", {},
    make("button", { type: "button", "aria-pressed": "false", "aria-label": query.name, onclick: () => guarded(() => choose(query)) },
      make("img", { src: query.image, alt: "" })))));
  $("photos").hidden = queries.length < 2;
  await choose(queries[0]);
}

async function takeCrop(id) {
  const predictions = await predict([["ids", id]]);
  if (!predictions) return;
  queries = [{ name: names.get(id) ?? id, id, image: pictureOf(id), prediction: predictions[0] }];
  $("photos").hidden = true;
  await choose(queries[0]);
}

// Nothing if something else was asked for meanwhile.
async function predict(options, form) {
  say("Looking …");
  const turn = ++looking;
  const { predictions } = await post("/api/predict", options, form);
  return turn === looking ? predictions : null;
}

async function choose(query) {
  const before = current;
  current = query;
  reach = before === null ? reach : null;
  [...$("photos").querySelectorAll("button")].forEach((button, place) =>
    button.setAttribute("aria-pressed", String(queries[place] === query)));
  const { prediction } = query;
  $("looked").hidden = false;
  $("intro").hidden = true;
  $("doubt").textContent = doubted(prediction);
  $("doubt").hidden = !prediction.reason;
  $("shown").replaceChildren(overlaid(query.image, prediction, query.name));
  $("pose").textContent = prediction.pose.origin === "neutral"
    ? "No pose network: predicted without a pose."
    : `Pose ${prediction.pose.origin}, mean confidence ${score(prediction.pose.confidence)}`;
  $("bars").replaceChildren(bars("Colour", prediction.color_probabilities), bars("Type", prediction.type_probabilities));
  remember(before !== null && before.id !== query.id);
  await search();
}

function bars(title, probabilities) {
  const best = Object.entries(probabilities).slice(0, SHOWN_CLASSES);
  if (!best.length) return "";
  return make("table", { class: "bars" }, make("caption", {}, title),
    make("tbody", {}, ...best.map(([name, value]) => make("tr", {},
      make("th", { scope: "row" }, name), make("td", {}, track(value)), make("td", {}, score(value))))));
}

function track(share) {
  const filled = make("i");
  filled.style.width = `${100 * Math.min(Math.max(share, 0.005), 1)}%`;
  return make("span", { class: "track", "aria-hidden": "true" }, filled);
}

// With the parts of a comparison, only the surfaces that agree are filled.
function overlaid(image, prediction, name, parts = null) {
  const frame = make("div", { class: "frame" },
    make("img", { src: image, alt: `${name}: ${described(prediction)}` }));
  frame.style.setProperty("--wide", Math.min(prediction.width / prediction.height, 1));
  const svg = drawn("svg", { viewBox: `0 0 ${prediction.width} ${prediction.height}`, "aria-hidden": "true" });
  const { keypoints, surfaces, origin } = prediction.pose;
  const side = Math.max(prediction.width, prediction.height);
  const color = ([, , confidence], index) => confidence < 0.5 ? HIDDEN : index < 18 ? LEFT : RIGHT;
  if (origin !== "neutral") {
    for (const surface of parts ? parts.keys() : surfaces) {
      const corners = about.surfaces[surface].map((corner) => keypoints[corner].slice(0, 2).join(","));
      const hue = parts ? AGREES : `hsl(${360 * surface / about.surfaces.length} 100% 50%)`;
      if (!parts || parts[surface].agrees) svg.append(drawn("polygon", {
        points: corners.join(" "), fill: hue, "fill-opacity": parts ? shareOf(parts[surface], parts) / 2 : 0.22,
      }));
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
  if (!current) return;
  if (!about.images) return say("This server has no gallery to search; start it with --gallery.");
  const turn = ++searching;
  const options = [["top", TOP]];
  for (const [facet, name] of Object.entries(FACETS)) options.push(...chosen(facet).map((value) => [name, value]));
  if ($("from").value) options.push(["not_before", $("from").value]);
  if ($("to").value) options.push(["not_after", $("to").value]);
  const form = new FormData();
  if (current.id) options.push(["ids", current.id]);
  else form.append("embeddings", JSON.stringify([current.prediction.embedding]));
  const { results } = await post("/api/search", options, form);
  if (turn !== searching) return;
  matches = results[0].matches;
  // A picture of no single vehicle has no rates.
  if (current.prediction.reason) matches.forEach((match) => { match.rate = match.probability = null; });
  matches.forEach((match) => names.set(match.id, match.name));
  show();
}

function clearResults() {
  matches = [];
  $("found").replaceChildren();
}

const farthest = () => Math.max(...matches.map((match) => match.distance), 0);
// A little more than the farthest, so that rounding leaves nothing out.
const limit = () => reach ?? farthest() * 1.001;

const likely = (probability) => `${percent(probability)} likely the same vehicle (measured on ${about.calibration.measured_on})`;
const oneIn = (rate) => `1 in ${Number((1 / rate).toPrecision(2)).toLocaleString("en")}`;
const sentence = ({ rate, rate_upper }) => `${oneIn(rate)} pairs of strangers in this gallery is as near ` +
  `(${Number(about.rates.pairs.toPrecision(2)).toLocaleString("en")} pairs; at most ${oneIn(rate_upper)})`;
// What a distance means here, as far as that is known.
const meaning = (match) => [
  match.rate == null ? "" : sentence(match), match.probability == null ? "" : likely(match.probability)].filter(Boolean);

function show() {
  $("tools").hidden = false;
  $("examples").hidden = true;
  const scale = Math.max(farthest(), reach ?? 0) || 1;
  // By the root: what is near matters most.
  $("reach").value = Math.round(1000 * Math.sqrt(Math.min(limit() / scale, 1)));
  $("reach").dataset.scale = scale;
  const near = matches.filter((match) => match.distance <= limit());
  const last = near.at(-1);
  $("certain").textContent = `distance ${short(limit())}` + (last?.rate == null ? "" : `, ${oneIn(last.rate)} pairs of strangers`);
  $("reach").setAttribute("aria-valuetext", $("certain").textContent);
  const filters = document.querySelectorAll("#chips :checked").length + !!$("from").value + !!$("to").value;
  $("active").textContent = filters ? `(${filters} on)` : "";
  if ($("from").value || $("to").value || matches.some((match) => match.time)) {
    for (const name of ["from", "to"]) $(name).parentElement.hidden = false;
  }
  say(near.length ? `${near.length} of ${about.images.toLocaleString("en")} crops shown`
    : "Nothing in the gallery is this near." + (filters ? " Filters are on." : ""));
  const view = document.querySelector("[name=view]:checked").value;
  $("found").replaceChildren(...(near.length ? { rank: byRank, camera: byCamera, journey }[view](near) : []));
  showMarks();
}

const list = (near) => make("ol", { class: "grid" }, ...near.map((match) => make("li", {}, card(match))));
const byRank = (near) => [list(near)];

function byCamera(near) {
  const cameras = new Map();
  for (const match of near) cameras.set(match.camera, [...(cameras.get(match.camera) ?? []), match]);
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
  const mark = marks.get(key())?.get(match.id);
  const place = match.camera ? `Camera ${match.camera}` : "Camera unknown";
  const button = (label, title, onclick, more = {}) =>
    make("button", { type: "button", "aria-label": `${title}: ${match.name}`, title, onclick, ...more }, label);
  const markAs = (verdict, sign) => button(sign, verdict === "right" ? "The same vehicle" : "Another vehicle",
    () => setMark(match.id, verdict),
    { class: verdict === "right" ? "yes" : "no", "aria-pressed": String(mark === verdict) });
  const picture = make("img", { src: pictureOf(match.id), alt: `${described(match)}, ${place}`, loading: "lazy", title: match.name });
  return make("article", { class: `hit ${mark ?? ""}`, "data-id": match.id },
    match.box ? button(picture, "The whole frame", () => showFrame(match), { class: "bare" }) : picture,
    make("div", { class: "facts" },
      make("b", {}, `${match.rank}. distance ${short(match.distance)}`),
      track(1 - Math.sqrt(match.distance / (Number($("reach").dataset.scale) * 1.15))),
      match.rate == null ? "" : make("span", { class: "soft", title: sentence(match) }, `${oneIn(match.rate)} strangers as near`),
      match.probability == null ? "" : make("span", { class: "soft", title: about.calibration.about }, likely(match.probability)),
      make("span", {}, place), match.time ? make("time", { datetime: match.time }, clock(match.time)) : "",
      match.vehicle == null ? "" : make("a", { href: `/vehicles?vehicle=${match.vehicle}` }, `Vehicle ${match.vehicle}`),
      make("span", { class: "soft" }, described(match))),
    make("div", { class: "actions" },
      button("Similar", "Similar to this", () => takeOne(match.id)),
      button("Compare", "Side by side", () => guarded(() => sideBySide(match))),
      markAs("right", "✓"), markAs("wrong", "✗")));
}

function showFrame(match) {
  const [x1, y1, x2, y2] = match.box;
  const svg = drawn("svg", { "aria-hidden": "true" });
  const image = make("img", { src: `${pictureOf(match.id)}?frame=true`, alt: `The frame of ${match.name}`, onload: () => {
    svg.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`);
    svg.append(drawn("rect", {
      x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none", stroke: AGREES, "stroke-width": image.naturalWidth / 250,
    }));
  } });
  $("cut-out").replaceChildren(image, svg);
  $("framed").textContent = [match.name, match.camera && `Camera ${match.camera}`, match.time && clock(match.time)].filter(Boolean).join(", ");
  $("whole").showModal();
}

async function sideBySide(match) {
  const form = new FormData();
  if (!current.id) form.append("images", current.file, current.name);
  const options = [current.id, match.id].filter(Boolean).map((id) => ["ids", id]);
  const { first, second, parts, agreement } = await post("/api/compare", options, form);
  const figure = (image, prediction, name) => make("figure", {}, make("div", { class: "overlaid" }, overlaid(image, prediction, name, parts)),
    make("figcaption", {}, name, make("br"), described(prediction)));
  $("verdict").textContent = doubted(first) || doubted(second) || [`Rank ${match.rank}, distance ${short(match.distance)}`, ...meaning(match)].join(". ") + ".";
  $("two").replaceChildren(figure(current.image, first, current.name), figure(pictureOf(match.id), second, match.name));
  $("parts").replaceChildren(make("p", {}, `${agreement[0].toUpperCase()}${agreement.slice(1)}.`), partTable(parts));
  $("pair").showModal();
}

const shareOf = (part, parts) => part.contribution / Math.max(...parts.map((one) => one.contribution ?? 0));

function partTable(parts) {
  const shown = parts.filter((part) => part.seen_in_both).sort((a, b) => b.contribution - a.contribution);
  if (!shown.length) return "";
  return make("table", { class: "bars" },
    make("caption", {}, "How much less alike they are with a surface hidden (cosine similarity)"),
    make("tbody", {}, ...shown.map((part) => make("tr", { class: part.agrees ? "agrees" : "" },
      make("th", { scope: "row" }, part.surface), make("td", {}, part.agrees ? track(shareOf(part, parts)) : ""),
      make("td", {}, part.contribution.toFixed(3))))));
}

// Marks

const key = () => current.id ?? current.name;

function setMark(id, verdict) {
  names.set(key(), current.name);
  const own = marks.get(key()) ?? new Map();
  if (own.get(id) === verdict) own.delete(id); else own.set(id, verdict);
  marks.set(key(), own);
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

// Pictures marked right are of their query's vehicle, joined across queries; one that is only marked
// wrong is another vehicle.
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
  const lines = [...parent.keys()].map((name) => `${quoted(names.get(name) ?? name)},${1 + vehicles.indexOf(root(name))}`);
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
  if (state.get("id")) await takeOne(state.get("id")); else welcome();
}

function welcome() {
  current = null;
  clearResults();
  $("looked").hidden = $("tools").hidden = $("photos").hidden = true;
  $("intro").hidden = false;
  say("");
  $("examples").hidden = !about.examples?.length;
}

// The start

function build() {
  $("about").textContent = about.images ? `${about.images.toLocaleString("en")} crops` : "no gallery";
  (about.examples ?? []).forEach((row) => names.set(row.id, row.name));
  document.querySelector(".views").hidden = !about.images;
  $("random").hidden = !about.random;
  $("chips").replaceChildren(...Object.entries(FACETS).filter(([, name]) => about[name]?.length).map(([facet, name]) =>
    make("fieldset", {}, make("legend", {}, { camera: "Camera", color: "Colour", type: "Type" }[facet]),
      ...about[name].map((value) => make("label", { class: "chip" },
        make("input", { type: "checkbox", name: facet, value }), make("span", {}, value))))));
  $("examples").querySelector("ul").replaceChildren(...(about.examples ?? []).map((row) => make("li", {},
    make("button", { type: "button", "aria-label": `Take ${row.name}`, onclick: () => takeOne(row.id) },
      make("img", { src: pictureOf(row.id), alt: "" })))));
}

function listen() {
  const changed = () => guarded(async () => { remember(); await search(); }, clearResults);
  $("file").addEventListener("change", (event) => {
    // Cleared, so that the same file can be chosen again.
    takeAll(event.target.files).finally(() => { event.target.value = ""; });
  });
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) takeAll(event.clipboardData.files); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  document.addEventListener("dragleave", () => document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    if (event.dataTransfer.files.length) takeAll(event.dataTransfer.files);
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
  $("forget").addEventListener("click", () => guarded(() => { marks.clear(); show(); }));
  window.addEventListener("popstate", () => guarded(recall));
}

guarded(async () => {
  about = await call("/api/gallery");
  build();
  listen();
  await recall();
  document.body.dataset.ready = "yes";
});
