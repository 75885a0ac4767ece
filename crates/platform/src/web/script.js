// Keeps a page as it is on the platform, and copies texts. Without it the page is complete, as it
// was when it was loaded.
"use strict";

// Time after which the stream of changes is asked for again where the platform refused it.
const RETRY_MS = 10000;

for (const button of document.querySelectorAll("[data-copy]")) {
  const text = button.parentElement.querySelector("code").textContent;
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    announce("Copied");
  });
}

function announce(text) {
  const place = document.getElementById("announcements");
  if (place) place.textContent = text;
}

const regions = () => document.querySelectorAll("[data-live]");

// What is said of each thing on the page.
function states() {
  const found = new Map();
  for (const row of document.querySelectorAll("[data-live] [data-key]")) {
    found.set(row.dataset.key, row.dataset.state);
  }
  return found;
}

function announceChanges(before) {
  const changes = [];
  for (const [key, state] of states()) {
    if (state && before.get(key) !== state) changes.push(`${key} is ${state}`);
  }
  if (changes.length > 0) announce(changes.slice(0, 5).join("; "));
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.dataset.key : undefined);
const isAlike = (one, other) => one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

// Makes `from` like `to`. Elements stay the same ones, so that focus, selection and what a person
// has opened stay too.
function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  const isKept = (name) => name === "open" && from.nodeName === "DETAILS";
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !isKept(name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  let next = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    let found = next;
    while (found && !isAlike(found, wanted)) found = found.nextSibling;
    if (!found) {
      from.insertBefore(wanted, next);
      continue;
    }
    // Rows that are gone are removed rather than the others moved: a moved one would lose the focus.
    while (next !== found && !isWantedLater(next, wanted)) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
    if (next !== found) from.insertBefore(found, next);
    else next = found.nextSibling;
    morph(found, wanted);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function isWantedLater(node, wanted) {
  for (let later = wanted.nextSibling; later; later = later.nextSibling) {
    if (isAlike(node, later)) return true;
  }
  return false;
}

let isRefreshing = false;
let isRefreshDue = false;

// Fetches this page again, and takes over the regions that change.
async function refresh() {
  if (isRefreshing) {
    isRefreshDue = true;
    return;
  }
  isRefreshing = true;
  try {
    do {
      isRefreshDue = false;
      const options = { headers: { "x-live-update": "1" }, cache: "no-store" };
      const answer = await fetch(document.body.dataset.page ?? location.href, options);
      if (answer.redirected) {
        // The session has ended.
        location.reload();
        return;
      }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const before = states();
      for (const region of regions()) {
        const wanted = page.getElementById(region.id);
        if (wanted) morph(region, wanted);
      }
      announceChanges(before);
    } while (isRefreshDue);
  } catch {
    // The platform is away; the stream says when it is back.
  } finally {
    isRefreshing = false;
  }
}

let stream;
let retry;

function showWhetherLive(isLive) {
  const place = document.getElementById("live");
  if (!place) return;
  place.hidden = false;
  place.dataset.stream = isLive ? "on" : "off";
  place.textContent = isLive ? "Live" : "Not live: no connection";
}

function listen() {
  clearTimeout(retry);
  stream = new EventSource("/events");
  stream.addEventListener("open", () => {
    showWhetherLive(true);
    refresh();
  });
  stream.addEventListener("changed", refresh);
  stream.addEventListener("error", () => {
    showWhetherLive(false);
    if (stream.readyState === EventSource.CLOSED) {
      retry = setTimeout(listen, RETRY_MS);
      refresh();
    }
  });
}

// A page that no one sees costs the platform nothing.
function listenWhileVisible() {
  if (document.hidden) {
    clearTimeout(retry);
    stream?.close();
    stream = undefined;
  } else if (!stream) {
    listen();
  }
}

if (regions().length > 0) {
  document.addEventListener("visibilitychange", listenWhileVisible);
  window.addEventListener("pagehide", () => stream?.close());
  listenWhileVisible();
}
