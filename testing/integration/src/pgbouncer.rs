//! A transaction pooler before the cluster, as bad as they come: few connections, handed out in
//! turn, so that whatever a client leaves on one is soon met by another.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use tokio::{net::TcpStream, sync::OnceCell};

use crate::{
    child::{AtOurEnd, Child, find, free_port, run, run_folder, unprivileged},
    postgres::{Cluster, Database, OWNER},
};

static POOLER: OnceCell<PgBouncer> = OnceCell::const_new();

/// The running pooler.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    _child: Child,
}

impl PgBouncer {
    /// The pooler of this process, started by the first test that needs it.
    pub async fn get() -> &'static Self {
        let starting = async || Self::start("pgbouncer", Cluster::get().await).await;
        let pooler = POOLER.get_or_try_init(starting).await;
        pooler.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A pooler before a cluster of a test's own, after which it is named.
    pub async fn before(cluster: &Cluster, name: &str) -> Self {
        let pooler = Self::start(&format!("pgbouncer-{name}"), cluster).await;
        pooler.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The URL of a database, by way of the pooler.
    pub fn url(&self, database: &Database) -> String {
        let (port, name) = (self.port, database.name());
        format!("postgres://{OWNER}@127.0.0.1:{port}/{name}?sslmode=disable")
    }

    async fn start(name: &str, cluster: &Cluster) -> Result<Self> {
        let pgbouncer = find("pgbouncer", &["/usr/sbin".into()], "pgbouncer")?;
        let folder = run_folder(name)?;
        let mut make_folder = unprivileged(Path::new("mkdir"), AtOurEnd::Leave);
        make_folder.arg(&folder);
        run(make_folder)?;

        let port = free_port()?;
        let (settings, users) = (folder.join("pgbouncer.ini"), folder.join("users.txt"));
        fs::write(&users, format!("\"{OWNER}\" \"\"\n"))?;
        fs::write(
            &settings,
            format!(
                "[databases]\n\
                 * = host=127.0.0.1 port={cluster}\n\
                 [pgbouncer]\n\
                 listen_addr = 127.0.0.1\n\
                 listen_port = {port}\n\
                 unix_socket_dir =\n\
                 auth_type = trust\n\
                 auth_file = {users}\n\
                 pool_mode = transaction\n\
                 default_pool_size = 3\n\
                 server_round_robin = 1\n\
                 server_login_retry = 0.1\n\
                 max_client_conn = 500\n",
                cluster = cluster.server_port(),
                users = users.display(),
            ),
        )?;
        let mut command = unprivileged(&pgbouncer, AtOurEnd::Signal("TERM"));
        command.arg(&settings);
        let child = Child::start("pgbouncer", command, folder.join("test.log"))?;
        child
            .ready(async || {
                let connected = TcpStream::connect(("127.0.0.1", port)).await;
                connected.context("connecting to it")
            })
            .await?;
        Ok(Self {
            port,
            _child: child,
        })
    }
}
