// Answers that form under the reader's eyes.

import { UNTIL_STOPPED } from "./demo_page.ts";
import { expect, test } from "./demo_test.ts";

test.beforeEach(async ({ demo }) => {
  await demo.open();
  await demo.connect();
});

// Goal: tokens appear as they come, and not all at the end. Method: each look finds more of the same
// text while the turn is running.
test("an answer grows word by word", async ({ demo }) => {
  const turn = await demo.say(UNTIL_STOPPED);
  const looks: string[] = [];
  for (const atLeast of [5, 15, 25]) {
    await expect.poll(() => turn.words()).toBeGreaterThanOrEqual(atLeast);
    looks.push(await turn.text());
  }
  await expect(turn.outcome).toBeHidden();
  await expect(demo.stopButton).toBeVisible();
  expect(looks[1]).toContain(looks[0].trimEnd());
  expect(looks[2]).toContain(looks[1].trimEnd());
  await demo.stopButton.click();
});

test("stop ends the answer where it is", async ({ demo }) => {
  const turn = await demo.say(UNTIL_STOPPED);
  await expect.poll(() => turn.words()).toBeGreaterThan(3);
  await demo.stopButton.click();
  await turn.isOver();
  await expect(turn.outcome).toContainText("Stopped");
  await expect(demo.stopButton).toBeHidden();
  await expect(demo.message).toBeFocused();
  expect(await turn.words()).toBeLessThan(4000);
  const [done] = await demo.frames("done");
  expect(done).toMatchObject({ finish_reason: "cancelled", text: await turn.text() });
});

test("what is shown in the end is what the log says", async ({ demo }) => {
  const turn = await demo.ask("mock:words=60 mock:delay_ms=2");
  const [done] = await demo.frames("done");
  expect(await turn.text()).toBe(done.text);
});

test("a message that is sent during an answer waits, and is answered after it", async ({ demo }) => {
  const first = await demo.say(UNTIL_STOPPED);
  await demo.message.fill("What can you do?");
  await demo.message.press("Enter");
  await expect(demo.waiting).toHaveText(/What can you do\?\s*Waiting/);
  await expect(demo.turns).toHaveCount(1);
  await demo.stopButton.click();
  await first.isOver();
  await expect(demo.turns).toHaveCount(2);
  await expect(demo.waiting).toHaveCount(0);
  await expect(demo.log.locator(".outcome")).toHaveCount(2);
  await expect(demo.turns.nth(1).locator(".said")).toHaveText(/What can you do\?$/);
});

// Goal: only the next message can be sent now, and that stops the running answer and no other.
test("a message that waits can be sent now", async ({ demo, page }) => {
  const first = await demo.say(UNTIL_STOPPED);
  for (const text of ["What can you do?", "mock:words=3"]) {
    await demo.message.fill(text);
    await demo.message.press("Enter");
  }
  await expect(demo.waiting).toHaveCount(2);
  const now = page.getByRole("button", { name: "Send now" });
  await expect(now).toHaveCount(1);
  await expect(demo.waiting.first().getByRole("button")).toBeVisible();
  await page.screenshot({ path: "artifacts/waiting.png" });
  await now.click();
  await expect(demo.message).toBeFocused();
  await expect(first.outcome).toContainText("Stopped");
  await expect(demo.log.locator(".outcome")).toHaveCount(3);
  await expect(demo.waiting).toHaveCount(0);
  await expect(demo.log.getByText("Stopped")).toHaveCount(1);
  await expect(demo.turns.nth(1).locator(".said")).toContainText("What can you do?");
  await expect(demo.turns.nth(2).locator(".said")).toContainText("mock:words=3");
});

// A user who reads further up must not lose the place when something is added below.
test("news does not move a reader who has scrolled up", async ({ demo, page }) => {
  await demo.ask("mock:words=900 mock:delay_ms=0");
  const turn = await demo.say(UNTIL_STOPPED);
  await expect.poll(() => turn.words()).toBeGreaterThan(3);
  await demo.log.hover();
  await page.mouse.wheel(0, -600);
  const back = page.getByRole("button", { name: "Latest" });
  await expect(back).toBeVisible();
  const place = await demo.log.evaluate((log) => log.scrollTop);
  const seen = await turn.words();
  await expect.poll(() => turn.words()).toBeGreaterThan(seen + 30);
  expect(await demo.log.evaluate((log) => log.scrollTop)).toBe(place);
  await back.click();
  await expect(back).toBeHidden();
  const distance = () => demo.log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
  await expect.poll(distance).toBeLessThan(2);
  await demo.stopButton.click();
});

test("the event panel has every event once, and tokens only if asked", async ({ demo, page }) => {
  await demo.ask("What can you do?");
  const tokens = demo.events.locator('[data-type="token"]');
  await expect(tokens).toHaveCount(0);
  const seqs = await demo.seqs();
  expect(seqs).toEqual(seqs.map((_, index) => index + 1));
  await page.getByRole("checkbox", { name: "Tokens and pings" }).check();
  await demo.ask("What can you do?");
  await expect(tokens.first()).toBeVisible();
});
