//! What the tests need besides Rust: programs of the system, packages of other languages, cargo-deny.
//!
//! As root on a machine with `apt-get`, as in CI, missing programs are installed; elsewhere the command
//! that installs them is printed, since nothing should be installed on a developer's machine unasked.

pub(crate) mod python;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    external::{self, cargo, output, program, succeeds},
    outcome::Outcome,
};

/// Pinned, so that a new release cannot fail an unrelated change.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// A Debian package, and how to detect its programs, however they were installed.
struct RequiredPackage {
    package: &'static str,
    found: fn(&Path) -> bool,
}

const REQUIRED_PACKAGES: &[RequiredPackage] = &[
    RequiredPackage {
        package: "postgresql",
        found: |_| on_path("initdb") || postgres_folder_has("initdb"),
    },
    RequiredPackage {
        package: "pgbouncer",
        found: |_| on_path("pgbouncer"),
    },
    RequiredPackage {
        package: "iproute2",
        found: |_| on_path("ss"),
    },
    RequiredPackage {
        package: "openssl",
        found: |_| on_path("openssl"),
    },
    RequiredPackage {
        package: "chromium",
        found: |_| std::env::var_os("CHROMIUM").is_some() || on_path("chromium"),
    },
    RequiredPackage {
        package: "nodejs",
        found: |_| on_path("node"),
    },
    RequiredPackage {
        package: "npm",
        found: |_| on_path("npm"),
    },
    RequiredPackage {
        package: "strace",
        found: |_| on_path("strace"),
    },
    RequiredPackage {
        package: "python3-venv",
        found: |root| python::interpreter(root).is_some(),
    },
];

/// The step.
pub(crate) fn run(root: &Path) -> anyhow::Result<Outcome> {
    programs(root)?;
    npm_packages(root)?;
    python::TESTS.make(root)?;
    python::BENCH.make(root)?;
    if !succeeds(&mut cargo(root, "deny --version")) {
        external::run(&mut cargo(root, &format!("install --locked {CARGO_DENY}")))?;
    }
    Ok(Outcome::Done)
}

fn programs(root: &Path) -> anyhow::Result<()> {
    let missing = missing(root);
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("install -y --no-install-recommends {}", missing.join(" "));
    let is_root = output(program("id", root).arg("-u"))?.trim() == "0";
    anyhow::ensure!(
        is_root && on_path("apt-get"),
        "the tests need programs that are not installed; install them:\n\n    sudo apt-get {install}\n"
    );
    for arguments in ["update", &install] {
        let mut apt = program("apt-get", root);
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        external::run(apt.args(arguments.split(' ')))?;
    }
    let missing = self::missing(root);
    anyhow::ensure!(
        missing.is_empty(),
        "these packages are installed but their programs are not found: {}",
        missing.join(" ")
    );
    Ok(())
}

fn missing(root: &Path) -> Vec<&'static str> {
    let missing = REQUIRED_PACKAGES
        .iter()
        .filter(|required| !(required.found)(root));
    missing.map(|required| required.package).collect()
}

/// Debian's daemons are not on a normal user's path.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(program))
        .any(|file| file.is_file())
}

/// Debian installs each Postgres in a folder of its own, with only its clients on the path.
fn postgres_folder_has(program: &str) -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    versions
        .map(|version| version.path().join("bin").join(program))
        .any(|file| file.is_file())
}

/// Installs the npm packages of every folder that locks some, unless they are as locked already.
pub(crate) fn npm_packages(root: &Path) -> anyhow::Result<()> {
    let locks = output(program("git", root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*package-lock.json",
    ]))?;
    for lock in locks.lines().map(|lock| root.join(lock)) {
        let folder = lock.parent().context("a file is in a folder")?;
        if is_older(&folder.join("node_modules/.package-lock.json"), &lock)? {
            eprintln!("in {}", folder.display());
            let mut npm = program("npm", folder);
            // The tests use the installed browser.
            npm.env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1");
            external::run(npm.args(["ci", "--no-audit", "--no-fund"]))?;
        }
    }
    Ok(())
}

/// Whether `made` is missing or was written before `source`.
fn is_older(made: &Path, source: &Path) -> anyhow::Result<bool> {
    let changed = |file: &Path| -> anyhow::Result<_> {
        let file_shown = || format!("cannot read when {} was changed", file.display());
        fs::metadata(file)
            .and_then(|data| data.modified())
            .with_context(file_shown)
    };
    Ok(!made.exists() || changed(made)? < changed(source)?)
}
