// What `docs/protocol.md` asks of a client, against a server that tests it.

import { expect, test as base } from "./demo_test.ts";
import { done, event, ScriptedServer, token, turnEvent } from "./scripted_server.ts";

const test = base.extend<{ server: ScriptedServer }>({
  server: async ({ page }, use) => {
    await use(await ScriptedServer.start(page));
  },
});

for (const code of [1000, 1002, 1007, 1009]) {
  test(`after close code ${code} the page does not come back by itself`, async ({ demo, server, page }) => {
    await page.clock.install();
    await demo.open();
    await demo.connectButton.click();
    const socket = await server.socket(1);
    socket.greet();
    await expect(demo.status).toHaveText("Connected");
    await socket.close(code);
    await expect(demo.status).toHaveText("Disconnected");
    await page.clock.runFor("02:00");
    expect(server.sockets).toHaveLength(1);
  });
}

for (const code of [1001, 1006, 1011, 1012, 1013, 4007, 4008, 4009, 4999]) {
  test(`after close code ${code} the page comes back and asks for what it has not seen`, async ({ demo, server }) => {
    await demo.open();
    await demo.connectButton.click();
    const first = await server.socket(1);
    expect(first.url.searchParams.get("after")).toBe("0");
    expect(first.url.searchParams.get("frames")).toBe("json");
    first.greet();
    await expect(demo.status).toHaveText("Connected");
    await first.close(code);
    const second = await server.socket(2);
    expect(second.url.searchParams.get("after")).toBe("2");
    second.resume(3, event(3, "client_connected", { connection: 2 }));
    await expect(demo.status).toHaveText("Connected");
  });
}

test("a page that was asked to wait waits, but not without limit", async ({ demo, server, page }) => {
  await page.clock.install();
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet();
  socket.send({ type: "goaway", reason: "restart", reconnect_after_ms: 60_000 });
  await expect(page.locator("#notice-text")).toContainText("restarting");
  await socket.close(1012);
  await expect(demo.status).toHaveText("Reconnecting…");
  await page.clock.runFor(59_000);
  expect(server.sockets).toHaveLength(1);
  await page.clock.runFor(62_000);
  await server.socket(2);
});

test("a connection that has reached its age is not shown as a restart", async ({ demo, server, page }) => {
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet();
  socket.send({ type: "goaway", reason: "age", reconnect_after_ms: 0 });
  await expect(page.locator("#notice-text")).toContainText("maximum age");
  await socket.close(4006);
  await server.socket(2);
});

// Browsers do not notice when the network falls silent, for example behind a router that was
// unplugged; the page has to ask.
test("a server that has gone silent is left, and tried again", async ({ demo, server, page }) => {
  await page.clock.install();
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet();
  await expect(demo.status).toHaveText("Connected");
  await page.clock.runFor(21_000);
  await expect.poll(() => socket.received).toContainEqual({ type: "ping" });
  socket.send({ type: "pong" });
  await page.clock.runFor(20_000);
  await expect(demo.status).toHaveText("Connected");
  await page.clock.runFor(20_000);
  await expect(demo.status).toHaveText("Reconnecting…");
});

test("what is received twice is shown once", async ({ demo, server }) => {
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet();
  const heard = turnEvent(3, "user_message", { text: "Hello" });
  const called = turnEvent(4, "tool_call", { call_id: "call-1-1", name: "look", arguments: {} });
  socket.send(heard, heard, called, called, token(0, "one "), token(0, "one "), token(1, "two "));
  const draft = { type: "draft", turn_id: "turn-1", text: "one two ", next_index: 2 };
  socket.send(draft, draft, token(1, "two "), token(2, "three"));
  const turn = demo.turns;
  await expect(turn.locator(".answer .text")).toHaveText("one two three");
  socket.send(done(5, "one two three"), done(5, "never"));
  await expect(turn.locator(".outcome")).toHaveCount(1);
  await expect(turn.locator(".answer .text")).toHaveText("one two three");
  await expect(turn.locator(".said")).toHaveCount(1);
  await expect(turn.locator(".tool")).toHaveCount(1);
});

test("behind a gap in the tokens the page waits for the whole", async ({ demo, server }) => {
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet();
  socket.send(turnEvent(3, "user_message", { text: "Hello" }), token(0, "one "), token(2, "three "));
  const answer = demo.turns.locator(".answer .text");
  await expect(answer).toHaveText("one ");
  socket.send(done(4, "one two three"));
  await expect(answer).toHaveText("one two three");
});

test("frames that the page does not know change nothing but the panel", async ({ demo, server }) => {
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet();
  socket.send({ type: "weather", turn_id: "turn-9", sun: true }, event(3, "moon_rose"));
  socket.route.send("no JSON");
  socket.route.send("[1]");
  await expect(demo.events.locator('[data-type="moon_rose"]')).toHaveCount(1);
  await expect(demo.events.locator('[data-type="unreadable"]')).toHaveCount(2);
  await expect(demo.turns).toHaveCount(0);
  await expect(demo.status).toHaveText("Connected");
});

// The receipt was lost with the connection. The server knows the message by its id.
test("a message without a receipt is sent again under its id", async ({ demo, server }) => {
  await demo.open();
  await demo.connectButton.click();
  const first = await server.socket(1);
  first.greet();
  await demo.message.fill("Hello");
  await demo.message.press("Enter");
  await expect.poll(() => first.messages()).toHaveLength(1);
  const [sent] = first.messages();
  await first.close(1011);
  const second = await server.socket(2);
  second.resume(3, event(3, "client_connected", { connection: 2 }));
  await expect.poll(() => second.messages()).toEqual([sent]);
  second.send(turnEvent(4, "user_message", { text: "Hello", id: sent.id }));
  await expect(demo.turns.locator(".said")).toHaveText(/Hello/);
  await expect(demo.log.getByText("Sending…")).toHaveCount(0);
});

