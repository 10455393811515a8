// A server of the tests' own making: the page's sockets end in it, and it says what a test wants.
// For what a good server seldom does.

import { expect, type Page, type WebSocketRoute } from "@playwright/test";

export type Frame = { type: string; [field: string]: unknown };

/** One socket of the page. */
export class ScriptedSocket {
  readonly url: URL;
  readonly received: Frame[] = [];

  constructor(readonly route: WebSocketRoute) {
    this.url = new URL(route.url());
    route.onMessage((text) => this.received.push(JSON.parse(String(text))));
    // A handler keeps the page's closing from being passed on to a server that is not there.
    route.onClose(() => {});
  }

  send(...frames: Frame[]) {
    for (const frame of frames) this.route.send(JSON.stringify(frame));
  }

  close(code: number) {
    return this.route.close({ code, reason: "scripted" });
  }

  /** Greets as for a new session, which is the log's first two events. `facts` are added to the first. */
  greet(facts: object = {}) {
    this.send(
      event(1, "session_started", { session_id: "s", user_id: "u", agent: "a", resumed: false, last_seq: 1, ...facts }),
      event(2, "client_connected", { connection: 1 }),
    );
  }

  /** Greets as for a session that existed before, and replays `events`, of which `last` is the last. */
  resume(last: number, ...events: Frame[]) {
    this.send(
      { type: "session_started", session_id: "s", user_id: "u", agent: "a", resumed: true, last_seq: last },
      ...events,
      { type: "replayed", seq: last },
    );
  }

  messages(): Frame[] {
    return this.received.filter(({ type }) => type === "message");
  }
}

/** All sockets of one page. */
export class ScriptedServer {
  readonly sockets: ScriptedSocket[] = [];

  static async start(page: Page): Promise<ScriptedServer> {
    const server = new ScriptedServer();
    await page.routeWebSocket(/\/ws\/session\//, (route) => {
      server.sockets.push(new ScriptedSocket(route));
    });
    return server;
  }

  /** The `number`th socket, counted from 1, as soon as the page has opened it. */
  async socket(number: number): Promise<ScriptedSocket> {
    await expect.poll(() => this.sockets.length, { message: `socket ${number}` }).toBeGreaterThanOrEqual(number);
    return this.sockets[number - 1];
  }
}

/** An event of the log. */
export function event(seq: number, type: string, fields: object = {}): Frame {
  return { type, seq, occurred_at: "2026-01-01T09:00:00Z", ...fields };
}

/** An event of the log's only turn. */
export function turnEvent(seq: number, type: string, fields: object = {}): Frame {
  return event(seq, type, { turn_id: "turn-1", ...fields });
}

export function token(index: number, text: string): Frame {
  return { type: "token", turn_id: "turn-1", index, token: text };
}

export function done(seq: number, text: string): Frame {
  return turnEvent(seq, "done", { text, finish_reason: "stop", duration_ms: 5, model: "scripted" });
}
