//! What the system knows of a process: CPU time, memory, file descriptors.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The unit of CPU times in `/proc`, which is the same on all of Linux's architectures.
const TICK: Duration = Duration::from_millis(10);

/// CPU times of a process, in user and kernel mode together.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Of its own threads, also of those that have ended.
    own: Duration,
    /// Of its children that have ended.
    ended_children: Duration,
    parent: u32,
}

/// The CPU time that a process has used.
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    Ok(times(process)?.own)
}

/// The CPU time that a process and its children have used, also by children that have ended.
pub(crate) fn cpu_of_family(process: u32) -> Result<Duration> {
    let parent = times(process)?;
    let mut sum = parent.own + parent.ended_children;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while its directory is being read.
        if let Ok(times) = times(id)
            && times.parent == process
        {
            sum += times.own + times.ended_children;
        }
    }
    Ok(sum)
}

fn times(process: u32) -> Result<Times> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} has ended"))?;
    // The name in parentheses may contain anything.
    let (_, fields) = stat.rsplit_once(") ").context("`stat` has a name")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let field = |index: usize| -> Result<u32> {
        let text = fields.get(index).context("`stat` has all fields")?;
        text.parse().context("a field of `stat` is a number")
    };
    Ok(Times {
        parent: field(1)?,
        own: TICK * (field(11)? + field(12)?),
        ended_children: TICK * (field(13)? + field(14)?),
    })
}

/// A process's memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident, with shared pages.
    pub(crate) resident: u64,
    /// The same with each shared page divided by the number of processes that share it.
    pub(crate) proportional: u64,
}

pub(crate) fn memory(process: u32) -> Result<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let bytes = |name: &str| -> Result<u64> {
        let value = rollup.lines().find_map(|line| line.strip_prefix(name));
        let value = value.and_then(|value| value.split_whitespace().next());
        let kibibytes: u64 = value.context("`smaps_rollup` has all rows")?.parse()?;
        Ok(kibibytes * 1024)
    };
    Ok(Memory {
        resident: bytes("Rss:")?,
        proportional: bytes("Pss:")?,
    })
}

/// Raises this process's limit of open files as far as it is allowed to, also for its children.
pub(crate) fn raise_file_limit(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = |hard| Rlimit {
        current: hard,
        maximum: hard,
    };
    let is_raised = limit.maximum.is_some_and(|hard| hard < needed)
        && setrlimit(Resource::Nofile, raised(Some(needed))).is_ok();
    if !is_raised {
        setrlimit(Resource::Nofile, raised(limit.maximum))?;
    }
    let available = getrlimit(Resource::Nofile).current;
    anyhow::ensure!(
        available.is_none_or(|available| available >= needed),
        "the benchmark needs {needed} file descriptors, and {} are allowed; raise the limit with \
         `ulimit -Hn {needed}` as root, or run fewer sessions",
        available.unwrap_or_default()
    );
    Ok(())
}

/// What the machine is, for the head of a report.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = value(&memory, "MemTotal").replace(" kB", "");
    let gibibytes = memory.parse::<u64>().unwrap_or_default() / (1024 * 1024);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{count} × {}, {gibibytes} GiB, Linux {}",
        value(&processors, "model name"),
        kernel.trim()
    )
}
