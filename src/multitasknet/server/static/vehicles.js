// The page of vehicles: each with its cameras on a line of time and its pictures, to be split and merged.

import { $, call, clock, described, guarded, make, pictureOf, say } from "./common.js";

const TOP = 20;
let vehicles = [], total = 0, asked = 0;
// Ids of the chosen crops.
const chosen = new Set();

const isAlone = () => document.querySelector("[name=view]:checked").value === "alone";
const seconds = (time) => Date.parse(`${time}Z`) / 1000;
const hours = (time) => clock(time).slice(11);
const place = (crop) => crop.camera ? `Camera ${crop.camera}` : "Camera unknown";
const counted = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

async function load(count = TOP, kept = []) {
  const turn = ++asked;
  const state = new URLSearchParams(location.search);
  const options = new URLSearchParams({ top: Math.min(count, 100), skip: kept.length, alone: isAlone() });
  if ($("camera").value) options.set("cameras", $("camera").value);
  if (state.has("vehicle")) options.set("vehicle", state.get("vehicle"));
  const answer = await call(`/api/vehicles?${options}`);
  if (turn !== asked) return;
  vehicles = [...kept, ...answer.vehicles];
  total = answer.total;
  say(total ? `${vehicles.length} of ${counted(total, isAlone() ? "crop" : "vehicle")} shown`
    : isAlone() ? "No crop is alone." : "No vehicles yet: 'multitasknet gallery link' finds them.");
  $("found").className = isAlone() ? "strip large" : "";
  $("found").replaceChildren(...vehicles.map((one) => isAlone() ? picture(one.crops[0]) : vehicle(one)));
  $("more").hidden = vehicles.length >= total;
  showChosen();
}

// Vehicles

function vehicle({ vehicle: number, crops }) {
  const title = `Vehicle ${number}`;
  const all = make("input", { type: "checkbox", "aria-label": `All of ${title}`, onchange: () => {
    crops.forEach(({ id }) => { if (all.checked) chosen.add(id); else chosen.delete(id); });
    showChosen();
  } });
  const timed = crops.filter((crop) => crop.first && crop.camera);
  return make("li", { class: "vehicle" },
    make("h3", {}, make("label", {}, all, ` ${title}`),
      make("span", { class: "soft" }, [described(crops[0]), counted(crops.length, "picture")].filter(Boolean).join(", "))),
    timed.length ? timeline(timed) : "",
    make("ul", { class: "strip large" }, ...crops.map(picture)));
}

// A line a camera, from the vehicle's first moment to its last.
function timeline(crops) {
  const start = seconds(crops[0].first), end = Math.max(...crops.map((crop) => seconds(crop.last)));
  const share = (time) => 100 * (seconds(time) - start) / (end - start || 1);
  const lines = [...new Set(crops.map((crop) => crop.camera))].map((camera) => {
    const bars = crops.filter((crop) => crop.camera === camera).map((crop) => {
      const bar = make("i", { title: `${hours(crop.first)} to ${hours(crop.last)}` });
      bar.style.left = `${share(crop.first)}%`;
      bar.style.width = `${share(crop.last) - share(crop.first)}%`;
      return bar;
    });
    return make("div", {}, make("span", {}, camera), make("span", { class: "lane" }, ...bars));
  });
  const last = crops.reduce((a, b) => seconds(a.last) > seconds(b.last) ? a : b).last;
  const spoken = crops.map((crop) => `${place(crop)} at ${hours(crop.first)}`).join(", ");
  return make("div", { class: "timeline", role: "img", "aria-label": spoken }, ...lines,
    make("div", {}, make("span"), make("span", { class: "ends" },
      make("time", { datetime: crops[0].first }, clock(crops[0].first)), make("time", { datetime: last }, hours(last)))));
}

function picture(crop) {
  const when = crop.first ? clock(crop.first) : "time unknown";
  const box = make("input", { type: "checkbox", value: crop.id, checked: chosen.has(crop.id), onchange: () => {
    if (box.checked) chosen.add(crop.id); else chosen.delete(crop.id);
    showChosen();
  } });
  return make("li", { class: "crop" },
    make("label", {}, box, make("img", {
      src: pictureOf(crop.id), loading: "lazy", title: crop.name,
      alt: `${[described(crop), place(crop)].filter(Boolean).join(", ")}, ${when}`,
    })),
    make("span", {}, place(crop)), make("span", { class: "soft" }, when),
    make("a", { href: `/?${new URLSearchParams({ id: crop.id })}`, "aria-label": `Crops similar to ${crop.name}` }, "Similar"));
}

// By hand

function showChosen() {
  for (const box of document.querySelectorAll("#found [value]")) box.checked = chosen.has(box.value);
  document.querySelectorAll(".vehicle").forEach((item) => {
    const [all, ...boxes] = item.querySelectorAll("input");
    const checked = boxes.filter((box) => box.checked).length;
    all.checked = checked === boxes.length;
    all.indeterminate = checked > 0 && !all.checked;
  });
  const touched = vehicles.filter(({ crops }) => crops.some(({ id }) => chosen.has(id)));
  const own = touched.length === 1 ? touched[0].crops.map(({ id }) => id) : [];
  const isPart = own.length > chosen.size && [...chosen].every((id) => own.includes(id));
  $("marks").hidden = !chosen.size;
  $("marked").textContent = `${counted(chosen.size, "picture")} chosen`;
  $("pin").textContent = isPart ? "Split off as another vehicle" : "Make them one vehicle";
}

async function pin() {
  const body = JSON.stringify({ ids: [...chosen] });
  const { vehicle: number } = await call("/api/vehicles", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  const count = chosen.size;
  chosen.clear();
  await load(Math.max(vehicles.length, TOP));
  say(`${counted(count, "picture")} ${count === 1 ? "is" : "are"} vehicle ${number} now. ${$("status").textContent}`);
}

// The start

guarded(async () => {
  const about = await call("/api/gallery");
  $("about").textContent = about.images ? `${about.images.toLocaleString("en")} crops` : "no gallery";
  $("camera").append(...(about.cameras ?? []).map((name) => make("option", { value: name }, name)));
  const state = new URLSearchParams(location.search);
  $("camera").value = state.get("camera") ?? "";
  document.querySelector(`[name=view][value=${state.has("alone") ? "alone" : "linked"}]`).checked = true;
  const changed = () => guarded(async () => {
    const now = new URLSearchParams();
    if ($("camera").value) now.set("camera", $("camera").value);
    if (isAlone()) now.set("alone", "");
    history.replaceState(null, "", now.size ? `?${now}` : location.pathname);
    await load();
  });
  for (const one of [$("camera"), ...document.querySelectorAll("[name=view]")]) one.addEventListener("change", changed);
  $("more").addEventListener("click", () => guarded(() => load(TOP, vehicles)));
  $("pin").addEventListener("click", () => guarded(pin));
  $("forget").addEventListener("click", () => guarded(async () => { chosen.clear(); showChosen(); }));
  await load();
  document.body.dataset.ready = "yes";
});
