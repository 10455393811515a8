//! The simulation finds what is planted. That it repeats itself is tested in `repetition.rs`.

use duologue_simulation::{Mutant, run};

/// Within how many seeds a planted fault must be found. Most are found by the first ten, the rarest
/// by the fiftieth; there is room for seeds to mean something else when the simulation changes.
const SEEDS_MAX: u64 = 200;

/// Runs seeds until one finds a broken promise whose description has `words`.
#[expect(clippy::print_stdout, reason = "which seed it was is worth knowing")]
fn find(mutant: Mutant, words: &str) {
    let found = (0..SEEDS_MAX).find_map(|seed| {
        let violations = run(seed, Some(mutant)).trace.violations();
        let found = violations.into_iter().find(|it| it.contains(words));
        found.map(|violation| (seed, violation))
    });
    let Some((seed, violation)) = found else {
        panic!("{mutant:?} was not found within {SEEDS_MAX} seeds");
    };
    println!("{mutant:?} was found by seed {seed}: {violation}");
}

macro_rules! finds {
    ($($name:ident: $mutant:ident $(by $words:literal)?;)*) => {
        $(
            #[test]
            fn $name() {
                find(Mutant::$mutant, concat!($($words)?));
            }
        )*

        #[test]
        fn every_mutant_is_looked_for() {
            let named = [$(Mutant::$mutant),*];
            assert!(Mutant::ALL.iter().all(|mutant| named.contains(mutant)));
        }
    };
}

finds! {
    a_write_that_is_acknowledged_before_it_is_done_is_found: AcknowledgesBeforeCommit;
    a_write_that_is_done_twice_is_found: RepeatsWrites;
    a_message_that_is_not_known_again_is_found: ForgetsMessageIds;
    a_write_under_an_old_claim_is_found: HasNoFence;
    a_worker_that_goes_on_with_a_job_it_lost_is_found: HasNoJobFence;
    a_session_that_is_ended_before_its_grace_is_found: IgnoresGrace;
    a_session_that_its_server_does_not_take_back_is_found: ForgetsAbandoned;
    a_log_that_is_read_with_a_gap_is_found: ReadsOneTooFar;
    a_session_that_lets_others_in_is_found: IgnoresOwners;
    a_connection_that_nobody_polls_is_found: HoldsConnectionsUnpolled by "after its last piece";
    // By what the simulation itself checks, since the client does not.
    a_client_that_skips_a_gap_is_found: SkipsGaps by "follows event";
    a_client_that_skips_a_piece_of_an_answer_is_found: SkipsTokens by "comes in place of 2";
}
