// Coming and going.

import { expect, test } from "./demo_test.ts";

test("the page says how it stands with the connection", async ({ demo }) => {
  await demo.open();
  await expect(demo.status).toHaveText("Not connected");
  await demo.connect();
  await expect(demo.connectButton).toBeHidden();
  await expect(demo.message).toBeFocused();
  await demo.disconnectButton.click();
  await expect(demo.status).toHaveText("Disconnected");
  await expect(demo.connectButton).toBeFocused();
});

test("a message connects by itself when there is no connection", async ({ demo }) => {
  await demo.open();
  await demo.page.getByRole("button", { name: "Check order status for order_id=ORD-1001" }).click();
  await expect(demo.status).toHaveText("Connected");
  await expect(demo.turns).toHaveCount(1);
  await expect(demo.turns.first().locator(".said")).toContainText("order_id=ORD-1001");
});

// The fields can be changed only while there is no connection, so they always tell what is.
test("each new session has an id of its own, which is fixed while connected", async ({ demo, page }) => {
  await demo.open();
  const session = page.getByRole("textbox", { name: "Session id" });
  const first = await session.inputValue();
  expect(first).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  await page.getByRole("button", { name: "New session id" }).click();
  await expect(session).not.toHaveValue(first);
  await demo.connect();
  await expect(session).toHaveJSProperty("readOnly", true);
  await expect(page.getByRole("button", { name: "New session id" })).toBeDisabled();
});

test("a reloaded page finds its session again, with all that was said", async ({ demo, page }) => {
  await demo.open();
  await demo.connect();
  const turn = await demo.ask("What can you do?");
  const answer = await turn.text();
  await page.reload();
  await demo.connect();
  await expect(demo.turns).toHaveCount(1);
  await expect(demo.turns.first().locator(".answer .text")).toHaveText(answer);
});

test("what cannot be a session id is refused beside its field", async ({ demo, page }) => {
  await demo.open();
  const session = page.getByRole("textbox", { name: "Session id" });
  await session.fill("not an id");
  await demo.connectButton.click();
  await expect(session).toBeFocused();
  await expect(session).toHaveAccessibleDescription(/1 to 128/);
  await expect(demo.status).toHaveText("Not connected");
});

// Browsers hide the handshake's status; the page has to find out by itself that it is final.
test("another user's session is refused in words, and not tried again", async ({ demo, page, context }) => {
  await demo.open();
  await demo.connect();
  const session = await page.getByRole("textbox", { name: "Session id" }).inputValue();
  const other = await context.newPage();
  await other.goto(`/demo/?session=${session}&user=user-2`);
  await other.getByRole("button", { name: "Connect", exact: true }).click();
  await expect(other.locator("#status-detail")).toContainText("Refused");
  await expect(other.locator("#status-words")).toHaveText("Disconnected");
});

test("the root tells browsers where everything is", async ({ page, baseURL }) => {
  await page.goto("/");
  const socket = page.locator("#socket-url");
  await expect(socket).toContainText(`${baseURL?.replace("http", "ws")}/ws/session/`);
  await page.getByRole("link", { name: "Open the demo" }).click();
  await expect(page).toHaveURL(/\/demo\/$/);
});

// Goal: a browser learns that a message was too big, and does not see a lost connection. Method: a socket
// of the page's own sends far more than the server accepts.
test("a message far above the limit closes with 1009", async ({ demo, page }) => {
  await demo.open();
  const codes = await page.evaluate(async () => {
    const attempt = (number: number) =>
      new Promise<number>((resolve) => {
        const address = `${location.origin.replace("http", "ws")}/ws/session/large-${number}-${Date.now()}`;
        const socket = new WebSocket(`${address}?user_id=large`);
        socket.addEventListener("open", () => socket.send("x".repeat(8 * 1024 * 1024)));
        socket.addEventListener("close", ({ code }) => resolve(code));
      });
    return [await attempt(1), await attempt(2), await attempt(3)];
  });
  expect(codes).toEqual([1009, 1009, 1009]);
});
