//! The torture finds what is planted live: a restored backup, and messages that come twice.
//!
//! Whether it finds nothing where nothing is planted is for `cargo xtask torture`, which takes
//! longer than a test should.

use duologue_torture::{Options, Planted, StoreKind, Verdict, history::FindingKind};

/// Tortures a server on SQLite for a few seconds, by kills alone.
async fn torture_with(planted: Planted) -> Verdict {
    let options = Options {
        pauses_milliseconds: 900..1500,
        only_kills: true,
        planted: Some(planted),
        ..Options::new(StoreKind::Sqlite, 2, 1)
    };
    let verdict = duologue_torture::run(&options).await;
    let verdict = verdict.expect("the torture itself works");
    // Found or not: here the evidence is of no use to anybody.
    if let Some(folder) = &verdict.folder {
        std::fs::remove_dir_all(folder).expect("it is ours");
    }
    verdict
}

/// A copy of the database that is older than the last receipts takes the database's place. Clients
/// that trusted their receipts must say that they were lost, and all clients that the log went back.
#[tokio::test(flavor = "multi_thread")]
async fn messages_lost_by_a_restored_backup_are_found() {
    let verdict = torture_with(Planted::RestoredBackup).await;
    assert!(verdict.has(FindingKind::LostReceipt), "{verdict}");
    assert!(verdict.has(FindingKind::LogWentBack), "{verdict}");
}

/// On the way to the server some frames are doubled. Where they have no id, the server cannot know;
/// the comparison must.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_twice_are_found() {
    let verdict = torture_with(Planted::DoubledFrames).await;
    assert!(verdict.has(FindingKind::DoubledMessage), "{verdict}");
    assert!(!verdict.has(FindingKind::LostReceipt), "{verdict}");
}

/// A client that does not resume leaves events out, and does not notice that itself. The check of what it
/// delivered must.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_skips_a_gap_is_found() {
    let verdict = torture_with(Planted::SkippedGaps).await;
    assert!(verdict.has(FindingKind::Gap), "{verdict}");
    assert!(!verdict.has(FindingKind::LostReceipt), "{verdict}");
}
