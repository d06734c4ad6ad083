// The page: what `meshsync status`, `conflicts`, `held`, `find` and `restore` show and do, over the same local API.
// Every text goes into the document as text, through `shown`; there is no markup from outside.

import { count, percent, shown, size, when } from "/shown.js";

const API = "/api/v1";
const TOKEN = "meshsync-token"; // in this tab only, and only as long as it is open
const REFRESH_MS = 250; // changes come in crowds: one look for all of them
const RETRY_MS = 2000;
const LIST_MS = 5000;
const VERSIONS_SHOWN = 100;
const UNBROKEN_MAX = 20; // characters of a cell that stay in one line
const DOWNLOAD_BYTES_MAX = 256 * 1024 * 1024; // a browser holds a download of this page in memory

let token = "";
let searched = { name: "", deleted: false, path: "" };
let listed = { key: "", wanted: "", time: 0, timer: 0 }; // what the list of versions was made for, and when

// --- asking the agent ---------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || "the agent refused");
    this.status = status;
    this.problem = problem;
  }
}

async function ask(method, path, body) {
  const headers = { Authorization: "Bearer " + token };
  const options = { method, headers, cache: "no-store", credentials: "omit" };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(API + path, options);
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

const get = async (path) => (await ask("GET", path)).json();

async function job(path, body) {
  let found = await (await ask("POST", path, body)).json();
  while (found.state === "running") found = await get(`/jobs/${percent(found.id)}?wait_s=20`);
  if (found.state === "failed") throw new Refused(found.problem.status, found.problem);
  return found.result;
}

// --- making elements ----------------------------------------------------------------------------------------------

function element(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children.map((child) => (child instanceof Node ? child : shown(child))));
  return made;
}

function table(headings, rows) {
  const numbers = headings.map((text) => text.startsWith("#"));
  const kind = (column, cell) => (numbers[column] ? "number" : cell?.length > UNBROKEN_MAX ? "free" : "");
  const head = headings.map((text, column) => element("th", kind(column), text.replace("#", "")));
  head.forEach((cell) => { cell.scope = "col"; });
  const body = rows.map((row) => element("tr", "", ...row.map((cell, column) => element("td", kind(column, cell), cell))));
  return element("table", "", element("thead", "", element("tr", "", ...head)), element("tbody", "", ...body));
}

function button(text, act) {
  const made = element("button", "", text);
  made.type = "button";
  made.addEventListener("click", async () => {
    made.disabled = true;
    await attempt(act);
    made.disabled = false;
    refresh();
  });
  return made;
}

function place(name, ...children) {
  const section = document.getElementById(name);
  section.hidden = children.length === 0;
  section.querySelector("div").replaceChildren(...children);
}

function tell(text, next) {
  const notice = document.getElementById("notice");
  notice.hidden = !text;
  notice.replaceChildren(shown(text || ""), ...(next ? [" Next: ", element("code", "", next)] : []));
}

async function attempt(act) {
  try {
    const said = await act();
    if (said) tell(said);
  } catch (error) {
    report(error);
  }
}

function report(error) {
  if (!(error instanceof Refused)) {
    tell("The agent does not answer.", "meshsync up");
  } else if (error.status === 401) {
    document.getElementById("main").hidden = true;
    tell("This page has ended; it lives as long as the agent.", "meshsync open");
  } else {
    const { detail, path, why, next } = error.problem;
    tell([detail, path && `(${path})`, why].filter(Boolean).join(" "), next);
  }
}

// --- what is shown ------------------------------------------------------------------------------------------------

function showHead(status) {
  document.title = shown(status.device.name) + " - meshsync";
  document.getElementById("device").textContent = shown(`${status.device.name}, agent ${status.version}`);
  const idle = document.getElementById("idle");
  idle.textContent = status.idle ? "everything is in sync" : "working";
  idle.className = status.idle ? "good" : "warn";
}

function showHealth(items) {
  place("health", ...items.map((item) => element(
    "div", "item",
    element("p", "bad", item.what),
    ...(item.why ? [element("p", "soft", item.why)] : []),
    ...(item.next ? [element("p", "", "Next: ", element("code", "", item.next))] : []),
  )));
}

