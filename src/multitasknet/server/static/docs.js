// What /openapi.json says, with examples that can be run: ids in them become some of the gallery.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const short = (value) => JSON.stringify(value, (_, one) =>
  Array.isArray(one) && one.length > 6 && typeof one[0] === "number"
    ? [...one.slice(0, 3), `... ${one.length} numbers`] : one, 1);

function operation(path, method, about, ids) {
  const json = about.requestBody?.content["application/json"];
  const box = make("section", { class: "operation", "aria-label": `${method} ${path}` },
    make("h2", {}, make("span", { class: "method" }, method.toUpperCase()), path), make("p", {}, about.description ?? ""));
  const run = make("button", { type: "button" }, "Run");
  const result = make("pre", { hidden: "" });
  let text = null;
  if (json) {
    const fields = Object.entries(json.schema.properties).map(([name, field]) => [
      make("dt", {}, make("code", {}, name)), make("dd", {}, field.description ?? "")]);
    const example = { ...json.example, ids: json.example.ids.map((_, place) => ids[place] ?? "") };
    text = make("textarea", { rows: "3", "aria-label": "Body" });
    text.value = JSON.stringify(example);
    box.append(make("dl", {}, ...fields.flat()), text);
    box.append(make("pre", {}, `curl -F images=@car.jpg ${location.origin}${path}\n` +
      `curl --json '${JSON.stringify(example)}' ${location.origin}${path}`));
  }
  for (const sample of about["x-codeSamples"] ?? []) {
    box.append(make("pre", {}, sample.source.replace("127.0.0.1:8000", location.host)));
  }
  const target = path.replace("{name}", "multitasknet");
  if (!text && (method !== "get" || target.includes("{"))) return box;
  run.addEventListener("click", async () => {
    const options = text ? { method, body: text.value, headers: { "Content-Type": "application/json" } } : {};
    const answer = await fetch(target, options);
    const content = await answer.text();
    result.hidden = false;
    try { result.textContent = `${answer.status}\n${short(JSON.parse(content))}`; } catch { result.textContent = content; }
  });
  box.append(run, result);
  return box;
}

const described = await (await fetch("/openapi.json")).json();
const gallery = await (await fetch("/api/gallery")).json();
const ids = (gallery.examples ?? []).map((row) => row.id);
for (const [path, methods] of Object.entries(described.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    document.getElementById("operations").append(operation(path, method, about, ids));
  }
}
document.body.dataset.ready = "yes";
