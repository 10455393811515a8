//! Sessions that are requested and then not opened.

use duologue_engine::{AttachError, store::StoreError};
use futures_util::future::join_all;

use crate::harness::{
    World, millis, pass,
    store::{Method, Weather},
};

/// As many sessions as are opened at a time.
const OPENINGS_MAX: usize = 256;

/// The store is slower than its clients are patient. Those that have given up before their turn leave
/// no session behind, and those that wait are served.
#[tokio::test(start_paused = true)]
async fn a_client_that_gives_up_before_its_turn_leaves_nothing() {
    let world = World::with(|limits| {
        limits.user.sessions_max = 10_000.try_into().expect("it is not 0");
    });
    world.store.set(Weather::Hanging, [Method::Claim]);
    let names: Vec<_> = (0..OPENINGS_MAX + 50).map(|n| format!("s{n}")).collect();
    let crowd = names.iter().map(|name| world.attach(name, "alice", None));
    for refused in join_all(crowd).await {
        let is_expected = matches!(refused, Err(AttachError::Store(StoreError::Unavailable(_))));
        assert!(is_expected, "{refused:?}");
    }
    assert_eq!(world.store.count(Method::Claim), OPENINGS_MAX);
    let late = world.attach("late", "alice", None);
    let fair = async {
        pass(millis(100)).await;
        world.store.set(Weather::Fair, [Method::Claim]);
    };
    let (late, ()) = tokio::join!(late, fair);
    late.expect("there is room again");
    assert_eq!(world.store.count(Method::Claim), OPENINGS_MAX + 1);
    for name in &names[OPENINGS_MAX..] {
        assert_eq!(world.log(name).await, [], "{name}");
    }
}
