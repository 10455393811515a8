//! Torture of the real binary: clients that keep book, a nemesis, and the comparison afterwards.
//!
//! ```text
//! clients ──Link──▶ duologue serve ──Link──▶ Postgres     (or a SQLite file)
//!    │       ▲            ▲            ▲         ▲
//!    │       └────────────┴─ nemesis ──┴─────────┘
//!    ▼
//! histories ──────▶ check ◀────── logs, once all is quiet
//! ```
//!
//! A client writes down every request as ok, failed or unknown, and every frame it saw. When the
//! nemesis is done, the clients leave, and all sessions must come to their ends by themselves. Then
//! every acknowledged message must be in the log once, and every view must be a part of the log.
//!
//! The seed repeats the plan of faults and of what clients do. It cannot repeat what the machine
//! makes of it: a fault that depends on an unlucky moment may need several runs to show again.

pub mod check;
mod ground;
pub mod history;
mod link;
mod nemesis;
mod options;
mod personas;
mod server;
mod tab;
mod verdict;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use duologue_integration::{process::binary, server::http};
use duologue_observer::{ClientFault, canary};
use fastrand::Rng;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    check::Logs,
    ground::Ground,
    history::{Finding, FindingKind, History, Outcome, of_server},
    link::Link,
    nemesis::ProcessNemesis,
    personas::{Client, Persona},
    server::{GRACE, Server},
    tab::Place,
};

pub use crate::{
    ground::StoreKind,
    options::{Options, Planted},
    verdict::Verdict,
};

/// How long clients may take to finish what they do once all is healed.
const FINISH_TIMEOUT: Duration = Duration::from_secs(90);

/// How long sessions may take to end and be summarised once all clients have gone.
const QUIET_TIMEOUT: Duration = Duration::from_mins(1);

/// How long all goes well between the last fault and the clients' leave.
const CALM: Duration = Duration::from_millis(500);

/// Who comes: sessions, whose they are, and how each of their tabs behaves.
const CAST: &[(&str, &[Persona])] = &[
    ("alice", &[Persona::Trusting]),
    ("alice", &[Persona::Resending]),
    ("bob", &[Persona::Trusting, Persona::Resending]),
    ("bob", &[Persona::Vanishing]),
    ("carol", &[Persona::Vanishing, Persona::Trusting]),
    ("carol", &[Persona::Slow]),
    ("dave", &[Persona::Ending]),
    ("dave", &[Persona::Ending, Persona::Resending]),
    ("erin", &[Persona::Vanishing]),
    ("mallory", &[Persona::Hostile]),
];

/// What came of letting clients and nemesis loose on each other.
struct Performance {
    histories: Vec<History>,
    faults: BTreeMap<&'static str, u32>,
    /// What the server itself did that it must not.
    findings: Vec<Finding>,
}

/// Tortures a server, and says what came of it. An error is a failure of the torture itself.
pub async fn run(options: &Options) -> Result<Verdict> {
    // Building it is no part of the torture.
    binary();
    let started = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix(&format!("duologue-torture-{}-", options.store.as_str()))
        .tempdir()?;
    let ground = Ground::prepare(options.store, folder.path()).await?;
    let mut server = Server::new(folder.path().to_owned(), ground.url_for_server());
    let performance = perform(options, &mut server, &ground, folder.path()).await?;
    let (histories, mut findings) = (performance.histories, performance.findings);
    let logs = ground.logs(&histories).await?;
    findings.extend(judge(&server, &histories, &logs).await?);
    let kept = !findings.is_empty();
    if kept {
        write_evidence(folder.path(), &histories, &logs, &findings)?;
        ground.keep(folder.path()).await?;
    }
    Ok(Verdict {
        seed: options.seed,
        store: options.store,
        operations: verdict::count_operations(&histories),
        faults: performance.faults,
        sessions: logs.len(),
        events: verdict::count_events(&logs),
        frames: histories.iter().map(|history| history.frames_seen).sum(),
        findings,
        took: started.elapsed(),
        folder: kept.then(|| folder.keep()),
    })
}

