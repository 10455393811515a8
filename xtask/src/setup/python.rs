//! The virtual environments for what is written in Python: tests, and a server of the benchmark.
//!
//! They are in cargo's target folder, so they depend neither on what is installed for a Python of
//! the system nor on which Python is the first on the path.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::external::{program, run, succeeds, target_folder};

/// A virtual environment.
pub(crate) struct Environment {
    /// Its folder in the target folder.
    folder: &'static str,
    /// The packages, each with its exact version.
    requirements: &'static str,
}

/// What the tests use.
pub(crate) const TESTS: Environment = Environment {
    folder: "python",
    requirements: "testing/integration/python/requirements.txt",
};

/// What the benchmark's server in Python uses.
pub(crate) const BENCH: Environment = Environment {
    folder: "python-bench",
    requirements: "bench/python/requirements.txt",
};

/// A Python 3 that can make a virtual environment with pip, which on Debian is a package of its own.
pub(super) fn interpreter(root: &Path) -> Option<PathBuf> {
    let is_fit = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))";
    let candidates = ["python3", "/usr/bin/python3"].map(PathBuf::from);
    let mut candidates = candidates.into_iter();
    candidates.find(|python| succeeds(program(python, root).args(["-c", is_fit])))
}

impl Environment {
    /// Makes the environment, unless it is complete and has the packages that are required now. Returns
    /// its Python.
    pub(crate) fn make(&self, root: &Path) -> anyhow::Result<PathBuf> {
        let folder = target_folder()?.join(self.folder);
        let (python, installed) = (folder.join("bin/python"), folder.join("installed.txt"));
        let requirements = self.requirements;
        let required = fs::read_to_string(root.join(requirements))
            .with_context(|| format!("{requirements} cannot be read"))?;
        let is_current = fs::read_to_string(&installed).is_ok_and(|found| found == required);
        // The interpreter that the environment was made from may have been removed since.
        if is_current && succeeds(program(&python, root).args(["-c", ""])) {
            return Ok(python);
        }
        let base = interpreter(root).context("no Python 3 can make a virtual environment")?;
        let mut make = program(base, root);
        run(make.args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut pip = program(&python, root);
        pip.args(["-m", "pip", "install", "--quiet"]);
        pip.args(["--disable-pip-version-check", "--requirement", requirements]);
        run(&mut pip)?;
        fs::write(&installed, required)
            .with_context(|| format!("{} cannot be written", installed.display()))?;
        Ok(python)
    }
}
