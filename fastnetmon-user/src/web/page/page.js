// The page: asks the API once a second and shows what it says. Nothing is kept but the token, in
// this tab.
"use strict";

const $ = (id) => document.getElementById(id);
const state = {
  direction: "incoming", sort: "packets", within: "", offset: 0,
  span: 300, network: null, lastEvent: 0, host: null, busy: false, failures: 0,
  // The agent's calendar at its last report, when that came, and since when the agent runs.
  unix: 0, told: 0, begun: 0,
  // What waits for the token, and whether the operator would rather not be asked for it.
  pending: null, declined: false,
};
const PAGE = 20;
const BANS = 100;
const NETWORKS = 50;
// An answer that takes longer will not come; a report that is older says that the agent is stuck.
const PATIENCE_MS = 4000;
const FRESH_MS = 5000;

// ---- numbers and times
const units = (value, step, names) => {
  let at = 0;
  while (value >= step && at < names.length - 1) { value /= step; at += 1; }
  return (at === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)) + names[at];
};
const count = (value) => units(value, 1000, ["", " k", " M", " G"]);
const bits = (value) => units(value, 1000, [" bit/s", " kbit/s", " Mbit/s", " Gbit/s", " Tbit/s"]);
const clock = (unix) => new Date(unix * 1000).toLocaleTimeString([], { hour12: false });
const lasting = (secs) => secs < 0 ? "when it is over" : secs < 90 ? `${secs} s`
  : secs < 5400 ? `${Math.round(secs / 60)} min` : `${(secs / 3600).toFixed(1)} h`;

// ---- the API
async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...(options.headers || {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  const body = await answer.json();
  if (!answer.ok) {
    const error = new Error(body.error || answer.statusText);
    error.status = answer.status;
    throw error;
  }
  return body;
}

// Gives an order and says what became of it; once more when the token was asked for and given.
async function order(place, path, method, body) {
  const options = { method };
  if (body) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  try {
    text(place, (await ask(path, options)).done);
    refresh();
  } catch (error) {
    text(place, error.message);
    if (error.status !== 401) return;
    state.pending = () => order(place, path, method, body);
    askToken(error.message);
  }
}

// ---- small pieces of the page
const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };
function element(name, content, properties = {}) {
  const node = document.createElement(name);
  if (content !== undefined) node.textContent = content;
  return Object.assign(node, properties);
}
// A row is its host's for as long as it stands: focus stays with it, and no press meets another
// host than the one that was read.
function rows(body, items, key, cellsOf) {
  const focused = document.activeElement;
  const known = new Map(Array.from(body.rows, (row) => [row.dataset.key, row]));
  const wanted = new Set(items.map(key));
  for (const [name, row] of known) if (!wanted.has(name)) row.remove();
  let next = body.rows[0] || null;
  for (const item of items) {
    let row = known.get(key(item));
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = key(item);
    }
    if (row === next) next = row.nextElementSibling; else body.insertBefore(row, next);
    cellsOf(item).forEach((cell, place) => fill(row.cells[place] || row.insertCell(), cell));
  }
  // What is moved in the document loses it.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}
function fill(box, cell) {
  const { value, kind = "", host, press, label } = typeof cell === "object" ? cell : { value: cell };
  box.className = kind;
  if (host === undefined && press === undefined) { text(box, String(value)); return; }
  let button = box.firstElementChild;
  if (!button) { button = element("button", "", { type: "button" }); box.replaceChildren(button); }
  button.className = host !== undefined ? "host" : "";
  if (label) button.setAttribute("aria-label", label);
  text(button, value);
  button.onclick = host !== undefined ? () => openHost(host) : press;
}

// ---- charts
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function chart(target, format) {
  const axis = () => ({ stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } });
  const line = (label, name) => ({ label, stroke: colour(name), width: 2, value: (_, value) => value == null ? "–" : format(value) });
  const make = () => new uPlot({
    width: Math.max(target.clientWidth, 240), height: 180,
    series: [{ value: (_, unix) => unix == null ? "–" : clock(unix) }, line("incoming", "--in"), line("outgoing", "--out")],
    axes: [{ ...axis(), size: 30, space: 80, values: (_, values) => values.map(clock) }, { ...axis(), size: 76, values: (_, values) => values.map(format) }],
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
    legend: { live: true },
  }, [[], [], []], target);
  let plot = make();
  let last = [[], [], []];
  const again = () => { plot.destroy(); plot = make(); plot.setData(last); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new ResizeObserver(() => plot.setSize({ width: Math.max(target.clientWidth, 240), height: 180 })).observe(target);
  return (data) => { last = data; plot.setData(data); };
}
const charts = {};
function cut(history, span) {
  const from = history.unix.at(-1) - span;
  const first = history.unix.findIndex((unix) => unix >= from);
  return (values) => first < 0 ? [] : values.slice(first);
}
function draw(history) {
  const part = cut(history, state.span);
  charts.pps([part(history.unix), part(history.incoming_pps), part(history.outgoing_pps)]);
  charts.bps([part(history.unix), part(history.incoming_bps), part(history.outgoing_bps)]);
}

