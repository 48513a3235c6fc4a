//! What the counts tell while a server fails, and (slow) how much memory a hundred thousand accounts take.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::Stream;
use mailsql_rig::client::socketmap::Socketmap;
use mailsql_rig::{Daemon, MariaDb, document, free_port, wait_until};
use mailsql_tests::Site;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct Stand {
    site: Site,
    daemon: Daemon,
    port: u16,
}

impl Stand {
    fn start(hosts: &[&MariaDb]) -> Self {
        let port = free_port().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|db| db.host_port()).collect();
        let database = format!("url = \"mysql://mail:{}@{}/mail\"", document::PASSWORD, hosts.join(","));
        let sections =
            format!("[maps]\nlisten = {}\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n", Site::listen("maps.sock"));
        let site = Site::with_database(&database, &sections).unwrap();
        let setup = Daemon::setup("mailsql").arg("--config").arg(site.config()).arg("serve");
        let daemon = setup.ready_socket(site.run("maps.sock")).start().unwrap();
        Self { site, daemon, port }
    }

    /// Status line and body.
    fn http(&self, request: &str) -> (String, String) {
        let mut stream = Stream::connect(&self.port.into()).unwrap();
        stream.send(request.as_bytes()).unwrap();
        let answer = String::from_utf8(stream.read_to_end().unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())) || request.starts_with("HEAD"), "{head}");
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    fn get(&self, path: &str) -> (String, String) {
        self.http(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// A metric by its name with labels.
    fn value(&self, name: &str) -> f64 {
        let (_, body) = self.get("/metrics");
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{body}")).parse().unwrap()
    }

    fn find(&self, key: &str) -> String {
        Socketmap::connect(self.site.run("maps.sock")).unwrap().find("mailboxes", key).unwrap()
    }
}

#[test]
fn counts_and_health_show_what_happens_to_the_servers() {
    let mut first = MariaDb::start_with_document().unwrap();
    let mut second = MariaDb::start_with_document().unwrap();
    let stand = Stand::start(&[&first, &second]);
    let (one, two) = (first.host_port(), second.host_port());
    for _ in 0..3 {
        assert_eq!(stand.find("info@hoge.com"), "OK info@hoge.com/");
        assert_eq!(stand.find("nobody@hoge.com"), "NOTFOUND ");
    }
    let (status, body) = stand.get("/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let mut described = "";
    for line in body.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => described = rest.split(' ').next().unwrap(),
            None if line.starts_with('#') => {}
            None => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with(described), "{line} under {described}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
    assert!(!body.contains("hoge.com") && !body.contains("mailpass"), "{body}");
    assert!(stand.value("mailsql_cache_answers_total{kind=\"positive\"}") >= 2.0);
    assert!(stand.value("mailsql_cache_answers_total{kind=\"negative\"}") >= 2.0);
    let answered = format!("mailsql_database_query_seconds_count{{host=\"{one}\"}}");
    let bucket = format!("mailsql_database_query_seconds_bucket{{host=\"{one}\",le=\"+Inf\"}}");
    // From one page: the daemon asks on in the background.
    let (_, body) = stand.get("/metrics");
    let of_page = |name: &str| -> f64 {
        body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap()
    };
    assert!(of_page(&answered) >= 2.0);
    assert!((of_page(&answered) - of_page(&bucket)).abs() < 0.5);
    wait_until("the roles", PATIENCE, || {
        [&one, &two]
            .iter()
            .all(|host| stand.value(&format!("mailsql_database_role{{host=\"{host}\",role=\"writer\"}}")) > 0.0)
    })
    .unwrap();
    assert_eq!(stand.get("/healthz"), ("HTTP/1.1 200 OK".into(), "ok\n".into()));

    first.kill();
    let open = |host: &str| stand.value(&format!("mailsql_database_breaker{{host=\"{host}\",state=\"closed\"}}")) < 1.0;
    wait_until("the first breaker to open", PATIENCE, || open(&one)).unwrap();
    assert!(!open(&two));
    assert!(stand.value(&format!("mailsql_database_breaker_opened_total{{host=\"{one}\"}}")) >= 1.0);
    assert!(stand.value(&format!("mailsql_database_errors_total{{host=\"{one}\",class=\"connect\"}}")) >= 1.0);
    assert_eq!(stand.get("/healthz").0, "HTTP/1.1 200 OK", "the second serves");
    second.kill();
    let unwell = || stand.get("/healthz").0 == "HTTP/1.1 503 Service Unavailable";
    wait_until("health to be told", PATIENCE, unwell).unwrap();
    second.restart().unwrap();
    wait_until("health to be back", PATIENCE, || stand.get("/healthz").0 == "HTTP/1.1 200 OK").unwrap();

    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request"),
    ] {
        let (answered, body) = stand.http(request);
        assert_eq!(answered, status, "{request:?}");
        assert_eq!(body.is_empty(), request.starts_with("HEAD"), "{request:?}");
    }
}

/// Accounts that are remembered.
#[cfg(feature = "slow")]
const ACCOUNTS: usize = 100_000;
/// What the daemon may take for it, its program text aside, in KiB.
#[cfg(feature = "slow")]
const MEMORY: u64 = 40 << 10;

#[cfg(feature = "slow")]
#[test]
fn a_hundred_thousand_remembered_accounts_take_no_more_than_40_mib() {
    let db = MariaDb::start_with_document().unwrap();
    let hash = "x".repeat(86);
    db.sql(&format!(
        "USE mail; INSERT INTO users (name, password, domain_id) \
         SELECT CONCAT('user', seq), CONCAT('$6$saltsaltsaltsalt$', '{hash}'), 1 FROM seq_1_to_{ACCOUNTS}"
    ))
    .unwrap();
    let mut stand = Stand::start(&[&db]);
    let memory = |stand: &mut Stand, name: &str| {
        let pid = stand.daemon.process().unwrap().pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().unwrap()
    };
    let before = memory(&mut stand, "RssAnon");
    std::thread::scope(|scope| {
        for client in 0..8 {
            let socket = stand.site.run("maps.sock");
            scope.spawn(move || {
                let mut map = Socketmap::connect(socket).unwrap();
                for number in (client..ACCOUNTS).step_by(8) {
                    let key = format!("user{}@hoge.com", number + 1);
                    assert_eq!(map.find("mailboxes", &key).unwrap(), format!("OK {key}/"));
                }
            });
        }
    });
    let (after, whole) = (memory(&mut stand, "RssAnon"), memory(&mut stand, "VmRSS"));
    let entries = stand.value("mailsql_cache_entries");
    let bytes = stand.value("mailsql_cache_bytes");
    println!(
        "{entries} entries of {bytes} bytes by our count: {before} KiB before, {after} KiB after, {whole} KiB with program text"
    );
    // Shards fill unevenly, so a few of the first have gone again.
    assert!(entries >= 0.95 * ACCOUNTS as f64, "{entries}");
    assert!(after <= MEMORY, "{after} KiB");
}
