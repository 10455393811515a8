//! The simulation repeats itself.
//!
//! Each run is a process of its own, as for those who repeat a seed. When a simulated host crashes, tokio drops
//! the host's tasks in an order that follows from their ids, and the ids are counted for the whole process: after
//! or beside another simulation, the same seed could drop them in another order.

use std::{path::PathBuf, process::Command};

/// The program, which cargo builds with the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests are in <profile>/deps");
    profile.join("examples/simulation")
}

/// What the program prints for a seed: its whole history, every frame of every client and every fault at
/// its time, and the hash of it.
fn history(seed: u64) -> String {
    let mut program = Command::new(program());
    let output = program.args(["--seed", &seed.to_string()]).output();
    let output = output.expect("it is built by `cargo build --workspace --example simulation`");
    assert!(output.status.success(), "seed {seed}: {output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn the_same_seed_has_the_same_history() {
    for seed in [3, 1_000_003] {
        let (first, second) = (history(seed), history(seed));
        let differ = first
            .lines()
            .zip(second.lines())
            .find(|(left, right)| left != right);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
        let lines = first.lines().count();
        assert!(lines > 100, "seed {seed} has hardly any history");
    }
    // The last lines name the seed.
    let beginning = |seed| {
        history(seed)
            .lines()
            .take(50)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_ne!(beginning(3), beginning(4));
}
