//! A storm of logins on few cores: temporary errors at worst, and lookups that need no hash are answered meanwhile.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::MariaDb;
use mailsql_rig::client::socketmap::Socketmap;
use mailsql_tests::{Ask, Site, stats};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: u32 = 500;
/// Logins of each client; each of another account, so that none is cached.
const LOGINS: u32 = if cfg!(feature = "slow") { 20 } else { 4 };

fn load(db: &MariaDb) {
    db.sql(&format!(
        "USE mail;
         SET @hash = (SELECT password FROM users LIMIT 1);
         INSERT INTO domains(name) VALUES('storm.test');
         SET @domain = LAST_INSERT_ID();
         INSERT INTO users(name, password, domain_id) SELECT CONCAT('u', seq), @hash, @domain FROM seq_0_to_{};",
        CLIENTS * LOGINS
    ))
    .unwrap();
}

/// Resident memory of a process in KiB.
fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The time of a cached lookup has no bound here, since the clients share the machine with the daemon; `--nocapture` shows
/// it.
#[test]
fn five_hundred_clients_get_answers_or_temporary_errors_and_lookups_go_on() {
    let db = MariaDb::start_with_document().unwrap();
    load(&db);
    let sections =
        format!("[ask]\nlisten = {}\n[maps]\nlisten = {}\n", Site::listen("ask.sock"), Site::listen("maps.sock"));
    let site = Site::on_document(&db, &sections).unwrap();
    let mut daemon = site.serve("ask.sock").unwrap();
    let pid = daemon.process().unwrap().pid();
    let before = resident(pid);
    let (ok, temporary, storm) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(true));
    let mut times = Vec::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (site, ok, temporary) = (&site, &ok, &temporary);
                let run = move || {
                    let mut ask = Ask::connect(&site.run("ask.sock")).unwrap();
                    for login in 0..LOGINS {
                        let user = format!("u{}@storm.test", client * LOGINS + login);
                        match ask.login(&user, "infopass", "imap", "").unwrap().as_str() {
                            "ok" => ok.fetch_add(1, Ordering::Relaxed),
                            "unavailable" => temporary.fetch_add(1, Ordering::Relaxed),
                            other => panic!("{user}: {other}"),
                        };
                    }
                };
                std::thread::Builder::new().stack_size(128 * 1024).spawn_scoped(scope, run).unwrap()
            })
            .collect();
        let (storm, site) = (&storm, &site);
        let lookups = scope.spawn(move || {
            let mut maps = Socketmap::connect(site.run("maps.sock")).unwrap();
            let mut times = Vec::new();
            while storm.load(Ordering::Relaxed) {
                let asked = Instant::now();
                assert_eq!(maps.find("mailboxes", "info@hoge.com").unwrap(), "OK info@hoge.com/");
                times.push(asked.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            times
        });
        for client in clients {
            client.join().unwrap();
        }
        storm.store(false, Ordering::Relaxed);
        times = lookups.join().unwrap();
    });
    times.sort_unstable();
    let (ok, temporary) = (ok.into_inner(), temporary.into_inner());
    let counts = stats(&site.control()).unwrap();
    println!(
        "{ok} logins and {temporary} temporary errors in {:?}; lookups: {} of them, median {:?}, p99 {:?}, most {:?}; \
         memory {before} to {} KiB; hashes {}",
        begun.elapsed(),
        times.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
        resident(pid),
        counts["password_hashes"],
    );
    assert_eq!(ok + temporary, u64::from(CLIENTS * LOGINS));
    assert!(ok > 0 && times.len() > 10);
    assert!(resident(pid) < before + 64 * 1024, "memory is bounded");
}
