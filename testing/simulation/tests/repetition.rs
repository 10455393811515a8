//! The simulation repeats itself.
//!
//! This test has a process of its own. When a simulated host crashes, tokio drops the host's tasks in an order
//! that follows from their ids, and the ids are counted for the whole process: with other simulations beside
//! it, the same seed could drop them in another order.

use duologue_simulation::run;

/// Everything that the history tells goes into its hash: every frame of every client and every
/// fault, at its time.
#[test]
fn the_same_seed_has_the_same_history() {
    for seed in [3, 1_000_003] {
        let (first, second) = (run(seed, None).history, run(seed, None).history);
        let (left, right) = (first.lines(), second.lines());
        let differ = left.iter().zip(&right).find(|(left, right)| left != right);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(first.hash(), second.hash(), "seed {seed}");
        assert!(left.len() > 100, "seed {seed} has hardly any history");
    }
    assert_ne!(run(3, None).history.hash(), run(4, None).history.hash());
}
