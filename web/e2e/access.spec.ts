// For those who use the keyboard, a screen reader, or a phone.

import { UNTIL_STOPPED } from "./demo_page.ts";
import { expect, test } from "./demo_test.ts";

// From opening the page to reading the summary, without ever touching a mouse.
test("a whole session needs only the keyboard", async ({ demo, page }) => {
  await demo.open();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the message box" })).toBeFocused();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Shift+Tab");
  await expect(demo.message).toBeFocused();
  await page.keyboard.type("Two lines:");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type(UNTIL_STOPPED);
  await page.keyboard.press("Enter");
  await expect(demo.stopButton).toBeVisible();
  await expect(demo.turns.locator(".said .text")).toHaveText(`Two lines:\n${UNTIL_STOPPED}`);
  await expect(demo.message).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(demo.turns.locator(".outcome")).toContainText("Stopped");
  await page.keyboard.type("Check order status for order_id=ORD-1001");
  await page.keyboard.press("Enter");
  await expect(demo.turns.locator(".outcome")).toHaveCount(2);
  const tool = demo.turns.nth(1).locator(".tool summary");
  await backTo(tool);
  await page.keyboard.press("Enter");
  await expect(demo.turns.nth(1).locator(".tool")).toHaveAttribute("open");
  await backTo(demo.disconnectButton);
  await page.keyboard.press("Enter");
  await expect(demo.connectButton).toBeFocused();
  await expect(demo.ending).toHaveAttribute("data-state", "summarized");

  /** Goes back through the page, element by element. */
  async function backTo(target: typeof tool) {
    await expect(async () => {
      await page.keyboard.press("Shift+Tab");
      await expect(target).toBeFocused({ timeout: 50 });
    }).toPass({ intervals: [0] });
  }
});

test("everything that can be operated has a name and shows the focus", async ({ demo, page }) => {
  await demo.open();
  await demo.connect();
  await demo.ask("What is my account balance?");
  const nameless = await page.locator("button, input, select, textarea, a[href], summary").evaluateAll((controls) =>
    (controls as HTMLElement[])
      .filter((control) => control.checkVisibility())
      .filter((control) => {
        const labels = "labels" in control ? [...(control.labels as NodeListOf<HTMLElement>)] : [];
        const texts = [control.getAttribute("aria-label"), control.textContent, ...labels.map((label) => label.textContent)];
        return !texts.some((text) => text?.trim());
      })
      .map((control) => control.outerHTML),
  );
  expect(nameless).toEqual([]);
  for (const role of ["log", "main", "complementary", "banner"] as const) {
    await expect(page.getByRole(role)).toHaveCount(1);
  }
  await page.keyboard.press("Shift+Tab");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement as Element).outlineStyle);
  expect(outline).not.toBe("none");
});

test("a finished answer is announced once, as a whole", async ({ demo, page }) => {
  await demo.open();
  await demo.connect();
  await expect(demo.log).toHaveAttribute("aria-live", "off");
  const turn = await demo.ask("mock:words=20 mock:delay_ms=5");
  await expect(page.locator("#announcement")).toHaveText(`Assistant: ${await turn.text()}`);
});

test("nothing moves for those who asked for stillness", async ({ demo, page }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await demo.open();
  await demo.connect();
  const turn = await demo.say(UNTIL_STOPPED);
  await expect.poll(() => turn.words()).toBeGreaterThan(3);
  const moving = await page.evaluate(() => document.getAnimations().length);
  expect(moving).toBe(0);
  await demo.stopButton.click();
});

test.describe("on a phone", () => {
  test.use({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });

  test("nothing is wider than the screen", async ({ demo, page }) => {
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    await demo.open();
    expect(await overflow()).toBe(0);
    await demo.connect();
    await demo.ask(`a very long word: ${"x".repeat(300)}`);
    const order = await demo.ask("Check order status for order_id=ORD-1001");
    await order.tool.locator("summary").click();
    await demo.ask("What is my account balance?");
    expect(await overflow()).toBe(0);
    await page.getByRole("button", { name: /^Connection:/ }).click();
    await expect(page.getByRole("textbox", { name: "Session id" })).toBeVisible();
    expect(await overflow()).toBe(0);
    await page.getByRole("button", { name: "Events", exact: true }).click();
    await expect(demo.events).toBeVisible();
    expect(await overflow()).toBe(0);
  });

  test("what can be touched is large enough for a finger", async ({ demo, page }) => {
    await demo.open();
    await demo.connect();
    const small = await page.getByRole("button").evaluateAll((buttons) =>
      buttons
        .filter((button) => (button as HTMLElement).checkVisibility())
        .map((button) => ({ name: button.textContent, height: button.getBoundingClientRect().height }))
        .filter(({ height }) => height < 32),
    );
    expect(small).toEqual([]);
  });
});
