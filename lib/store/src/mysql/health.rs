//! What a server says about itself: may it be read from, may it be written to.
//!
//! Galera (MariaDB, Percona XtraDB Cluster): `wsrep_ready` is ON once the node takes queries; without it, every query
//! that touches a table is answered by error 1047, and a node without quorum (`wsrep_cluster_status` other than
//! Primary) is among these, unless somebody set `wsrep_dirty_reads`. `wsrep_local_state`: 1 joining, 2 donor or
//! desynced (it serves reads, later than the others), 3 joined, 4 synced. Replicas: `read_only`, `super_read_only`
//! (MySQL), `innodb_read_only` (Aurora).
//!
//! Both statements are answered by every account, need no table, and are constants sent as text: a Galera node that is
//! not ready refuses to prepare statements.
//!
//! Source: Galera documentation "Galera Status Variables"; MariaDB 10.11 `sql/wsrep_mysqld.cc`.

/// Status of the server.
pub(super) const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN \
                          ('wsrep_ready', 'wsrep_local_state', 'wsrep_local_state_comment', 'wsrep_cluster_status')";
/// Its settings.
pub(super) const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
                             ('wsrep_on', 'read_only', 'super_read_only', 'innodb_read_only')";

/// What a server is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads and writes.
    Writer,
    /// Reads; with the reason why not writes.
    Reader(String),
    /// Nothing; with the reason.
    Nothing(String),
}

/// What a server said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    /// What it is good for.
    pub(super) role: Role,
    /// Whether it is a node of a Galera cluster.
    pub(super) galera: bool,
}

impl Health {
    /// Judges the answers to [`STATUS`] and [`VARIABLES`], as name and value.
    #[must_use]
    pub(super) fn judge(answers: &[(String, String)]) -> Self {
        let find = |name: &str| {
            answers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        let on = |name: &str| find(name).is_some_and(|value| value.eq_ignore_ascii_case("ON") || value == "1");
        let galera = on("wsrep_on") && find("wsrep_ready").is_some();
        let read_only = ["read_only", "super_read_only", "innodb_read_only"].into_iter().find(|name| on(name));
        let state = find("wsrep_local_state_comment").unwrap_or("unknown state");
        let role =
            if galera && find("wsrep_cluster_status").is_some_and(|status| !status.eq_ignore_ascii_case("Primary")) {
                Role::Nothing("cut off from its cluster (wsrep_cluster_status is not Primary)".into())
            } else if galera && !on("wsrep_ready") {
                Role::Nothing(format!("not ready in its cluster ({state})"))
            } else if let Some(name) = read_only {
                Role::Reader(name.into())
            } else if galera && find("wsrep_local_state") != Some("4") {
                Role::Reader(format!("not synced with its cluster ({state})"))
            } else {
                Role::Writer
            };
        Self { role, galera }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Health {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        let answers: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Health::judge(&answers)
    }

    #[test]
    fn servers_are_judged_by_what_they_say() {
        let galera = "wsrep_on=ON wsrep_cluster_status=Primary read_only=OFF";
        for (answers, role, member) in [
            ("read_only=OFF", "writer", false),
            ("", "writer", false),
            ("read_only=ON", "reader", false),
            ("read_only=1", "reader", false),
            ("read_only=OFF super_read_only=ON", "reader", false),
            ("innodb_read_only=ON", "reader", false),
            // MariaDB built with wsrep, without a provider.
            ("wsrep_on=OFF wsrep_ready=OFF wsrep_cluster_status=Disconnected", "writer", false),
            (&format!("{galera} wsrep_ready=ON wsrep_local_state=4"), "writer", true),
            (&format!("{galera} wsrep_ready=ON wsrep_local_state=2"), "reader", true),
            (&format!("{galera} wsrep_ready=ON wsrep_local_state=3"), "reader", true),
            (&format!("{galera} wsrep_ready=OFF wsrep_local_state=1"), "nothing", true),
            ("wsrep_on=ON wsrep_ready=OFF wsrep_cluster_status=non-Primary wsrep_local_state=0", "nothing", true),
            ("wsrep_on=ON wsrep_ready=ON wsrep_cluster_status=non-Primary wsrep_local_state=4", "nothing", true),
            (
                "wsrep_on=ON wsrep_ready=ON wsrep_cluster_status=Primary wsrep_local_state=4 read_only=ON",
                "reader",
                true,
            ),
        ] {
            let health = judge(answers);
            let word = match health.role {
                Role::Writer => "writer",
                Role::Reader(_) => "reader",
                Role::Nothing(_) => "nothing",
            };
            assert_eq!((word, health.galera), (role, member), "{answers}");
        }
    }
}
