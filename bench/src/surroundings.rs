//! What all runs share: the upstream, the Postgres cluster, and a place for files.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{postgres::Cluster, upstream::Upstream};

/// What all runs share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) upstream: Upstream,
    cluster: Option<Cluster>,
    /// For files of the servers.
    pub(crate) folder: PathBuf,
}

impl Surroundings {
    /// Starts the upstream, and Postgres if a run uses it.
    pub(crate) async fn start(with_postgres: bool) -> Result<Self> {
        let cluster = if with_postgres {
            Some(Cluster::start().await?)
        } else {
            None
        };
        Ok(Self {
            upstream: Upstream::start().await?,
            cluster,
            folder: folder()?,
        })
    }

    pub(crate) fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().context("Postgres was not started")
    }
}

/// Where servers have their files: beside this program, since a temporary folder may be in memory.
fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().context("a program is in a folder")?;
    Ok(target.join(format!("bench-{}", std::process::id())))
}