// ---- what is shown
function showTotals(totals) {
  if (totals.unix !== state.unix) { state.unix = totals.unix; state.told = performance.now(); }
  for (const [name, key] of [["in", "incoming"], ["out", "outgoing"], ["internal", "internal"], ["other", "other"]]) {
    text($(`${name}-pps`), `${count(totals[key].pps)} pps`);
    text($(`${name}-bps`), bits(totals[key].bps));
  }
  text($("ban-count"), String(totals.bans));
  text($("host-count"), `${totals.hosts} hosts move`);
  const alarms = $("alarms");
  alarms.hidden = totals.alarms.length === 0;
  alarms.replaceChildren(...totals.alarms.map((alarm) => element("li", alarm)));
}

function showHosts(page) {
  rows($("host-table").tBodies[0], page.hosts, (host) => host.ip, (host) => [
    { value: host.ip, host: host.ip },
    { value: count(host.incoming.pps), kind: "n" }, { value: bits(host.incoming.bps), kind: "n" },
    { value: count(host.outgoing.pps), kind: "n" }, { value: bits(host.outgoing.bps), kind: "n" },
    { value: host.banned ? "banned" : "", kind: host.banned ? "banned" : "" },
  ]);
  const last = state.offset + page.hosts.length;
  text($("place"), page.matching ? `${state.offset + 1} to ${last} of ${page.matching}` : "no host moves");
  $("back").disabled = state.offset === 0;
  $("more").disabled = last >= page.matching;
}

function showBans(bans) {
  const now = state.unix || Math.floor(Date.now() / 1000);
  $("bans").hidden = bans.length === 0;
  $("no-bans").hidden = bans.length !== 0;
  text($("more-bans"), bans.length < BANS ? "" : `The ${BANS} loudest at most are shown; \`fastnetmon bans\` lists all.`);
  rows($("bans").tBodies[0], bans, (ban) => ban.ip, (ban) => [
    { value: ban.ip, host: ban.ip },
    `${ban.direction} ${ban.attack}${ban.dry_run ? " (dry run)" : ""}`,
    { value: `${count(ban.peak_pps)} pps`, kind: "n" },
    { value: `${ban.cause}. ${ban.evidence}${ban.remotes && ban.remotes.text ? `. ${ban.remotes.text}` : ""}`, kind: "why" },
    clock(ban.since),
    ban.until === null ? "until let go" : lasting(ban.until - now),
    { value: "Let go", label: `Let ${ban.ip} go`, press: () => unban(ban.ip, $("bans-answer")) },
  ]);
}

function showEvents(events) {
  const list = $("events");
  for (const event of events) {
    state.lastEvent = Math.max(state.lastEvent, event.number);
    const line = element("li", undefined, { className: event.kind });
    line.append(element("time", clock(event.unix)), event.text);
    list.prepend(line);
  }
  while (list.children.length > 200) list.lastElementChild.remove();
}

