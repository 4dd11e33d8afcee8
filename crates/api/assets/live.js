// Keeps the balances of a page as they are. Without it the page shows what they were when it was asked for.
(() => {
  "use strict";
  const page = document.querySelector("[data-live]");
  if (!page || !("EventSource" in window)) return;
  const number = new Intl.NumberFormat("en-US");
  const put = (selector, text) => {
    const place = page.querySelector(selector);
    if (place && place.textContent !== text) place.textContent = text;
  };
  const show = (event) => {
    const { sequence, balance_after: { available, held } } = JSON.parse(event.data);
    for (const [type, amount] of Object.entries(available)) {
      put(`[data-available=${type}]`, number.format(amount));
    }
    for (const [type, amount] of Object.entries(held)) {
      put(`[data-held=${type}]`, amount > 0 ? `${number.format(amount)} held` : "nothing held");
    }
    put("[data-sequence]", number.format(sequence));
    put("[data-asof]", "now");
  };
  const source = new EventSource(page.dataset.live);
  source.addEventListener("balance", show);
  source.addEventListener("movement", show);
  // A page that is left keeps no connection, and one that is come back to has a new one.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
