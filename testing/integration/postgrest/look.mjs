// Looks at a project through Supabase's own client and prints, as JSON, what it was shown and how
// its attempts to write were answered. What that should be is for the caller to judge.

import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

// The client wants one to be there, though nothing here uses it; Node has one from version 22 on.
globalThis.WebSocket ??= WebSocket;

const { url, key, token, user, sessions } = JSON.parse(process.argv[2]);
const options = token ? { accessToken: async () => token } : { auth: { persistSession: false } };
const client = createClient(url, key, options);

const shown = async (query) => (await query).data;
const refused = async (query) => (await query).error;

const events = {};
for (const session of sessions) {
  const rows = client.from("session_events").select("seq, event_type, payload");
  events[session] = await shown(rows.eq("session_id", session).order("seq"));
}

const [own] = sessions;
const report = {
  sessions: await shown(client.from("sessions").select("*")),
  events,
  attempts: {
    insert: await refused(client.from("sessions").insert({ session_id: "forged", user_id: user })),
    update: await refused(client.from("sessions").update({ summary: "forged" }).eq("session_id", own)),
    delete: await refused(client.from("sessions").delete().eq("session_id", own)),
    insertEvent: await refused(client.from("session_events").insert({ session_id: own, seq: 99 })),
    call: await refused(client.rpc("duologue_session", { for_user: user, for_session: own })),
  },
};
console.log(JSON.stringify(report));
