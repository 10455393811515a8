//! What the knowledge base knows.

/// One thing that the knowledge base knows.
pub(super) struct Topic {
    pub(super) name: &'static str,
    /// In lower case, without punctuation.
    pub(super) keywords: &'static [&'static str],
    pub(super) answer: &'static str,
}

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "weather",
        keywords: &["weather", "forecast", "rain", "temperature", "sunny"],
        answer: "The demo's weather never changes: 18 °C, a light breeze from the west, and no \
                 rain before the evening. For live weather, connect a tool of your own.",
    },
    Topic {
        name: "pricing",
        keywords: &[
            "pricing",
            "price",
            "prices",
            "cost",
            "costs",
            "plan",
            "plans",
            "subscription",
        ],
        answer: "There are three plans in this demo: Solo for 19 a month, Team for 49, and \
                 Business for 490. Each thousand messages adds 0.40.",
    },
    Topic {
        name: "CO2",
        keywords: &[
            "co2",
            "co\u{2082}",
            "carbon",
            "emission",
            "emissions",
            "climate",
            "footprint",
        ],
        answer: "Carbon dioxide is the greenhouse gas that burning coal, oil and gas sets free; \
                 the air now holds more than 420 parts per million of it, half as much again as \
                 before industry. For software, the largest lever is to run less of it: a server \
                 that does more with one core needs fewer of them.",
    },
    Topic {
        name: "LangGraph",
        keywords: &["langgraph", "langchain", "graph"],
        answer: "LangGraph is a library that describes an agent as a graph of steps over shared \
                 state. Duologue's turns are such a graph too: route, fill, call tools, ask, \
                 generate; its edges are the arms of one match in Rust.",
    },
    Topic {
        name: "Duologue",
        keywords: &["duologue"],
        answer: "Duologue is a realtime session server for AI assistants. A client opens a \
                 WebSocket, sends a message and gets the answer streamed back, while the server \
                 calls tools, asks for what is missing, keeps every event in a numbered log and \
                 sums the session up when it ends. A lost connection resumes where it was.",
    },
    Topic {
        name: "WebSocket",
        keywords: &["websocket", "websockets", "web socket", "socket", "ws"],
        answer: "A WebSocket is a connection on which both sides may speak at any time. Connect \
                 to /ws/session/ and an id of your choice, send text, and read one frame per \
                 piece of the answer. Reconnect with ?after= and the last number you saw, and \
                 nothing is missed.",
    },
    Topic {
        name: "server-sent events",
        keywords: &["sse", "server sent events", "eventsource"],
        answer: "Server-sent events are a one-way stream over plain HTTP, which browsers resume \
                 by themselves. They suit clients that only watch a session.",
    },
    Topic {
        name: "Supabase",
        keywords: &["supabase"],
        answer: "Supabase is a hosted Postgres with extras. Set SUPABASE_DB_URL to its connection \
                 string, and Duologue keeps its sessions, events and summaries there.",
    },
    Topic {
        name: "Postgres",
        keywords: &["postgres", "postgresql", "database"],
        answer: "Set DATABASE_URL to a Postgres connection string and Duologue keeps its sessions \
                 there, so that several servers can share them.",
    },
    Topic {
        name: "SQLite",
        keywords: &["sqlite"],
        answer: "Without any configuration, Duologue keeps its sessions in a SQLite file next to \
                 it. Nothing has to be installed.",
    },
    Topic {
        name: "streaming",
        keywords: &["streaming", "stream", "token", "tokens"],
        answer: "Answers are sent piece by piece as the model forms them. A piece is news and is \
                 not stored; the finished answer is an event, stored before it is sent.",
    },
    Topic {
        name: "Rust",
        keywords: &["rust", "tokio"],
        answer: "Duologue is written in Rust on Tokio: each session is one task that owns one \
                 log, and no lock is held while anything waits.",
    },
    Topic {
        name: "refunds",
        keywords: &["refund", "refunds", "return", "returns"],
        answer: "In this demo, an order can be returned within 30 days of its delivery; the money \
                 is back within five working days.",
    },
    Topic {
        name: "shipping",
        keywords: &["shipping", "ship", "delivery time"],
        answer: "In this demo, orders leave within a working day and arrive within three to five. \
                 Ask for an order by its ID to see where it is.",
    },
    Topic {
        name: "support hours",
        keywords: &["support", "support hours", "opening hours", "hours"],
        answer: "In this demo, people answer from Monday to Friday, 9:00 to 17:00 UTC. This \
                 assistant answers at any time.",
    },
];
