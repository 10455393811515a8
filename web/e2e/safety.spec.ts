// Text is shown and never run, whether the user or the model wrote it.

import type { Page } from "@playwright/test";

import { expect, test } from "./demo_test.ts";
import { event, ScriptedServer, token, turnEvent } from "./scripted_server.ts";

const HOSTILE =
  '<img src=x onerror="alert(1)"><script>alert(2)</script> [a](javascript:alert(3)) ' +
  "![](http://canary.test/?said=secret) <a href=http://canary.test>http://canary.test</a>";

/** Collects what the page fetches besides what it is made of. Nothing in a text may make it do so. */
function strays(page: Page): string[] {
  const found: string[] = [];
  page.on("request", (request) => {
    const { hostname, pathname } = new URL(request.url());
    const isOurs = pathname.startsWith("/demo/") || pathname.startsWith("/v1/");
    if (!isOurs || hostname === "canary.test") found.push(request.url());
  });
  return found;
}

test("markup in a message is shown as it was written", async ({ demo, page }) => {
  const fetched = strays(page);
  await demo.open();
  await demo.connect();
  const turn = await demo.ask(HOSTILE);
  await expect(turn.block.locator(".said .text")).toHaveText(HOSTILE);
  await expect(demo.log.locator("img, script, a, iframe")).toHaveCount(0);
  await expect(demo.events.locator("img, script, a, iframe")).toHaveCount(0);
  expect(fetched).toEqual([]);
});

// Goal: the same for what the server says. Method: a server of our own making says it, in every
// place that the page shows.
test("markup from a model, a tool, a router or a summary is shown as it was written", async ({ demo, page }) => {
  const fetched = strays(page);
  const server = await ScriptedServer.start(page);
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet();
  const schema = { properties: { [HOSTILE]: { title: HOSTILE, description: HOSTILE, enum: [HOSTILE] } } };
  const call = { call_id: "call-1-1", name: HOSTILE };
  socket.send(
    turnEvent(3, "user_message", { text: HOSTILE }),
    turnEvent(4, "routed", { route: HOSTILE, tool: HOSTILE }),
    turnEvent(5, "tool_call", { ...call, arguments: { [HOSTILE]: HOSTILE } }),
    turnEvent(6, "tool_result", { ...call, error: HOSTILE, duration_ms: 1 }),
    turnEvent(7, "follow_up", { tool: HOSTILE, missing: [HOSTILE], question: HOSTILE, schema, arguments: {} }),
    token(0, HOSTILE),
    { type: "error", code: HOSTILE, message: HOSTILE, retryable: true, turn_id: "turn-1" },
    turnEvent(8, "done", { text: HOSTILE, finish_reason: "error", error: HOSTILE, duration_ms: 1, model: HOSTILE }),
    event(9, "session_ended", { reason: HOSTILE }),
    event(10, "session_summarized", { status: "done", summary: HOSTILE }),
    { type: "error", code: HOSTILE, message: HOSTILE, retryable: false },
    { type: HOSTILE, text: HOSTILE },
  );
  await expect(demo.ending.locator(".summary")).toHaveText(HOSTILE);
  await expect(demo.turns.locator(".answer .text")).toHaveText(HOSTILE);
  await expect(demo.turns.locator(".tool-name")).toHaveText(HOSTILE);
  await expect(page.locator("#notice-text")).toContainText(HOSTILE);
  await expect(demo.log.locator("img, script, a, iframe")).toHaveCount(0);
  // All of them but the token, which is not asked for.
  await expect(demo.events.locator("li")).toHaveCount(13);
  await expect(demo.events.locator("img, script, a, iframe")).toHaveCount(0);
  expect(fetched).toEqual([]);
});

test("the page is served with a policy that forbids what is inline", async ({ page }) => {
  const response = await page.goto("/demo/");
  const policy = response?.headers()["content-security-policy"] ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
});
