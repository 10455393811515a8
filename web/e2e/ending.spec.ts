// The end of a session, and what is left of it.

import { expect, test } from "./demo_test.ts";

test.beforeEach(async ({ demo }) => {
  await demo.open();
  await demo.connect();
  await demo.ask("Check order status for order_id=ORD-1001");
});

test("disconnecting brings the session's summary", async ({ demo }) => {
  await demo.disconnectButton.click();
  await expect(demo.ending).toHaveAttribute("data-state", "summarized");
  await expect(demo.ending.getByRole("heading")).toHaveText("Session ended");
  await expect(demo.ending.locator(".ending-why")).toHaveText(/^You disconnected · it lasted \d/);
  await expect(demo.ending.locator(".summary")).not.toBeEmpty();
});

test("a session that has ended goes on where it stopped", async ({ demo }) => {
  await demo.disconnectButton.click();
  await expect(demo.ending).toHaveAttribute("data-state", "summarized");
  await demo.connect();
  await expect(demo.log.getByText("The session goes on")).toBeVisible();
  await demo.ask("What can you do?");
  await expect(demo.turns).toHaveCount(2);
  await expect(demo.ending).toHaveCount(1);
  const seqs = await demo.seqs();
  expect(seqs).toEqual(seqs.map((_, index) => index + 1));
});

test("a new session begins with an empty page", async ({ demo }) => {
  await demo.disconnectButton.click();
  await expect(demo.ending).toHaveAttribute("data-state", "summarized");
  await demo.ending.getByRole("button", { name: "New session" }).click();
  await expect(demo.status).toHaveText("Connected");
  await expect(demo.turns).toHaveCount(0);
  await expect(demo.log.getByRole("heading", { name: "Say something." })).toBeVisible();
});
