// Keeps the site for a time without a network. VERSION and FILES stand above, put there by build.mjs.
const NAME = `thimble-${VERSION}`;

self.addEventListener("install", (event) => {
  const load = async () => (await caches.open(NAME)).addAll(["./", ...FILES]);
  event.waitUntil(load().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const clean = async () => {
    for (const name of await caches.keys()) if (name.startsWith("thimble-") && name !== NAME) await caches.delete(name);
    await self.clients.claim();
  };
  event.waitUntil(clean());
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  event.respondWith((async () => (await (await caches.open(NAME)).match(event.request)) ?? fetch(event.request))());
});