/// Lets clients and nemesis loose on each other, until all is quiet and the server has stopped.
async fn perform(
    options: &Options,
    server: &mut Server,
    ground: &Ground,
    folder: &Path,
) -> Result<Performance> {
    let mut rng = Rng::with_seed(options.seed);
    let link = Link::start(Some(server.start().await?)).await?;
    let place = Place {
        server: link.address(),
        stop: CancellationToken::new(),
        fault: (options.planted == Some(Planted::SkippedGaps)).then_some(ClientFault::SkipsGaps),
    };
    let mut clients = JoinSet::new();
    for mut client in cast(&place, &mut rng) {
        let arrived = client.arrive().await;
        anyhow::ensure!(
            arrived == Outcome::Ok,
            "a client is not let in at the start"
        );
        clients.spawn(client.live());
    }
    let mut nemesis = ProcessNemesis {
        rng: rng.fork(),
        server: &mut *server,
        clients: &link,
        ground,
        folder,
        planted: options.planted,
        progress: options.progress,
        faults: BTreeMap::new(),
        findings: Vec::new(),
    };
    let pauses = options.pauses_milliseconds.clone();
    let raged = nemesis
        .rage(options.kills, pauses, options.only_kills)
        .await;
    let (faults, mut findings) = (nemesis.faults, nemesis.findings);
    // Without a server there is nothing more to do; what is there is still to be looked at.
    findings.extend(raged.as_ref().err().map(of_server));
    tokio::time::sleep(CALM).await;
    place.stop.cancel();
    (options.progress)("all is healed; the clients leave");
    let finishing = tokio::time::timeout(FINISH_TIMEOUT, clients.join_all()).await;
    let histories = finishing.context("the clients do not finish")?;
    if let Some(address) = server.address() {
        quiet(address, &histories).await?;
        let stopped = server.terminate().await;
        findings.extend(stopped.as_ref().err().map(of_server));
    }
    Ok(Performance {
        histories,
        faults,
        findings,
    })
}

fn cast(place: &Place, rng: &mut Rng) -> Vec<Client> {
    let session = |number: usize| format!("session-{number}");
    let mut clients = Vec::new();
    for (number, (user, personas)) in CAST.iter().enumerate() {
        let canary = canary::of(rng.u64(..));
        let foreign = (0..CAST.len()).filter(|other| CAST[*other].0 != *user);
        let foreign: Vec<_> = foreign.map(session).collect();
        for (tab, persona) in personas.iter().enumerate() {
            let name = format!("{}-{number}-{tab}", persona.name());
            let history = History::new(&name, &session(number), user, &canary);
            let (place, foreign) = (place.clone(), foreign.clone());
            clients.push(Client::new(*persona, place, history, rng.fork(), foreign));
        }
    }
    clients
}

/// Waits until all sessions are summarised, or for as long as that may take. What is missing then
/// shows in the logs.
async fn quiet(server: SocketAddr, histories: &[History]) -> Result<()> {
    let http = http();
    let waiting = async {
        for history in histories {
            let (session, user) = (&history.session, &history.user);
            let url = format!("http://{server}/v1/sessions/{session}?user_id={user}");
            loop {
                let answer = http.get(&url).send().await?;
                let facts: Value = serde_json::from_slice(&answer.bytes().await?)?;
                if facts["status"] == "completed" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(QUIET_TIMEOUT, waiting)
        .await
        .unwrap_or(Ok(()))
}

/// Looks at what is left from all three sides: the clients', the checker's, and the server's own.
async fn judge(server: &Server, histories: &[History], logs: &Logs) -> Result<Vec<Finding>> {
    let mut findings = check::findings(histories, logs, GRACE);
    findings.extend(said_in_server_log(server)?);
    findings.extend(server.verify().await?);
    Ok(findings)
}

/// What users say must not be in the server's own log.
fn said_in_server_log(server: &Server) -> Result<Option<Finding>> {
    let log = fs::read_to_string(server.log())?;
    let line = log.lines().find(|line| line.contains(canary::PREFIX));
    let finding = |line: &str| Finding::new(FindingKind::ForeignCanary, "the server's log", line);
    Ok(line.map(finding))
}

fn write_evidence(
    folder: &Path,
    histories: &[History],
    logs: &Logs,
    findings: &[Finding],
) -> Result<()> {
    let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
    fs::write(folder.join("findings.txt"), findings.join("\n"))?;
    fs::write(folder.join("histories.txt"), format!("{histories:#?}"))?;
    fs::write(folder.join("logs.json"), serde_json::to_vec_pretty(logs)?)?;
    Ok(())
}
