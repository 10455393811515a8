// What every test has: the page, and an eye on what must never happen in any of them.

import { test as base, expect } from "@playwright/test";

import { DemoPage } from "./demo_page.ts";

export { expect };

type Fixtures = {
  demo: DemoPage;
  /** Faults of the page; a test in which there are any fails at its end. */
  faults: string[];
};

export const test = base.extend<Fixtures>({
  faults: [
    async ({ page }, use) => {
      const faults: string[] = [];
      page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
      page.on("console", (message) => {
        if (/content security policy/i.test(message.text())) faults.push(message.text());
      });
      // No test asks for one: a dialog means that somebody's text was run as a script.
      page.on("dialog", (dialog) => {
        faults.push(`dialog: ${dialog.message()}`);
        void dialog.dismiss();
      });
      await use(faults);
      expect(faults, "faults of the page").toEqual([]);
    },
    { auto: true },
  ],
  demo: async ({ page }, use) => {
    await use(new DemoPage(page));
  },
});
