//! Every target, over its corpus and over mutations of it: the dose that CI takes, on stable Rust.

use std::{fs, panic, path::PathBuf};

use duologue_fuzz::{Random, TARGETS, Target};

/// Mutations of each file; the whole takes a few seconds.
const MUTATIONS: u64 = 300;

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files
        .map(|file| {
            let file = file.expect("the folder can be read");
            let name = file.file_name().into_string().expect("our names are ASCII");
            let bytes = fs::read(file.path()).expect("it can be read");
            (name, bytes)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_target_withstands_its_corpus_and_mutations_of_it() {
    for target in TARGETS {
        let files = corpus(target);
        assert!(
            files.len() >= 5,
            "the corpus of `{}` is too small",
            target.name
        );
        for (name, bytes) in files {
            let mut random = Random::new(bytes.len() as u64);
            let mutations = (0..MUTATIONS)
                .map(|_| random.mutate(&bytes))
                .collect::<Vec<_>>();
            for input in std::iter::once(&bytes).chain(&mutations) {
                let ran = panic::catch_unwind(|| (target.run)(input));
                let shown = String::from_utf8_lossy(input);
                assert!(ran.is_ok(), "`{}`, from {name}: {shown:?}", target.name);
            }
        }
    }
}

/// What is fuzzed by the one is fuzzed by the other.
#[test]
fn every_target_has_a_program_for_the_fuzzer() {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let programs = manifest.matches("[[bin]]").count();
    assert_eq!(programs, TARGETS.len());
    for target in TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{}\"", target.name)),
            "{}",
            target.name
        );
    }
}
