// Shows /openapi.json, with examples that run: they ask about crops of the gallery.

import { call, make } from "./common.js";

const short = (value) => JSON.stringify(value, (_, one) =>
  Array.isArray(one) && one.length > 6 && typeof one[0] === "number"
    ? [...one.slice(0, 3), `... ${one.length} numbers`] : one, 1);

const CROPS = { "/api/predict": 1, "/api/compare": 2, "/api/search": 1 };

function fieldsOf(operation, schemas) {
  const { content } = operation.requestBody ?? { content: {} };
  const body = content["multipart/form-data"] ?? content["application/json"];
  const schema = schemas[body?.schema.$ref?.split("/").at(-1)] ?? body?.schema;
  return [...Object.entries(schema?.properties ?? {}),
    ...(operation.parameters ?? []).map((one) => [`?${one.name}`, { description: one.description ?? one.schema.description }])];
}

function shown(path, method, operation, schemas, ids) {
  const fields = fieldsOf(operation, schemas).map(([name, field]) => [
    make("dt", {}, make("code", {}, name)), make("dd", {}, field.description ?? "")]);
  const box = make("section", { class: "operation", "aria-label": `${method} ${path}` },
    make("h2", {}, make("span", { class: "method" }, method.toUpperCase()), path),
    make("p", {}, operation.description ?? ""), make("dl", {}, ...fields.flat()));
  const count = CROPS[path];
  if (count) {
    const files = " -F images=@car.jpg".repeat(count);
    box.append(make("pre", {}, `curl${files} ${location.origin}${path}` +
      (count === 1 ? `\ncurl --data-binary @car.jpg -H 'Content-Type: image/jpeg' ${location.origin}${path}` : "")));
  }
  if (count > ids.length || (!count && (method !== "get" || path.includes("{")))) return box;
  const target = count ? `${path}?${new URLSearchParams(ids.slice(0, count).map((id) => ["ids", id]))}` : path;
  const result = make("pre", { hidden: "" }), run = make("button", { type: "button" }, `Run ${target}`);
  run.addEventListener("click", async () => {
    const answer = await fetch(target, { method });
    const content = await answer.text();
    result.hidden = false;
    try { result.textContent = `${answer.status}\n${short(JSON.parse(content))}`; } catch { result.textContent = content; }
  });
  box.append(run, result);
  return box;
}

const described = await call("/openapi.json");
const gallery = await call("/api/gallery");
const ids = (gallery.examples ?? []).map((row) => row.id);
for (const [path, methods] of Object.entries(described.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    document.getElementById("operations").append(shown(path, method, operation, described.components.schemas, ids));
  }
}
document.body.dataset.ready = "yes";