test("a message whose receipt is in the replay is not sent again", async ({ demo, server }) => {
  await demo.open();
  await demo.connectButton.click();
  const first = await server.socket(1);
  first.greet();
  await demo.message.fill("Hello");
  await demo.message.press("Enter");
  await expect.poll(() => first.messages()).toHaveLength(1);
  const { id } = first.messages()[0];
  await first.close(1011);
  const second = await server.socket(2);
  second.resume(4, turnEvent(3, "user_message", { text: "Hello", id }), event(4, "client_connected", { connection: 2 }));
  second.send(done(5, "Hello to you"));
  await expect(demo.turns.locator(".outcome")).toHaveCount(1);
  expect(second.messages()).toEqual([]);
});

// The limit is of the whole frame in UTF-8: quotes are escaped, and an umlaut has two bytes.
test("a message that is too long for the server stays in the composer", async ({ demo, server, page }) => {
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet({ message_bytes_max: 200 });
  await expect(demo.status).toHaveText("Connected");
  for (const long of ["x".repeat(200), "ä".repeat(70), '"'.repeat(70)]) {
    await demo.message.fill(long);
    await demo.message.press("Enter");
    await expect(page.locator("#notice-text")).toContainText("the server accepts 200");
    await expect(demo.message).toHaveValue(long);
  }
  await demo.message.fill("short");
  await demo.message.press("Enter");
  await expect.poll(() => socket.messages()).toHaveLength(1);
  await expect(demo.message).toHaveValue("");
});

// Before the first connection the limit is not known.
test("a long message that was written before the connection is not sent", async ({ demo, server }) => {
  await demo.open();
  await demo.message.fill("x".repeat(300));
  await demo.message.press("Enter");
  const socket = await server.socket(1);
  socket.greet({ message_bytes_max: 200 });
  await expect(demo.log.getByRole("alert")).toContainText("Not sent: it is too long");
  expect(socket.messages()).toEqual([]);
});

// Goal: a message that breaks each connection does not keep the page from working. Method: three
// connections are lost before the receipt; the message behind it is sent, and the user tries again.
test("a message that is followed by a lost connection three times is given up", async ({ demo, server, page }) => {
  await page.clock.install();
  await demo.open();
  await demo.connectButton.click();
  let socket = await server.socket(1);
  socket.greet();
  await expect(demo.status).toHaveText("Connected");
  for (const text of ["poison", "harmless"]) {
    await demo.message.fill(text);
    await demo.message.press("Enter");
  }
  for (const number of [2, 3, 4]) {
    await expect.poll(() => socket.messages().map(({ message }) => message)).toEqual(["poison", "harmless"]);
    await socket.close(1006);
    await expect(demo.status).toHaveText("Reconnecting…");
    // Longer than the pauses, and shorter than the page waits for a server to accept.
    await page.clock.runFor(6_000);
    socket = await server.socket(number);
    socket.resume(2);
  }
  await expect.poll(() => socket.messages().map(({ message }) => message)).toEqual(["harmless"]);
  await expect(demo.log.getByRole("alert")).toContainText("Not sent: the connection was lost 3 times");
  await demo.log.getByRole("button", { name: "Send again" }).click();
  await expect.poll(() => socket.messages().map(({ message }) => message)).toEqual(["harmless", "poison"]);
  await expect(demo.log.getByRole("alert")).toHaveCount(0);
});

test("a refused message says so where it stands", async ({ demo, server }) => {
  await demo.open();
  await demo.connectButton.click();
  const socket = await server.socket(1);
  socket.greet();
  await demo.message.fill("Hello");
  await demo.message.press("Enter");
  await expect.poll(() => socket.messages()).toHaveLength(1);
  const { id } = socket.messages()[0];
  socket.send({ type: "error", code: "busy", message: "too many messages wait", retryable: true, id });
  await expect(demo.log.getByRole("alert")).toHaveText("Not taken: too many messages wait");
});

// A backup was restored: the log is shorter than what the page has seen.
test("a log that is gone is forgotten, and replayed from its beginning", async ({ demo, server }) => {
  await demo.open();
  await demo.connectButton.click();
  const first = await server.socket(1);
  first.greet();
  first.send(turnEvent(3, "user_message", { text: "Lost" }), done(4, "as well"));
  await expect(demo.turns).toHaveCount(1);
  await first.close(1012);
  const second = await server.socket(2);
  expect(second.url.searchParams.get("after")).toBe("4");
  second.send(
    { type: "session_started", session_id: "s", user_id: "u", agent: "a", resumed: true, last_seq: 2 },
    { type: "error", code: "unknown_position", message: "the log ends at 2", retryable: false },
  );
  const third = await server.socket(3);
  expect(third.url.searchParams.get("after")).toBe("0");
  await expect(demo.turns).toHaveCount(0);
  await expect(demo.log.getByRole("heading", { name: "Say something." })).toBeVisible();
});

test("a server that knows nothing of the session starts it again", async ({ demo, server }) => {
  await demo.open();
  await demo.connectButton.click();
  const first = await server.socket(1);
  first.greet();
  first.send(turnEvent(3, "user_message", { text: "Lost" }), done(4, "as well"));
  await expect(demo.turns).toHaveCount(1);
  await first.close(1012);
  const second = await server.socket(2);
  second.greet();
  await expect(demo.status).toHaveText("Connected");
  await expect(demo.turns).toHaveCount(0);
});
