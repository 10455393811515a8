//! Runs other programs: visibly, without input, and with errors that name the command.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::Context;

/// A program that ran and failed.
#[derive(Debug)]
pub(crate) struct Failed {
    command: String,
    status: ExitStatus,
}

impl Failed {
    /// The program's exit code, if it ended by itself.
    pub(crate) fn code(&self) -> Option<u8> {
        self.status.code().and_then(|code| u8::try_from(code).ok())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed: {}", self.command, self.status)
    }
}

impl std::error::Error for Failed {}

/// A program to be run in `directory`, without input: no program here may wait for input.
pub(crate) fn program(name: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// Cargo, with arguments separated by blanks.
///
/// `cargo run` sets variables about this package, which some build scripts watch. They are removed:
/// otherwise those crates would be rebuilt after each change between this program and a plain cargo.
pub(crate) fn cargo(root: &Path, arguments: &str) -> Command {
    let mut command = program("cargo", root);
    command.args(arguments.split_whitespace());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A program of the tests, built if it is outdated.
///
/// It is built with the whole workspace in view: which features its dependencies have follows from what cargo is
/// asked to build, and for one package alone cargo would compile most of them once more.
pub(crate) fn example(root: &Path, name: &str) -> anyhow::Result<Command> {
    let build = format!("build --quiet --workspace --example {name}");
    run(&mut cargo(root, &build))?;
    let path = target_folder()?.join("debug/examples").join(name);
    Ok(program(path, root))
}

/// Cargo's target folder, in which this program was built.
pub(crate) fn target_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let target = program.ancestors().nth(2);
    let target = target.context("cargo puts programs into <target>/<profile>")?;
    Ok(target.to_path_buf())
}

/// Runs it with visible output and fails with [`Failed`] unless it succeeds.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failed {
        command: shown,
        status,
    }
    .into())
}

/// Whether it can be run and succeeds; its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs it with hidden output; returns its last line of errors if it failed.
pub(crate) fn failure_message(command: &mut Command) -> anyhow::Result<Option<String>> {
    let shown = shown(command);
    let output = command
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if output.status.success() {
        return Ok(None);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().rfind(|line| !line.trim().is_empty());
    Ok(Some(format!(
        "`{shown}`: {}",
        last.unwrap_or("failed").trim()
    )))
}

/// Its standard output, as text.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = shown(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        return Err(Failed {
            command: shown,
            status: output.status,
        }
        .into());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` did not write UTF-8"))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
