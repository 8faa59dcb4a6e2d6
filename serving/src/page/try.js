"use strict";
const byId = (id) => document.getElementById(id);
const colours = { animal: "#ffb020", person: "#409cff", vehicle: "#c878ff" };

byId("file").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  const status = byId("status");
  status.className = "";
  status.textContent = "looking …";
  byId("found").hidden = true;
  try {
    const answer = await fetch("/v1/detections", {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream", Accept: "application/json" },
      body: file,
    });
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.detail);
    await show(file, value);
  } catch (error) {
    status.className = "problem";
    status.textContent = error.message;
  }
});

async function show(file, answer) {
  const media = answer.media[0];
  const picture = await createImageBitmap(file);
  const canvas = byId("picture");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.hidden = false;
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0);
  pen.lineWidth = Math.max(2, picture.width / 300);
  const rows = byId("found").tBodies[0];
  rows.replaceChildren();
  for (const found of media.detections) {
    const [x, y, width, height] = found.bbox;
    pen.strokeStyle = colours[found.category];
    pen.strokeRect(x * picture.width, y * picture.height, width * picture.width, height * picture.height);
    const row = rows.insertRow();
    row.insertCell().textContent = found.species ?? found.category;
    row.insertCell().textContent = found.scientific_name ?? "";
    row.insertCell().textContent = `${Math.round(100 * (found.species_confidence ?? found.confidence))} %`;
  }
  byId("found").hidden = media.detections.length === 0;
  byId("status").textContent = `${media.category}; ${answer.model.version}; ${Math.round(answer.timings.total_ms)} ms`;
}
