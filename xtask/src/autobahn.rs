//! WebSocket conformance: the Autobahn suite against our upgrade, our limits and our close codes.
//!
//! It connects to an echo route that only the test harness's server has. The result of each case is pinned
//! in `autobahn/results.txt`, so that a new version of a library cannot change our behaviour unnoticed.
//!
//! The suite runs on Python 2.7 only, which few systems still have. Where there is none, the step is not
//! run and says why.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    external::{example, failure_message, program, succeeds, target_folder},
    outcome::Outcome,
};

const REQUIREMENTS: &str = "xtask/src/autobahn/requirements.txt";
const PINNED: &str = "xtask/src/autobahn/results.txt";

/// Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, and cutting into frames. Left
/// out: 9, which measures speed, and 12 and 13, which are about compression; we offer none.
const CASES: &[&str] = &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];

/// The step.
pub(crate) fn run(root: &Path) -> anyhow::Result<Outcome> {
    let Some(python) = python(root) else {
        return Ok(Outcome::NotRun(
            "the Autobahn suite needs Python 2.7 with pip, and there is none on the path or in pyenv"
                .to_owned(),
        ));
    };
    let folder = target_folder()?.join("autobahn");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if let Some(message) = install(root, &python, &folder)? {
        return Ok(Outcome::NotRun(format!(
            "the Autobahn suite cannot be installed; {message}"
        )));
    }
    let report = run_suite(root, &python, &folder)?;
    let found = lines(&report)?;
    let pinned = fs::read_to_string(root.join(PINNED)).unwrap_or_default();
    let differences = differences(&pinned, &found);
    if differences.is_empty() {
        eprintln!("{} cases, as pinned", found.lines().count());
        return Ok(Outcome::Done);
    }
    let results = folder.join("results.txt");
    fs::write(&results, found)?;
    anyhow::bail!(
        "the results differ from {PINNED}:\n{}\n\nall results are in {}, the reports in {}",
        differences.join("\n"),
        results.display(),
        folder.join("report").display()
    )
}

/// A Python 2.7 with pip.
fn python(root: &Path) -> Option<PathBuf> {
    let is_fit = |python: &PathBuf| {
        let is_27 = "import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))";
        succeeds(program(python, root).args(["-c", is_27]))
    };
    let on_path = ["python2.7", "python2", "pypy"].map(PathBuf::from);
    // pyenv adds only selected versions to the path.
    let home = std::env::var_os("HOME").unwrap_or_default();
    let versions = fs::read_dir(Path::new(&home).join(".pyenv/versions"));
    let in_pyenv = versions.into_iter().flatten().flatten();
    let in_pyenv = in_pyenv.map(|version| version.path().join("bin/python2.7"));
    on_path.into_iter().chain(in_pyenv).find(is_fit)
}

/// Installs the suite into `folder`, unless it is installed. Returns pip's error message if that failed.
fn install(root: &Path, python: &Path, folder: &Path) -> anyhow::Result<Option<String>> {
    let wanted = fs::read_to_string(root.join(REQUIREMENTS))
        .with_context(|| format!("{REQUIREMENTS} cannot be read"))?;
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(None);
    }
    let mut pip = program(python, root);
    pip.args([
        "-m",
        "pip",
        "install",
        "--user",
        "--quiet",
        "-r",
        REQUIREMENTS,
    ])
    .env("PYTHONUSERBASE", folder);
    let failure = failure_message(&mut pip)?;
    if failure.is_none() {
        fs::write(&installed, wanted)?;
    }
    Ok(failure)
}

/// Starts the echo server, runs the suite against it, and returns the suite's index of results.
fn run_suite(root: &Path, python: &Path, folder: &Path) -> anyhow::Result<Value> {
    let (report, spec) = (folder.join("report"), folder.join("spec.json"));
    if report.exists() {
        fs::remove_dir_all(&report)?;
    }
    let echo = Echo::start(root)?;
    let settings = json!({
        "outdir": report,
        "servers": [{ "agent": "duologue", "url": echo.url }],
        "cases": CASES,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    fs::write(&spec, settings.to_string())?;
    let mut suite = program(python, root);
    suite
        .args(["-c", "from autobahntestsuite.wstest import run; run()"])
        .args(["--mode", "fuzzingclient", "--spec"])
        .arg(&spec)
        .env("PYTHONUSERBASE", folder);
    if let Some(message) = failure_message(&mut suite)? {
        anyhow::bail!("the suite failed; {message}");
    }
    echo.stop()?;
    let index = fs::read_to_string(report.join("index.json")).context("there is no report")?;
    Ok(serde_json::from_str(&index)?)
}

/// The server under test. It stops when its input is closed, so also when this program ends.
struct Echo {
    child: Child,
    url: String,
}

impl Echo {
    fn start(root: &Path) -> anyhow::Result<Self> {
        let mut command = example(root, "echo")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the echo server")?;
        let output = child.stdout.take().context("its output is piped")?;
        let mut url = String::new();
        BufReader::new(output).read_line(&mut url)?;
        let url = url.trim().to_owned();
        anyhow::ensure!(!url.is_empty(), "the echo server did not start");
        Ok(Self { child, url })
    }

    fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        anyhow::ensure!(
            status.success(),
            "the echo server did not stop cleanly: {status}"
        );
        Ok(())
    }
}

/// The suite's index in the pinned form: one line per case, in order, with its result and that of the
/// closing handshake after it.
fn lines(report: &Value) -> anyhow::Result<String> {
    let cases = report["duologue"].as_object().context("no results")?;
    let mut lines = Vec::new();
    for (case, result) in cases {
        let number = |part: &str| part.parse::<u32>();
        let order: Vec<u32> = case.split('.').map(number).collect::<Result<_, _>>()?;
        let word = |key: &str| result[key].as_str().context("a result is a word");
        let line = format!("{case} {} {}\n", word("behavior")?, word("behaviorClose")?);
        lines.push((order, line));
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

/// The lines that are in one and not in the other.
fn differences(pinned: &str, found: &str) -> Vec<String> {
    let of = |sign: char, lines: &str, others: &str| -> Vec<String> {
        let missing = |line: &&str| !others.lines().any(|other| other == *line);
        let lines = lines.lines().filter(missing);
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    [of('-', pinned, found), of('+', found, pinned)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_their_numbers() {
        let ok = json!({ "behavior": "OK", "behaviorClose": "INFORMATIONAL" });
        let report = json!({ "duologue": { "10.1.1": ok, "1.1.10": ok, "1.1.2": ok } });
        let expected = "1.1.2 OK INFORMATIONAL\n1.1.10 OK INFORMATIONAL\n10.1.1 OK INFORMATIONAL\n";
        assert_eq!(lines(&report).unwrap(), expected);
    }

    #[test]
    fn a_case_that_changed_or_came_or_went_is_a_difference() {
        let pinned = "1.1.1 OK OK\n1.1.2 OK OK\n1.1.3 OK OK\n";
        let found = "1.1.1 OK OK\n1.1.2 FAILED OK\n1.1.4 OK OK\n";
        assert_eq!(
            differences(pinned, found),
            [
                "- 1.1.2 OK OK",
                "- 1.1.3 OK OK",
                "+ 1.1.2 FAILED OK",
                "+ 1.1.4 OK OK"
            ]
        );
        assert_eq!(differences(pinned, pinned), [""; 0]);
    }
}
