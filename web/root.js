// The small page at the server's root: fills in the server's own address.

import { ServerAddress } from "./address.js";
import { byId } from "./dom.js";
import { uuid } from "./uuid.js";

// The page's own address, since a proxy may serve the server under a path of its own.
const server = new ServerAddress(new URL("./", window.location.href));
const example = server.socket({ sessionId: uuid(), userId: "user-1", token: "" });

byId("socket-url", HTMLElement).textContent = `${server.sockets}{session_id}?user_id={user_id}`;
byId("wscat", HTMLElement).textContent = `npx wscat -c '${example}'`;
