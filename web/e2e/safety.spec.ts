// Text is text. Whoever wrote it, it is shown and never run.

import { expect, test } from "./demo_test.ts";

const HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script> [a](javascript:alert(3))';

test("markup in a message is shown as it was written", async ({ demo, page }) => {
  // Nothing in somebody's text may make the page fetch anything.
  const strays: string[] = [];
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (!pathname.startsWith("/demo/") && !pathname.startsWith("/v1/")) strays.push(request.url());
  });
  await demo.open();
  await demo.connect();
  const turn = await demo.ask(HOSTILE);
  await expect(turn.block.locator(".said .text")).toHaveText(HOSTILE);
  await expect(demo.log.locator("img, script, a, iframe")).toHaveCount(0);
  await expect(demo.events.locator("img, script, a, iframe")).toHaveCount(0);
  expect(strays).toEqual([]);
});

// Goal: the same for what the server says. Method: a server of our own making says it, in every
// place that the page shows.
test("markup from a model, a tool, a router or a summary is shown as it was written", async ({ demo, page }) => {
  const at = "2026-01-01T09:00:00Z";
  const event = (seq: number, type: string, rest: object) => ({ seq, type, occurred_at: at, turn_id: "turn-1", ...rest });
  await page.routeWebSocket(/\/ws\/session\//, (socket) => {
    const frames = [
      { seq: 1, type: "session_started", occurred_at: at, session_id: "s", user_id: "u", agent: HOSTILE, resumed: false, last_seq: 1 },
      event(2, "user_message", { text: HOSTILE }),
      { type: "start", role: "assistant", turn_id: "turn-1" },
      event(3, "routed", { route: HOSTILE, tool: HOSTILE }),
      event(4, "tool_call", { call_id: "call-1-1", name: HOSTILE, arguments: { [HOSTILE]: HOSTILE } }),
      event(5, "tool_result", { call_id: "call-1-1", name: HOSTILE, error: HOSTILE, duration_ms: 1 }),
      event(6, "follow_up", { tool: HOSTILE, missing: [HOSTILE], question: HOSTILE, schema: { properties: { [HOSTILE]: { title: HOSTILE, description: HOSTILE, enum: [HOSTILE] } } }, arguments: {} }),
      { type: "token", turn_id: "turn-1", index: 0, token: HOSTILE },
      { type: "error", code: HOSTILE, message: HOSTILE, retryable: true, turn_id: "turn-1" },
      event(7, "done", { text: HOSTILE, finish_reason: "error", error: HOSTILE, duration_ms: 1, model: HOSTILE }),
      { seq: 8, type: "session_ended", occurred_at: at, reason: HOSTILE },
      { seq: 9, type: "session_summarized", occurred_at: at, status: "done", summary: HOSTILE },
      { type: "error", code: HOSTILE, message: HOSTILE, retryable: false },
      { type: HOSTILE, text: HOSTILE },
    ];
    for (const frame of frames) socket.send(JSON.stringify(frame));
  });
  await demo.open();
  await demo.connect();
  await expect(demo.ending.locator(".summary")).toHaveText(HOSTILE);
  await expect(demo.turns.locator(".answer .text")).toHaveText(HOSTILE);
  await expect(demo.turns.locator(".tool-name")).toHaveText(HOSTILE);
  await expect(page.locator("#notice-text")).toContainText(HOSTILE);
  await expect(demo.log.locator("img, script, a, iframe")).toHaveCount(0);
  await expect(demo.events.locator("img, script, a, iframe")).toHaveCount(0);
});

test("the page is served with a policy that forbids what is inline", async ({ page }) => {
  const response = await page.goto("/demo/");
  const policy = response?.headers()["content-security-policy"] ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
});
