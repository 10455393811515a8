//! `cargo xtask fuzz [TARGET] [--seconds N]`: libFuzzer on one target, or on each in turn.
//!
//! CI runs the same targets on stable Rust, over their corpora and mutations of them, as a test of
//! `crates/duologue-fuzz`. This goes further, and needs nightly and cargo-fuzz.

use std::{fs, path::Path};

use anyhow::Context;

use crate::{
    external::{program, run as run_program, succeeds},
    outcome::Outcome,
};

/// How long each target is fuzzed unless told otherwise.
const SECONDS: u32 = 60;

/// The largest input, in bytes: more than any limit that parsers know, and still quick to read.
const INPUT_BYTES_MAX: u32 = 8192;

pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<Outcome> {
    let targets = targets(root)?;
    let (chosen, seconds) = read(arguments)?;
    let chosen = match chosen {
        None => targets,
        Some(target) => {
            let known = targets.join(", ");
            anyhow::ensure!(
                targets.contains(&target),
                "there is no target `{target}`; there are: {known}"
            );
            vec![target]
        }
    };
    anyhow::ensure!(
        succeeds(program("cargo", root).args(["+nightly", "fuzz", "--version"])),
        "fuzzing needs nightly Rust and cargo-fuzz; install them:\n\n    \
         rustup toolchain install nightly\n    cargo install --locked cargo-fuzz\n"
    );
    for target in chosen {
        // New inputs go into the first folder, which is nobody's but this machine's.
        let (found, corpus) = (
            format!("testing/fuzz/libfuzzer/corpus/{target}"),
            format!("testing/fuzz/corpus/{target}"),
        );
        fs::create_dir_all(root.join(&found)).with_context(|| format!("cannot make {found}"))?;
        let mut command = program("cargo", root);
        command.args([
            "+nightly",
            "fuzz",
            "run",
            "--fuzz-dir",
            "testing/fuzz/libfuzzer",
            "--release",
            &target,
            &found,
            &corpus,
            "--",
        ]);
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        run_program(&mut command)?;
    }
    Ok(Outcome::Done)
}

/// The targets that there are programs for.
fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join("testing/fuzz/libfuzzer/fuzz_targets");
    let mut targets = Vec::new();
    for file in
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = file?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        targets.extend(name.map(str::to_owned));
    }
    targets.sort();
    Ok(targets)
}

fn read(arguments: &[String]) -> anyhow::Result<(Option<String>, u32)> {
    let usage = "cargo xtask fuzz [TARGET] [--seconds N]";
    let (mut target, mut seconds) = (None, SECONDS);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let number = arguments.next().and_then(|number| number.parse().ok());
            seconds = number.with_context(|| format!("`--seconds` needs a number: {usage}"))?;
        } else {
            let is_second = target.replace(argument.clone()).is_some();
            anyhow::ensure!(!is_second && !argument.starts_with('-'), "{usage}");
        }
    }
    Ok((target, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> anyhow::Result<(Option<String>, u32)> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        read(&words)
    }

    #[test]
    fn target_and_time_may_be_given_in_any_order_or_not_at_all() {
        assert_eq!(words("").unwrap(), (None, SECONDS));
        let frame = Some("client_frame".to_owned());
        assert_eq!(words("client_frame").unwrap(), (frame.clone(), SECONDS));
        assert_eq!(words("--seconds 5 client_frame").unwrap(), (frame, 5));
        for wrong in ["a b", "--seconds", "--seconds soon", "--help"] {
            words(wrong).unwrap_err();
        }
    }
}
