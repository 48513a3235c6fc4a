//! Three Galera nodes in one url, and each of them fails in turn under a steady load of 16 clients.
//!
//! Two sites serve at the same time: one whose memory is switched off (1 ms), so that every question reaches a node, and
//! one as it comes, warm. No answer may be wrong; the first may ask for patience for [`PATIENCE`] after a fault, the
//! second never. At last one node is left without quorum, and then only what is remembered, or "try later", may come.
//! Every node is Synced again before the next fault.

#![cfg(feature = "slow")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a fixture that fails fails the test")]

use mailsql_rig::{Daemon, Galera, document, program, run, wait_until};
use mailsql_tests::{Counts, Doors, Load, Site};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long reads without memory may be answered "try later" after a fault.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long changes may be: Galera itself stops them until it has given a silent node up (`evs.suspect_timeout`, 5 s).
const CHANGES: Duration = Duration::from_secs(12);
/// How long each fault is watched: longer than Galera takes to give a silent node up.
const WATCH: Duration = Duration::from_secs(10);

struct Stand {
    cold: Load,
    warm: Load,
    site: Site,
    daemons: Vec<Daemon>,
    rows: Vec<String>,
}

const NO_MEMORY: &str = "positive_ttl = \"1ms\"\nnegative_ttl = \"1ms\"\nstale_ttl = \"1ms\"";

fn site(url: &str, cache: &str) -> (Site, Vec<Daemon>) {
    let url = url.replace("mail@", &format!("mail:{}@", document::PASSWORD));
    let sections = format!(
        "[cache]\n{cache}\n[saslauthd]\nlisten = \"{{run}}/mux\"\n[maps]\nlisten = {}\n",
        Site::listen("maps.sock")
    );
    let site = Site::with_database(&format!("url = \"{url}\""), &sections).unwrap();
    let daemons = vec![site.start("saslauthd-rs", "mux").unwrap(), site.start("postfix-maps", "maps.sock").unwrap()];
    (site, daemons)
}

fn load(site: &Site, maps: usize, logins: usize) -> Load {
    Load::start(&Doors { maps: site.run("maps.sock"), mux: site.run("mux") }, maps, logins)
}

impl Stand {
    fn row(&mut self, what: &str, which: &str, counts: &Counts) {
        let row = format!(
            "{what:<30} {which:<5} {:>7} {:>9} {:>8} ms {:>5} {:>8} ms",
            counts.right,
            counts.temporary,
            counts.temporary_for.as_millis(),
            counts.wrong.len(),
            counts.slowest.as_millis()
        );
        println!("{row}");
        self.rows.push(row);
        let logs = || self.daemons.iter().map(Daemon::log).collect::<String>();
        assert_eq!(counts.wrong, Vec::<String>::new(), "{what}, {which}\n{}", logs());
    }

    /// Ends a period: what came back must be right, apart from `PATIENCE` where nothing is remembered.
    fn expect(&mut self, what: &str) {
        let (cold, warm) = (self.cold.take(), self.warm.take());
        self.row(what, "cold", &cold);
        self.row(what, "warm", &warm);
        assert!(cold.right > 0 && warm.right > 0, "{what}: {cold:?} {warm:?}");
        assert!(cold.temporary_for <= PATIENCE, "{what}: {cold:?}");
        assert_eq!(warm.temporary, 0, "{what}: {warm:?}");
    }
}

/// How long it takes until a change succeeds; the command exits 75 until then.
fn change(site: &Site, password: &str) -> Duration {
    let begun = Instant::now();
    wait_until("a change", Duration::from_secs(60), || {
        let mut command = Command::new(program("mailsql").unwrap());
        command.arg("--config").arg(site.config()).args(["user", "passwd", "a@b.c", "--password-stdin"]);
        let ran = run(command, password.as_bytes()).unwrap();
        assert!(ran.code == 0 || ran.code == 75, "{}", ran.text());
        ran.code == 0
    })
    .unwrap();
    begun.elapsed()
}

