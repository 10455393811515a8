// A TCP proxy in front of the server that can cut what runs through it. The browser's own "offline"
// leaves an open WebSocket silently open; a real cut resets it.

import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

export class CutProxy {
  #server: Server;
  #sockets = new Set<Socket>();
  #isCut = false;

  private constructor(upstream: URL) {
    this.#server = createServer((client) => {
      if (this.#isCut) {
        client.resetAndDestroy();
        return;
      }
      this.#join(client, connect(Number(upstream.port), upstream.hostname));
    });
  }

  static async start(upstream: string): Promise<CutProxy> {
    const proxy = new CutProxy(new URL(upstream));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Resets all connections, and every new one until `restore`. */
  cut() {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  restore() {
    this.#isCut = false;
  }

  async stop() {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(client: Socket, server: Socket) {
    for (const [socket, other] of [[client, server], [server, client]] as const) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.pipe(other);
      // Either side may reset at any time, which is what this proxy is for.
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
  }
}
