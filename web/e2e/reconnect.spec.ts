// Connections that break. The page comes through a proxy that can be cut, so that its own origin is
// the one it talks to.

import { CutProxy } from "./cut_proxy.ts";
import { DemoPage, UNTIL_STOPPED } from "./demo_page.ts";
import { expect, test as base } from "./demo_test.ts";

const test = base.extend<{ wire: CutProxy }>({
  wire: async ({ baseURL }, use) => {
    const proxy = await CutProxy.start(String(baseURL));
    await use(proxy);
    await proxy.stop();
  },
});

test.beforeEach(async ({ demo, wire }) => {
  await demo.open(wire.url);
  await demo.connect();
});

// Goal: a cut loses and repeats nothing. Method: the answer is cut in its middle; from then on each
// text that is shown must be the beginning of what the log has in the end.
test("an answer that is cut in its middle comes back whole, each word once", async ({ demo, wire, page }) => {
  const turn = await demo.say(UNTIL_STOPPED);
  await expect.poll(() => turn.words()).toBeGreaterThan(10);
  await page.evaluate(() => {
    const answer = document.querySelector(".turn:last-child .answer .text");
    const looks: string[] = [];
    new MutationObserver(() => looks.push(answer?.textContent ?? "")).observe(answer as Node, {
      characterData: true,
      childList: true,
      subtree: true,
    });
    Object.assign(window, { looks });
  });
  wire.cut();
  await expect(demo.status).toHaveText("Reconnecting…");
  await expect(demo.stopButton).toBeHidden();
  const seen = await turn.words();
  wire.restore();
  await expect(demo.status).toHaveText("Connected");
  await expect.poll(() => turn.words()).toBeGreaterThan(seen + 10);
  const shown = () => page.evaluate(() => (window as unknown as { looks: string[] }).looks);
  // It came back while the answer was forming, or this would prove little.
  await expect.poll(async () => (await shown()).length).toBeGreaterThan(3);
  await demo.stopButton.click();
  await turn.isOver();
  const [done] = await demo.frames("done");
  const whole = String(done.text);
  expect(await turn.text()).toBe(whole);
  const looks = await shown();
  expect(looks.filter((look) => !whole.startsWith(look))).toEqual([]);
  const seqs = await demo.seqs();
  expect(seqs).toEqual(seqs.map((_, index) => index + 1));
});

// A second reader, past the proxy, stops the answer and sees that it is finished.
test("an answer that is finished while the page is away is there afterwards", async ({ demo, wire, context }) => {
  const turn = await demo.say(UNTIL_STOPPED);
  await expect.poll(() => turn.words()).toBeGreaterThan(2);
  const session = await demo.page.getByRole("textbox", { name: "Session id" }).inputValue();
  wire.cut();
  await expect(demo.status).toHaveText("Reconnecting…");
  const witness = new DemoPage(await context.newPage());
  await witness.page.goto(`/demo/?session=${session}`);
  await witness.connect();
  await witness.stopButton.click();
  await expect(witness.turns.locator(".outcome")).toBeVisible();
  await expect(turn.outcome).toBeHidden();
  wire.restore();
  await turn.isOver();
  expect(await turn.text()).toBe(await witness.turns.locator(".answer .text").textContent());
});

// The page cannot know whether the server has stored a message that it sent as the connection broke.
// So it sends it again under the same id, and the server answers it once.
test("a message that is written while the connection is down is answered once", async ({ demo, wire }) => {
  wire.cut();
  await expect(demo.status).toHaveText("Reconnecting…");
  await demo.message.fill("What can you do?");
  await demo.message.press("Enter");
  await expect(demo.log.getByText("Sending…")).toBeVisible();
  wire.restore();
  await expect(demo.status).toHaveText("Connected");
  await expect(demo.log.locator(".outcome")).toHaveCount(1);
  await expect(demo.log.getByText("Sending…")).toBeHidden();
  expect(await demo.frames("user_message")).toHaveLength(1);
});

test("the page says what becomes of a session that is left while the connection is down", async ({ demo, wire }) => {
  wire.cut();
  await expect(demo.status).toHaveText("Reconnecting…");
  await demo.disconnectButton.click();
  await expect(demo.status).toHaveText("Disconnected");
  await expect(demo.page.locator("#status-detail")).toContainText("ends the session by itself");
});
