// A server that wants to know who talks: the page asks for a token when the server does.

import { createHmac } from "node:crypto";

import { expect, test } from "./demo_test.ts";
import type { DemoPage } from "./demo_page.ts";

const base = process.env.DUOLOGUE_SIGNED_IN_URL;
if (!base) throw new Error("DUOLOGUE_SIGNED_IN_URL is not set; run `cargo xtask e2e`");

/** As `xtask/src/browser.rs` tells the server. */
const SECRET = "the browser tests' own secret, known to all";

function token(user: string, seconds = 600): string {
  const part = (json: object) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const claims = { iss: "https://issuer.test", aud: "demo", sub: user, exp };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

function field(demo: DemoPage) {
  return demo.page.getByLabel("Token", { exact: true });
}

/** Connects without a token, which is answered by the wish for one. */
async function knock(demo: DemoPage) {
  await demo.open(base);
  await expect(field(demo)).toBeHidden();
  await demo.connectButton.click();
  await expect(field(demo)).toBeFocused();
}

test("a token is asked for, and then the user is who it says", async ({ demo }) => {
  await knock(demo);
  await expect(demo.status).toHaveText("Disconnected");
  await expect(field(demo)).toHaveAccessibleDescription("The server wants a token.");
  await field(demo).fill(token("user-2"));
  // By keyboard alone.
  await field(demo).press("Enter");
  await expect(demo.status).toHaveText("Connected");
  const turn = await demo.ask("What is the balance of user-1?");
  expect(await turn.text()).toContain("87.2");
  await demo.disconnectButton.click();
  await expect(demo.ending).toContainText("Session ended");
});

test("a wrong token is refused in words, and a better one may follow", async ({ demo }) => {
  await knock(demo);
  for (const [wrong, why] of [
    ["wrong", "the token is not valid here"],
    [token("user-1", -600), "the token has expired; send a new one"],
  ]) {
    await field(demo).fill(wrong);
    await field(demo).press("Enter");
    await expect(field(demo)).toHaveAccessibleDescription(`Refused: ${why}.`);
    await expect(field(demo)).toBeFocused();
  }
  await field(demo).fill(token("user-1"));
  await field(demo).press("Enter");
  await expect(demo.status).toHaveText("Connected");
});

// What was said stays on the page, and the session goes on where it was.
test("a token that expires is asked for again, and the conversation goes on", async ({ demo }) => {
  await knock(demo);
  // Past its end, but within the leeway of 25 seconds, of which ten are left.
  await field(demo).fill(token("user-1", -15));
  await field(demo).press("Enter");
  await expect(demo.status).toHaveText("Connected");
  const turn = await demo.say("What can you do?");
  await expect(field(demo)).toHaveAccessibleDescription("The token has expired.", { timeout: 15_000 });
  await field(demo).fill(token("user-1"));
  await field(demo).press("Enter");
  await expect(demo.status).toHaveText("Connected");
  await expect(demo.turns).toHaveCount(1);
  await turn.isOver();
  await demo.ask("And now?");
  await expect(demo.turns).toHaveCount(2);
});

test("a token is nowhere that outlives the page", async ({ demo, page }) => {
  await knock(demo);
  const secret = token("user-1");
  await field(demo).fill(secret);
  await field(demo).press("Enter");
  await expect(demo.status).toHaveText("Connected");
  const kept = await page.evaluate(() => JSON.stringify({ ...sessionStorage, ...localStorage }) + location.href);
  expect(kept).not.toContain(secret);
  await page.reload();
  await expect(field(demo)).toBeHidden();
});

for (const scheme of ["light", "dark"] as const) {
  test(`the field fits on a phone, ${scheme}`, async ({ demo, page }) => {
    await page.setViewportSize({ width: 390, height: 780 });
    await page.emulateMedia({ colorScheme: scheme });
    await knock(demo);
    await expect(field(demo)).toBeInViewport();
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(width).toBeLessThanOrEqual(390);
    await page.screenshot({ path: `artifacts/token-${scheme}.png` });
  });
}
