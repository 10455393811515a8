// Tools, and the questions that they need answered.

import { expect, test } from "./demo_test.ts";

test.beforeEach(async ({ demo }) => {
  await demo.open();
  await demo.connect();
});

test("a tool call is shown with its arguments, its result and the time it took", async ({ demo }) => {
  const turn = await demo.ask("Check order status for order_id=ORD-1001");
  await expect(turn.tool).toHaveCount(1);
  await expect(turn.tool).toHaveAttribute("data-state", "done");
  await expect(turn.tool.locator(".tool-state")).toHaveText(/^done in (\d|under)/);
  await expect(turn.tool.getByText('"order_id": "ORD-1001"').first()).toBeHidden();
  await turn.tool.locator("summary").click();
  await expect(turn.tool.locator("dt")).toHaveText(["Arguments", "Result"]);
  await expect(turn.tool.locator("dd").first()).toContainText('"order_id": "ORD-1001"');
  await expect(turn.tool.locator("dd").last()).toContainText("ORD-1001");
  await expect(turn.block.locator(".routed")).toContainText("fetch_order_status");
});

test("a follow-up question is answered by its form", async ({ demo }) => {
  const asking = await demo.ask("What is my account balance?");
  await expect(asking.followUp).toContainText("fetch_account_balance needs user_id");
  await expect(asking.tool).toHaveCount(0);
  expect(await asking.text()).not.toBe("");
  await asking.followUp.getByRole("textbox", { name: /user.id/i }).fill("user-1");
  await asking.followUp.getByRole("button", { name: "Answer" }).click();
  await expect(demo.turns).toHaveCount(2);
  await expect(demo.log.locator(".outcome")).toHaveCount(2);
  await expect(demo.turns.nth(1).locator(".tool-name")).toHaveText("fetch_account_balance");
  // What has been answered is asked no longer.
  await expect(asking.followUp.getByRole("button", { name: "Answer" })).toBeHidden();
});

test("a follow-up question is answered by an ordinary message", async ({ demo }) => {
  await demo.ask("What is my account balance?");
  const answered = await demo.ask("my user_id is user-1");
  await expect(answered.tool).toHaveAttribute("data-state", "done");
  await expect(answered.followUp).toHaveCount(0);
});