function showHealth(health) {
  const begun = state.unix - health.uptime_secs;
  if (state.begun && begun > state.begun + 3) {
    // Another agent, which numbers its events anew.
    state.lastEvent = 0;
    $("events").replaceChildren();
  }
  if (state.unix) state.begun = begun;
  const unread = Object.entries(health.unparsed).filter(([, number]) => number > 0)
    .map(([reason, number]) => `${reason.replace("_", " ")} ${count(number)}`).join(", ");
  const lost = health.received + health.dropped === 0 ? 0 : 100 * health.dropped / (health.received + health.dropped);
  const facts = [
    ["Engine", `${health.engine}, ${health.role}, on ${health.interfaces.join(", ")}`],
    ["Runs for", lasting(health.uptime_secs)],
    ["Seen", `${count(health.received)} packets`],
    ["Lost", `${count(health.dropped)} (${lost.toFixed(2)} %)`],
    ["Not readable", unread || "nothing"],
    ["Reading takes", `${(health.tick_micros / 1000).toFixed(1)} ms of CPU`],
    ["IPv6 hosts", `${health.ipv6_hosts} of ${health.ipv6_room}`],
    ["Calls that wait", String(health.calls_waiting)],
  ];
  text($("version"), health.version);
  $("health").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function showOrigins(origins) {
  $("origins-section").hidden = origins.databases.length === 0;
  text($("origins-how"), origins.span_secs ? `by one packet in ${origins.sample_every}, the last ${origins.span_secs} s: estimates` : "no sample yet");
  for (const way of ["incoming", "outgoing"]) {
    const { samples, systems, countries } = origins[way];
    rows($(`origins-${way}`).tBodies[0], systems, (system) => String(system.asn), (system) => [
      system.asn === 0 ? "not known" : `AS${system.asn} ${system.name}`.trim(),
      { value: count(system.pps), kind: "n" }, { value: bits(system.bps), kind: "n" },
    ]);
    text($(`origins-${way}-countries`), countries.filter((one) => one.country)
      .map((one) => `${one.country} ${Math.floor(100 * one.samples / Math.max(samples, 1))} %`).join(", "));
  }
}

function showNetworks({ networks }) {
  const body = $("networks").tBodies[0];
  rows(body, networks, (network) => network.prefix, (network) => [
    { value: network.prefix, press: () => chooseNetwork(network.prefix) },
    { value: count(network.incoming.pps), kind: "n" }, { value: count(network.outgoing.pps), kind: "n" },
    { value: String(network.hosts), kind: "n" },
  ]);
}

// ---- one host
async function openHost(ip) {
  state.host = ip;
  text($("host-answer"), "");
  text($("host-name"), ip);
  if (!$("host-dialog").open) $("host-dialog").showModal();
  charts.host ||= chart($("chart-host"), count);
  await refreshHost().catch(hostProblem);
}
// Said in its window: the page as a whole is well.
function hostProblem(error) {
  if (error.status === 401) throw error;
  text($("host-answer"), error.message);
}
async function refreshHost() {
  const ip = state.host;
  if (!ip) return;
  const host = await ask(`api/v1/hosts/${encodeURIComponent(ip)}`);
  if (ip !== state.host) return;
  const { incoming, outgoing, history } = host;
  text($("host-now"), `incoming ${count(incoming.pps)} pps, ${bits(incoming.bps)} · outgoing ${count(outgoing.pps)} pps, ${bits(outgoing.bps)}`
    + (host.ban ? ` · banned: ${host.ban.attack}, ${host.ban.cause}` : "")
    + (host.remotes && host.remotes.text ? ` · the other side: ${host.remotes.text}` : ""));
  charts.host([history.unix, history.incoming_pps, history.outgoing_pps]);
  rows($("classes").tBodies[0], Object.keys(host.incoming_classes), (name) => name, (name) => {
    const [into, from] = [host.incoming_classes[name], host.outgoing_classes[name]];
    return [name.replace("_", " "), { value: count(into.pps), kind: "n" }, { value: bits(into.bps), kind: "n" },
      { value: count(from.pps), kind: "n" }, { value: bits(from.bps), kind: "n" }];
  });
  // Made anew only when there is another one: focus stays, and no press falls between two of a button.
  const told = host.events.slice(-20).map((event) => event.number).join();
  if ($("host-events").dataset.told !== ip + told) $("host-events").replaceChildren(...host.events.slice(-20).reverse().map((event) => {
    const line = element("li", undefined, { className: event.kind });
    line.append(element("time", clock(event.unix)), event.text);
    if (event.kind === "attack_details") {
      line.append(" ", element("button", "Packets as pcapng", { type: "button", onclick: () => download(event.ban, $("host-answer")) }));
    }
    return line;
  }));
  $("host-events").dataset.told = ip + told;
  const packets = host.events.filter((event) => event.packets).at(-1);
  text($("host-packets"), packets ? packets.packets.join("\n") : "");
  $("host-ban").hidden = host.banned;
  $("host-unban").hidden = !host.banned;
}
const unban = (ip, place) => order(place, `api/v1/bans/${encodeURIComponent(ip)}`, "DELETE");
const ban = (ip, place) => order(place, "api/v1/bans", "POST", { ip, direction: state.direction, reason: "from the page" });
// By hand, since a link would not carry the token.
async function download(ban, place) {
  try {
    const token = sessionStorage.getItem("token");
    const answer = await fetch(`api/v1/bans/${encodeURIComponent(ban)}/packets`, { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store" });
    if (!answer.ok) throw Object.assign(new Error((await answer.json()).error), { status: answer.status });
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "");
    const link = element("a", "", { href: URL.createObjectURL(await answer.blob()), download: name ? name[1] : `${ban}.pcapng` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    text(place, "");
  } catch (error) {
    text(place, error.message);
    if (error.status !== 401) return;
    state.pending = () => download(ban, place);
    askToken(error.message);
  }
}

// ---- the token
function askToken(reason) {
  text($("token-answer"), reason);
  if ($("token-dialog").open) return;
  $("token-dialog").returnValue = "";
  $("token-dialog").showModal();
  $("token").focus();
}
function tokenAnswered() {
  const { pending } = state;
  const isGiven = $("token-dialog").returnValue === "keep";
  if (isGiven) sessionStorage.setItem("token", $("token").value.trim());
  $("token").value = "";
  state.pending = null;
  state.declined = !isGiven;
  if (isGiven && pending) pending(); else refresh();
}

function chooseNetwork(prefix) {
  state.network = prefix;
  text($("chart-title"), prefix || "The whole");
  $("whole").hidden = !prefix;
  refresh();
}

// ---- once a second
async function refresh() {
  if (state.busy || document.hidden) return;
  state.busy = true;
  try {
    const query = new URLSearchParams({ direction: state.direction, sort: state.sort, limit: PAGE, offset: state.offset });
    if (state.within) query.set("within", state.within);
    const loudest = new URLSearchParams({ direction: state.direction, sort: state.sort, limit: NETWORKS });
    const chartPath = state.network ? `api/v1/history/network?prefix=${encodeURIComponent(state.network)}` : "api/v1/history";
    const hosts = ask(`api/v1/hosts?${query}`).then((page) => { text($("within-problem"), ""); showHosts(page); }, (error) => {
      if (error.status !== 400) throw error;
      text($("within-problem"), error.message);
    });
    await Promise.all([
      ask("api/v1/totals").then(showTotals), hosts,
      ask(`api/v1/bans?limit=${BANS}`).then(showBans),
      ask(`api/v1/events?after=${state.lastEvent}`).then(showEvents),
      ask("api/v1/health").then(showHealth), ask(`api/v1/networks?${loudest}`).then(showNetworks),
      ask("api/v1/origins").then(showOrigins),
      ask(chartPath).then(draw), $("host-dialog").open ? refreshHost().catch(hostProblem) : null,
    ]);
    state.failures = 0;
    const silence = performance.now() - state.told;
    $("state").className = silence > FRESH_MS ? "bad" : "good";
    text($("state"), silence > FRESH_MS ? "the agent answers and counts nothing any more: its last report is old" : "live");
  } catch (error) {
    state.failures += 1;
    if (error.status === 401 && !state.declined) askToken(error.message);
    if (state.failures > 1 || error.status) {
      $("state").className = "bad";
      text($("state"), error.status ? error.message : "the agent does not answer; asking again");
    }
  } finally {
    state.busy = false;
  }
}

function press(group, name, after) {
  for (const button of document.querySelectorAll(`[data-${group}]`)) {
    button.addEventListener("click", () => {
      for (const other of document.querySelectorAll(`[data-${group}]`)) other.setAttribute("aria-pressed", String(other === button));
      state[name] = button.dataset[group];
      after();
    });
  }
}

document.addEventListener("DOMContentLoaded", () => {
  charts.pps = chart($("chart-pps"), count);
  charts.bps = chart($("chart-bps"), bits);
  const fromStart = () => { state.offset = 0; refresh(); };
  press("direction", "direction", fromStart);
  press("sort", "sort", fromStart);
  press("span", "span", () => { state.span = Number(state.span); refresh(); });
  $("within").addEventListener("input", () => { state.within = $("within").value.trim(); fromStart(); });
  $("back").onclick = () => { state.offset = Math.max(0, state.offset - PAGE); refresh(); };
  $("more").onclick = () => { state.offset += PAGE; refresh(); };
  $("whole").onclick = () => chooseNetwork(null);
  $("token-button").onclick = () => askToken("");
  $("token-dialog").addEventListener("close", tokenAnswered);
  $("host-close").onclick = () => $("host-dialog").close();
  $("host-dialog").addEventListener("close", () => { state.host = null; });
  $("host-ban").onclick = () => ban(state.host, $("host-answer"));
  $("host-unban").onclick = () => unban(state.host, $("host-answer"));
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input") || event.ctrlKey || event.altKey || event.metaKey) return;
    const short = { p: '[data-sort="packets"]', b: '[data-sort="bytes"]', i: '[data-direction="incoming"]', o: '[data-direction="outgoing"]' }[event.key];
    if (short) document.querySelector(short).click();
    if (event.key === "/") { event.preventDefault(); $("within").focus(); }
  });
  document.addEventListener("visibilitychange", refresh);
  refresh();
  setInterval(refresh, 1000);
});
