//! The virtual environment for the tests that are written in Python.
//!
//! It is in cargo's target folder, so the tests depend neither on what is installed for a Python of
//! the system nor on which Python is the first on the path.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::external::{program, run, succeeds, target_folder};

/// The packages, each with its exact version.
const REQUIREMENTS: &str = "testing/integration/python/requirements.txt";

/// A Python 3 that can make a virtual environment with pip, which on Debian is a package of its own.
pub(super) fn interpreter(root: &Path) -> Option<PathBuf> {
    let is_fit = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))";
    let candidates = ["python3", "/usr/bin/python3"].map(PathBuf::from);
    let mut candidates = candidates.into_iter();
    candidates.find(|python| succeeds(program(python, root).args(["-c", is_fit])))
}

/// Makes the environment, unless it is complete and has the packages that are required now.
pub(super) fn environment(root: &Path) -> anyhow::Result<()> {
    let folder = target_folder()?.join("python");
    let (python, installed) = (folder.join("bin/python"), folder.join("installed.txt"));
    let required = fs::read_to_string(root.join(REQUIREMENTS))
        .with_context(|| format!("{REQUIREMENTS} cannot be read"))?;
    let is_current = fs::read_to_string(&installed).is_ok_and(|found| found == required);
    // The interpreter that the environment was made from may have been removed since.
    if is_current && succeeds(program(&python, root).args(["-c", ""])) {
        return Ok(());
    }
    let base = interpreter(root).context("no Python 3 can make a virtual environment")?;
    let mut make = program(base, root);
    run(make.args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = program(&python, root);
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", "--requirement", REQUIREMENTS]);
    run(&mut pip)?;
    fs::write(&installed, required)
        .with_context(|| format!("{} cannot be written", installed.display()))
}