function showFolders(folders) {
  if (!folders.length) {
    place("folders", element("p", "soft", "No folders yet. Next: ", element("code", "", "meshsync share PATH")));
    return;
  }
  const rows = folders.map((folder) => [
    element("div", "", element("strong", "", folder.name), element("div", "soft", folder.path)),
    count(folder.files), size(folder.bytes), folderState(folder),
    folder.relayed ? (folder.not_durable ? `all but ${count(folder.not_durable)}` : "all") : "no relay",
    folder.role,
    folder.state === "paused"
      ? button("Resume", async () => { await ask("POST", "/resume", { folder: folder.id }); })
      : button("Pause", async () => { await ask("POST", "/pause", { folder: folder.id }); }),
  ]);
  place("folders", table(["Folder", "#Files", "#Size", "State", "Durable", "Role", ""], rows));
}

function folderState(folder) {
  const kinds = { "in sync": "good", error: "bad", held: "bad", paused: "warn" };
  const made = element("span", kinds[folder.state] || "warn", folder.state);
  if (folder.state === "syncing" && folder.total_bytes) {
    const bar = element("progress");
    bar.max = folder.total_bytes;
    bar.value = folder.done_bytes;
    bar.ariaLabel = "bytes that are here";
    made.append(" ", bar, shown(` ${size(folder.rate_bytes_s)}/s`));
  }
  return made;
}

function showDevices(status) {
  const milliseconds = (value) => (value === null ? "-" : `${value.toFixed(1)} ms`);
  const rows = [
    ...status.devices.map((device) => [
      device.name, element("span", device.path === "offline" ? "soft" : "good", device.path),
      milliseconds(device.rtt_ms), `${size(device.down_bytes_s)}/s`, `${size(device.up_bytes_s)}/s`,
      device.path === "offline" ? (device.seen ? when(device.seen) : "never") : "now",
    ]),
    ...status.relays.map((relay) => [
      relay.address, element("span", relay.connected ? "good" : "bad", relay.connected ? "relay" : "relay, not reached"),
      milliseconds(relay.rtt_ms), "", "", relay.connected ? "now" : "-",
    ]),
  ];
  place("devices", ...(rows.length ? [table(["Device", "Path", "#RTT", "#Down", "#Up", "Seen"], rows)] : []));
}

function showConflicts(conflicts) {
  place("conflicts", ...conflicts.map((conflict) => {
    const path = below(conflict.root, conflict.path);
    const line = (copy, what) => element("li", "", what, " ", element("span", "soft",
      copy.device ? `${copy.device}, ${when(copy.time)}, ${size(copy.size)}` : "nothing lies there"));
    const copies = conflict.copies.map((copy) => element("div", "", element("ul", "", line(copy, copy.path)),
      resolving("Keep this one", below(conflict.root, copy.path), "theirs")));
    return element("div", "item",
      element("p", "", element("strong", "", conflict.folder), " "),
      element("ul", "", line(conflict, conflict.path)), resolving("Keep this one", path, "mine"),
      ...copies, resolving("Keep all", path, "both"));
  }));
}

function resolving(text, path, keep) {
  return button(text, async () => {
    const done = await job("/resolutions", { path, keep });
    return done.kept_in ? `Resolved. What lost is kept in ${done.kept_in}` : "Resolved.";
  });
}

function showHeld(answer) {
  place("held", ...answer.held.map((held) => {
    const where = held.side === "publish" ? "done here, not told to others" : "not done here";
    const what = held.change === "deletion" ? "deleted" : "changed";
    const decide = (text, path, question) => button(text, async () => {
      if (!window.confirm(shown(question))) return "";
      const done = await job(path, { id: held.id });
      return `${count(done.count)} files ${done.decision}.` + (done.lost.length ? ` Not brought back: ${done.lost.join(", ")}` : "");
    });
    return element("div", "item",
      element("p", "", element("strong", "", held.folder), ` ${count(held.count)} of ${count(held.total)} files ${what} by ${held.device || "somebody"}: ${where}`),
      element("p", "soft", `${when(held.since)}, ${held.why}`),
      element("ul", "", ...held.examples.map((path) => element("li", "", path))),
      decide("Let it pass", "/releases", `Have ${held.count} files of ${held.folder} ${what}?`),
      decide("Bring the files back", "/rejections", `Bring ${held.count} files of ${held.folder} back?`));
  }));
}

function showFiles(files) {
  const rows = files.slice(0, VERSIONS_SHOWN).map(({ path, version, folder }) => [
    when(version.time), version.change, `${folder}: ${version.path}`, size(version.size), version.device,
    button("History", () => { searched.path = path; }),
  ]);
  const more = files.length > rows.length ? [element("p", "soft", "More are found by name, or with ", element("code", "", "meshsync versions"))] : [];
  const made = rows.length ? table(["When", "Change", "File", "#Size", "Device", ""], rows) : element("p", "soft", "None.");
  document.querySelector("#versions > div").replaceChildren(made, ...more);
}