#[test]
fn each_node_of_three_may_fail_in_turn_and_a_lone_survivor_tells_nothing_new() {
    let mut galera = Galera::start_with_document(3).unwrap();
    galera.node(0).unwrap().sql("GRANT SELECT, INSERT, UPDATE, DELETE ON mail.* TO mail@localhost").unwrap();
    galera.wait_all_synced().unwrap();
    let (cold_site, mut daemons) = site(&galera.url(), NO_MEMORY);
    let (warm_site, more) = site(&galera.url(), "");
    daemons.extend(more);
    // One that knows a single node: it must find out by itself that this serves again.
    let (lone_site, more) = site(&galera.node(2).unwrap().url(), NO_MEMORY);
    daemons.extend(more);
    let (cold, warm) = (load(&cold_site, 8, 2), load(&warm_site, 4, 2));
    let mut stand = Stand { cold, warm, site: cold_site, daemons, rows: Vec::new() };
    println!(
        "{:<30} {:<5} {:>7} {:>9} {:>11} {:>5} {:>11}",
        "fault", "site", "right", "temporary", "for", "wrong", "slowest"
    );
    std::thread::sleep(WATCH / 2);
    // The first answers of the warm site are cold, too.
    let _ = (stand.cold.take(), stand.warm.take());
    std::thread::sleep(WATCH / 2);
    stand.expect("none");

    galera.node(0).unwrap().kill();
    let changed = change(&stand.site, "apass");
    std::thread::sleep(WATCH);
    stand.expect("kill -9 of the first node");
    println!("{:<30} a change took {} ms", "", changed.as_millis());
    assert!(changed <= CHANGES, "{changed:?}");

    galera.node(0).unwrap().restart().unwrap();
    galera.wait_all_synced().unwrap();
    std::thread::sleep(WATCH / 2);
    stand.expect("it joins again");

    galera.node(0).unwrap().sigstop().unwrap();
    let changed = change(&stand.site, "apass");
    std::thread::sleep(WATCH);
    stand.expect("SIGSTOP of the first node");
    println!("{:<30} a change took {} ms", "", changed.as_millis());
    assert!(changed <= CHANGES, "{changed:?}");

    galera.node(0).unwrap().sigcont().unwrap();
    galera.wait_all_synced().unwrap();
    std::thread::sleep(WATCH / 2);
    stand.expect("SIGCONT");

    galera.node(1).unwrap().kill();
    std::thread::sleep(WATCH);
    stand.expect("kill -9 of the second node");
    galera.node(1).unwrap().restart().unwrap();
    galera.wait_all_synced().unwrap();
    std::thread::sleep(WATCH / 2);
    stand.expect("it joins again");

    galera.node(0).unwrap().kill();
    galera.node(1).unwrap().kill();
    wait_until("the survivor to lose quorum", Duration::from_secs(60), || {
        galera.status(2, "wsrep_cluster_status").is_some_and(|status| status != "Primary")
    })
    .unwrap();
    std::thread::sleep(PATIENCE);
    let _ = (stand.cold.take(), stand.warm.take());
    std::thread::sleep(WATCH);
    let lone = load(&lone_site, 1, 1);
    let (cold, warm) = (stand.cold.take(), stand.warm.take());
    stand.row("a lone survivor, no quorum", "cold", &cold);
    stand.row("a lone survivor, no quorum", "warm", &warm);
    assert_eq!(cold.right, 0, "a node without quorum was believed");
    assert!(cold.temporary > 0, "{cold:?}");
    assert_eq!(warm.temporary, 0, "{warm:?}");
    std::thread::sleep(PATIENCE);
    assert_eq!(lone.take().right, 0);

    galera.node(2).unwrap().sql("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=YES'").unwrap();
    galera.wait_synced(2).unwrap();
    std::thread::sleep(PATIENCE);
    let _ = (stand.cold.take(), stand.warm.take(), lone.take());
    std::thread::sleep(WATCH / 2);
    stand.expect("quorum by hand");
    let counts = lone.take();
    stand.row("quorum by hand", "lone", &counts);
    assert!(counts.right > 0 && counts.temporary == 0, "{counts:?}");
    println!("\n{}", stand.rows.join("\n"));
}
