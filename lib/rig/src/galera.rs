//! A Galera cluster of MariaDB servers on 127.0.0.1.
//!
//! The first node makes the cluster; the others copy its data by rsync, and so does a node that comes back too late for
//! the others' write-set cache. All ports are free ones. The document's tables are made once and replicate.
//!
//! Source: Debian 12 galera-4 26.4, MariaDB 10.11 `wsrep_sst_rsync`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::mariadb::MariaDb;
use crate::root::free_port;
use crate::{document, progress, wait_until};

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";
/// A node that copies everything takes a few seconds.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

/// The cluster. Its nodes are asked for by number, from 0.
#[derive(Debug)]
pub struct Galera {
    nodes: Vec<MariaDb>,
}

impl Galera {
    /// Starts a cluster that holds the document's database; every node is Synced.
    ///
    /// # Errors
    /// When Galera or rsync is not installed, or a node does not start.
    pub fn start_with_document(count: usize) -> Result<Self> {
        if !Path::new(PROVIDER).exists() {
            bail!(
                "{PROVIDER} is missing: this test needs the Debian packages galera-4 and rsync (tests/run installs them)"
            );
        }
        crate::process::peer("rsync", "rsync")?;
        let started = Instant::now();
        let ports = (0..count).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let mut cluster = Self { nodes: Vec::new() };
        for (at, port) in ports.iter().enumerate() {
            let flags = flags(at, *port, &ports)?;
            let mut first = flags.clone();
            if at == 0 {
                first.push("--wsrep-new-cluster".to_owned());
            }
            let first: Vec<&str> = first.iter().map(String::as_str).collect();
            let mut node = MariaDb::start_with(&first)?;
            node.set_flags(flags);
            cluster.nodes.push(node);
            cluster.wait_synced(at)?;
            if at == 0 {
                cluster.node(0)?.load_document()?;
            }
        }
        progress(format!("galera of {count} in {:.2} s", started.elapsed().as_secs_f64()));
        Ok(cluster)
    }

    /// A node.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn node(&mut self, at: usize) -> Result<&mut MariaDb> {
        self.nodes.get_mut(at).context("no such node")
    }

    /// A mailsql database URL that names every node, without the account's password.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(MariaDb::host_port).collect();
        format!("mysql://{}@{}/{}", document::USER, hosts.join(","), document::DATABASE)
    }

    /// A status variable of a node; `None` when it cannot be asked.
    #[must_use]
    pub fn status(&self, at: usize, name: &str) -> Option<String> {
        let text = format!("SHOW GLOBAL STATUS LIKE '{name}'");
        let output = self.nodes.get(at)?.ask_root(&text).ok()?;
        output.lines().next()?.split_once('\t').map(|(_, value)| value.trim().to_owned())
    }

    /// Waits until a node is Synced and sees as many nodes as run.
    ///
    /// # Errors
    /// When it is not within a minute.
    pub fn wait_synced(&self, at: usize) -> Result<()> {
        wait_until(&format!("node {at} to be Synced"), SYNC_TIMEOUT, || {
            self.status(at, "wsrep_local_state_comment").as_deref() == Some("Synced")
                && self.status(at, "wsrep_ready").as_deref() == Some("ON")
        })
    }

    /// Waits until all nodes are Synced in one cluster.
    ///
    /// # Errors
    /// When they are not within a minute each.
    pub fn wait_all_synced(&self) -> Result<()> {
        for at in 0..self.nodes.len() {
            self.wait_synced(at)?;
            let size = self.nodes.len().to_string();
            wait_until(&format!("node {at} to see {size} nodes"), SYNC_TIMEOUT, || {
                self.status(at, "wsrep_cluster_size").as_deref() == Some(&size)
            })?;
        }
        Ok(())
    }
}

fn flags(at: usize, port: u16, ports: &[u16]) -> Result<Vec<String>> {
    let members: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let (ist, sst) = (free_port()?, free_port()?);
    let provider = format!(
        "gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1:{ist};gcache.size=8M;pc.recovery=false"
    );
    Ok(vec![
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={PROVIDER}"),
        format!("--wsrep-provider-options={provider}"),
        "--wsrep-cluster-name=mailsql".to_owned(),
        format!("--wsrep-cluster-address=gcomm://{}", members.join(",")),
        format!("--wsrep-node-name=node{at}"),
        format!("--wsrep-node-address=127.0.0.1:{port}"),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address=127.0.0.1:{sst}"),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
    ])
}