function showHistory(path, versions) {
  const rows = versions.slice(0, VERSIONS_SHOWN).map((version) => {
    const acts = element("span", "");
    if (version.kept) { // else nobody who can be asked has it any more
      acts.append(button("Restore", async () => {
        const done = await job("/restores", { path, version: version.id });
        const why = done.skipped.map((each) => each.why).join(", ");
        return done.not_restored ? `Not restored: ${why}` : `Restored to ${done.restored_to || path}`;
      }));
      if (version.size <= DOWNLOAD_BYTES_MAX) acts.append(button("Download", () => download(path, version)));
    }
    return [count(version.n), when(version.time), version.change, size(version.size), version.device, version.kept || "-", acts];
  });
  document.querySelector("#versions > div").replaceChildren(
    element("p", "", element("strong", "", path), " ", button("Back", () => { searched.path = ""; })),
    table(["#No.", "When", "Change", "#Size", "Device", "Kept", ""], rows),
  );
}

async function download(path, version) {
  const answer = await ask("GET", `/cat?path=${percent(path)}&version=${percent(version.id)}`);
  const link = element("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = shown(path.split("/").pop());
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), RETRY_MS);
}

function below(root, path) {
  return root ? `${root.replace(/\/$/, "")}/${path}` : path;
}

// --- keeping it up to date ----------------------------------------------------------------------------------------

let looking = false;
let lookAgain = false;

async function refresh() {
  lookAgain = true;
  if (looking) return;
  looking = true;
  while (lookAgain) {
    lookAgain = false;
    try {
      await look();
    } catch (error) {
      report(error);
    }
  }
  looking = false;
}

async function look() {
  const [status, conflicts, held] = await Promise.all([get("/status"), get("/conflicts"), get("/held")]);
  showHead(status);
  showHealth(status.health);
  showFolders(status.folders);
  showDevices(status);
  showConflicts(conflicts.conflicts);
  showHeld(held);
  document.getElementById("main").hidden = false;
  await lookAtVersions(status.folders);
}

async function lookAtVersions(folders) {
  const wanted = JSON.stringify(searched), total = folders.reduce((sum, folder) => sum + folder.versions, 0);
  const key = wanted + total, age = performance.now() - listed.time;
  if (key === listed.key) return;
  if (wanted === listed.wanted && age < LIST_MS) { // while much is changing, its list need not follow each change
    clearTimeout(listed.timer);
    listed.timer = setTimeout(refresh, LIST_MS - age);
    return;
  }
  clearTimeout(listed.timer);
  await list(folders);
  listed = { key, wanted, time: performance.now(), timer: 0 };
}

async function list(folders) {
  if (searched.path) {
    showHistory(searched.path, (await get(`/log?path=${percent(searched.path)}`)).versions);
    return;
  }
  const name = percent(searched.name || "*"), found = [];
  for (const folder of folders) {
    const { versions } = await get(`/find?name=${name}&deleted=${searched.deleted}&folder=${percent(folder.id)}`);
    found.push(...versions.map((version) => ({ version, folder: folder.name, path: below(folder.path, version.path) })));
  }
  found.sort((one, other) => (one.version.time < other.version.time ? 1 : -1));
  showFiles(found);
}

async function listen() {
  for (;;) {
    try {
      const reader = (await ask("GET", "/events")).body.getReader();
      await refresh();
      for (let timer = 0; ;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (value[0] !== 58) { // not a line that begins with a colon: those only keep the stream alive
          clearTimeout(timer);
          timer = setTimeout(refresh, REFRESH_MS);
        }
      }
    } catch (error) {
      report(error);
      if (error instanceof Refused && error.status === 401) return;
    }
    await new Promise((resume) => { setTimeout(resume, RETRY_MS); });
  }
}

async function begin() {
  const key = location.hash.slice(1);
  history.replaceState(null, "", "/"); // neither the history nor a screenshot keeps the key
  token = sessionStorage.getItem(TOKEN) || "";
  if (key) {
    const answer = await fetch("/session", { method: "POST", headers: { "X-Meshsync-Key": key }, credentials: "omit" });
    if (answer.ok) {
      token = await answer.text();
      sessionStorage.setItem(TOKEN, token);
    } else if (!token) {
      tell("This address was used already, or is too old.", "meshsync open");
      return;
    }
  }
  if (!token) {
    tell("This page is opened by a command.", "meshsync open");
    return;
  }
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    searched = { name: document.getElementById("name").value.trim(), deleted: document.getElementById("deleted").checked, path: "" };
    refresh();
  });
  await listen();
}

begin();
