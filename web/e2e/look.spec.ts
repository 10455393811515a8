// How it looks: pictures for people, kept in `artifacts/`; and what of it can be measured.

import { expect, test } from "./demo_test.ts";
import type { DemoPage } from "./demo_page.ts";

async function showcase(demo: DemoPage) {
  await demo.open();
  await demo.connect();
  const order = await demo.ask("Check order status for order_id=ORD-1001");
  await order.tool.locator("summary").click();
  await demo.ask("What is my account balance?");
  await expect(demo.page.getByRole("button", { name: "Latest" })).toBeHidden();
}

/** The contrast of an element's text with its ground, as WCAG 2 counts it. */
function contrast(element: Element): number {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("no canvas");
  const luminance = (color: string) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...context.getImageData(0, 0, 1, 1).data].map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  let ground: Element | null = element;
  while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
  const text = luminance(getComputedStyle(element).color);
  const behind = luminance(getComputedStyle(ground ?? document.body).backgroundColor);
  return (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
}

/** What is read, on every ground that there is. */
const READ = [
  ".said .text",
  ".answer .text",
  ".outcome",
  ".routed",
  ".tool-name",
  ".tool-state",
  ".tool-facts pre",
  ".follow-up strong",
  ".chip",
  ".event-type",
  ".event-brief",
  ".event-count",
  "#status-words",
  "#send",
  ".field label",
];

for (const scheme of ["light", "dark"] as const) {
  test(`in the ${scheme} theme everything can be read`, async ({ demo, page }) => {
    await page.emulateMedia({ colorScheme: scheme });
    await showcase(demo);
    await page.screenshot({ path: `artifacts/demo-${scheme}.png` });
    const faint: string[] = [];
    for (const selector of READ) {
      const ratio = await page.locator(selector).first().evaluate(contrast);
      if (ratio < 4.5) faint.push(`${selector}: ${ratio.toFixed(2)}`);
    }
    expect(faint).toEqual([]);
  });
}

test("the theme can be chosen, and the choice is kept", async ({ demo, page }) => {
  await page.emulateMedia({ colorScheme: "light" });
  await demo.open();
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await page.getByRole("button", { name: "Use the dark theme" }).click();
  const dark = await paper();
  expect(dark).not.toBe(light);
  await page.reload();
  expect(await paper()).toBe(dark);
  await page.getByRole("button", { name: "Use the light theme" }).click();
  expect(await paper()).toBe(light);
});

test.describe("on a phone", () => {
  test.use({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });

  test("the conversation has the screen", async ({ demo, page }) => {
    await showcase(demo);
    await page.screenshot({ path: "artifacts/demo-phone.png" });
    await expect(demo.events).toBeHidden();
    const share = await demo.log.evaluate((log) => log.clientHeight / window.innerHeight);
    expect(share).toBeGreaterThan(0.6);
  });
});
