// The demo page as its tests see it: by roles and names, as people and screen readers do.

import { expect, type Locator, type Page } from "@playwright/test";

/** Asks the mock model for an answer that lasts longer than any test, so that it is the test which ends it. */
export const UNTIL_STOPPED = "mock:words=4000 mock:delay_ms=40";

export class DemoPage {
  readonly status: Locator;
  readonly connectButton: Locator;
  readonly disconnectButton: Locator;
  readonly message: Locator;
  readonly stopButton: Locator;
  readonly log: Locator;
  readonly turns: Locator;
  readonly waiting: Locator;
  readonly ending: Locator;
  readonly events: Locator;

  constructor(readonly page: Page) {
    this.status = page.locator("#status-words");
    this.connectButton = page.getByRole("button", { name: "Connect", exact: true });
    this.disconnectButton = page.getByRole("button", { name: "Disconnect" });
    this.message = page.getByRole("textbox", { name: "Message" });
    this.stopButton = page.getByRole("button", { name: "Stop" });
    this.log = page.getByRole("log", { name: "Messages" });
    this.turns = this.log.locator(".turn");
    this.waiting = this.log.locator('.said[data-state="queued"]');
    this.ending = page.getByRole("region", { name: "Session summary" });
    this.events = page.getByRole("complementary", { name: "Events" });
  }

  /** Opens the page of the server under test, or of whatever stands in front of it. */
  async open(base = "") {
    await this.page.goto(`${base}/demo/`);
  }

  async connect() {
    await this.connectButton.click();
    await expect(this.status).toHaveText("Connected");
  }

  /** Says something and returns the turn that answers it, which may still be running. */
  async say(text: string): Promise<Turn> {
    const before = await this.turns.count();
    await this.message.fill(text);
    await this.message.press("Enter");
    await expect(this.turns).toHaveCount(before + 1);
    return new Turn(this.turns.nth(before));
  }

  /** Says something and waits until it is answered. */
  async ask(text: string): Promise<Turn> {
    const turn = await this.say(text);
    await turn.isOver();
    return turn;
  }

  /** The frames of one type in the event panel, as they came from the server. */
  async frames(type: string): Promise<Record<string, unknown>[]> {
    const rows = this.events.locator(`[data-type="${type}"] pre`);
    const summaries = this.events.locator(`[data-type="${type}"] summary`);
    for (const summary of await summaries.all()) {
      // A row holds its whole frame once it has been looked into.
      await summary.click();
    }
    await expect(rows.filter({ hasText: /^$/ })).toHaveCount(0);
    return (await rows.allTextContents()).map((text) => JSON.parse(text));
  }

  /** The numbers of all events that the panel has shown, in its order. */
  async seqs(): Promise<number[]> {
    const rows = this.events.locator('[data-seq]:not([data-seq=""])');
    return rows.evaluateAll((all) => all.map((row) => Number((row as HTMLElement).dataset.seq)));
  }
}

/** One turn on the page. */
export class Turn {
  readonly answer: Locator;
  readonly outcome: Locator;
  readonly tool: Locator;
  readonly followUp: Locator;

  constructor(readonly block: Locator) {
    this.answer = block.locator(".answer .text");
    this.outcome = block.locator(".outcome");
    this.tool = block.locator("details.tool");
    this.followUp = block.getByRole("group", { name: "Follow-up question" });
  }

  async isOver() {
    await expect(this.outcome).toBeVisible();
  }

  async text(): Promise<string> {
    return (await this.answer.textContent()) ?? "";
  }

  /** How many words of the answer there are. */
  async words(): Promise<number> {
    return (await this.text()).split(/\s+/).filter(Boolean).length;
  }
}
