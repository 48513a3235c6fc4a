//! 10,000 keys through `postmap -q -`: Postfix's own `mysql:` tables with indexed queries, and our maps.
//!
//! A `mysql:` table is asked by Postfix for the key, then for the key without its detail, then for `@domain`; a
//! socketmap for the key only. So "theirs" is what Postfix makes of its three answers. Every difference has a name and a
//! reason in docs/maps-differences.md, and a rule here that says when it may occur.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a fixture that fails fails the test")]

use mailsql_rig::{MariaDb, Postfix, document};
use mailsql_tests::Site;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const KEYS: usize = 10_000;
const DIFFERENCES: &str = include_str!("../../docs/maps-differences.md");
const ROWS: &str = "USE mail; SET NAMES utf8mb4;
ALTER TABLE domains CONVERT TO CHARACTER SET utf8mb4; ALTER TABLE users CONVERT TO CHARACTER SET utf8mb4;
CREATE TABLE aliases (
  id INT NOT NULL AUTO_INCREMENT, name VARCHAR(255) NOT NULL, domain_id INT NOT NULL, destination VARCHAR(255) NOT NULL,
  enabled TINYINT NULL, PRIMARY KEY(id), UNIQUE KEY (name, domain_id, destination)) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO domains(name) SELECT CONCAT('d', seq, '.test') FROM seq_1_to_20;
INSERT INTO users(name, password, domain_id)
  SELECT CONCAT('user', s.seq), 'x', d.id FROM seq_1_to_2000 s JOIN domains d ON d.name = CONCAT('d', 1 + s.seq MOD 20, '.test');
INSERT INTO users(name, password, domain_id) SELECT n.name, 'x', d.id FROM domains d JOIN
  (SELECT 'o''brien' AS name UNION SELECT 'a b' UNION SELECT 'Mixed.Case' UNION SELECT '点' UNION SELECT 'josé'
   UNION SELECT '100%' UNION SELECT 'back\\\\slash' UNION SELECT 'quo\"te') n WHERE d.name IN ('d1.test', 'd2.test');
INSERT INTO aliases(name, domain_id, destination)
  SELECT CONCAT('alias', s.seq), d.id, CONCAT('user', s.seq, '@', d.name)
  FROM seq_1_to_500 s JOIN domains d ON d.name = CONCAT('d', 1 + s.seq MOD 20, '.test');
INSERT INTO aliases(name, domain_id, destination)
  SELECT CONCAT('alias', s.seq), d.id, 'out@elsewhere.test'
  FROM seq_1_to_250 s JOIN domains d ON d.name = CONCAT('d', 1 + s.seq MOD 20, '.test');
INSERT INTO aliases(name, domain_id, destination) SELECT '', id, CONCAT('user1@', name) FROM domains WHERE name IN ('d3.test', 'd4.test');
";

const MAILBOXES: &str = "SELECT CONCAT(u.name, '@', d.name, '/') FROM domains d JOIN users u ON u.domain_id = d.id
  WHERE d.name = '%d' AND u.name = '%u'";
const ALIASES: &str = "SELECT a.destination FROM domains d JOIN aliases a ON a.domain_id = d.id
  WHERE d.name = '%d' AND a.name = '%u' ORDER BY a.id";
const CATCH_ALLS: &str = "SELECT a.destination FROM domains d JOIN aliases a ON a.domain_id = d.id
  WHERE d.name = '%d' AND a.name = '' AND '%s' = CONCAT('@', '%d') ORDER BY a.id";
const DOMAINS: &str = "SELECT name FROM domains WHERE name = '%s'";

/// xorshift64: the same keys in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn key(&mut self) -> String {
        let number = self.below(2600);
        let known = [
            "o'brien",
            "\"a b\"",
            "mixed.case",
            "点",
            "josé",
            "100%",
            "back\\slash",
            "\"back\\\\slash\"",
            "\"quo\\\"te\"",
        ];
        let long = "x".repeat(300);
        let hostile = ["'; DROP TABLE users; --", "%", "%s", "_", "\\", "'", "user%", "user1\\", "+", "+user1"];
        // Two of three keys name the domain in which such a user is.
        let there = |number: usize| format!("d{}.test", 1 + number % 20);
        let (local, domain) = match self.below(12) {
            0..=3 => (format!("user{number}"), there(number)),
            4 | 5 => (format!("alias{}", number % 600), there(number % 600)),
            6 => (self.pick(&known).to_owned(), there(number % 2)),
            7 => (format!("user{number} "), there(number)),
            8 => (format!("usér{number}"), there(number)),
            9 => (self.pick(&[&long, "jose", "Josè"]).to_owned(), there(number % 2)),
            10 => (self.pick(&hostile).to_owned(), there(number)),
            _ => (format!("nobody{number}"), there(number % 4)),
        };
        let domain = if self.below(3) == 0 { format!("d{}.test", 1 + self.below(22)) } else { domain };
        let detail = match self.below(4) {
            0 => self.pick(&["+x", "+Lists.Rust", "+", "+a+b", "+点"]),
            _ => "",
        };
        let key = match self.below(40) {
            0 => local,
            1 => domain,
            2 => format!("@{domain}"),
            3 => format!("{local}@{domain}."),
            4 => format!("{local}@sub.{domain}"),
            5 => format!("{local}@例え.test"),
            _ => format!("{local}{detail}@{domain}"),
        };
        match self.below(4) {
            0 => key.to_uppercase(),
            _ => key,
        }
    }
}

/// Keys that were found, with their values.
fn ask(postfix: &Postfix, table: &str, keys: &BTreeSet<String>) -> HashMap<String, String> {
    let input: String = keys.iter().filter(|key| !key.trim().is_empty()).map(|key| format!("{key}\n")).collect();
    let ran = postfix.tool("postmap", &["-q", "-", table], input.as_bytes()).unwrap();
    assert!(ran.stderr.is_empty(), "{table}: {}", ran.stderr);
    let found = ran.stdout.lines().map(|line| line.split_once('\t').unwrap());
    found.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The whole key, the key without its detail and the detail, the domain.
type Forms = (Vec<String>, Option<(Vec<String>, String)>, Option<String>);

/// The key in the forms in which Postfix asks a `mysql:` table: quoted and unquoted, without detail, `@domain`.
fn forms(key: &str) -> Forms {
    let both = |local: &str, domain: &str| {
        let mut forms = vec![format!("{local}@{domain}")];
        if let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            forms.push(format!("{}@{domain}", inner.replace("\\\\", "\u{1}").replace('\\', "").replace('\u{1}', "\\")));
        }
        forms
    };
    let Some((local, domain)) = key.rsplit_once('@') else { return (vec![key.to_owned()], None, None) };
    let base = local.char_indices().skip(1).find(|(_, c)| *c == '+').filter(|_| !local.starts_with('"'));
    let base = base.map(|(at, _)| (both(&local[..at], domain), local[at + 1..].to_owned()));
    (both(local, domain), base, Some(format!("@{domain}")))
}

fn with_detail(list: &str, detail: &str) -> String {
    let each =
        |to: &str| to.split_once('@').map_or(to.to_owned(), |(local, domain)| format!("{local}+{detail}@{domain}"));
    list.split(',').map(each).collect::<Vec<_>>().join(",")
}

struct Theirs {
    exact: HashMap<String, String>,
    catch_all: HashMap<String, String>,
    keeps_detail: bool,
}

impl Theirs {
    fn find(&self, key: &str) -> Option<String> {
        let (whole, base, domain) = forms(key);
        if let Some(found) = whole.iter().find_map(|form| self.exact.get(form)) {
            return Some(found.clone());
        }
        if let Some((base, detail)) = base
            && let Some(found) = base.iter().find_map(|form| self.exact.get(form))
        {
            return Some(if self.keeps_detail { with_detail(found, &detail) } else { found.clone() });
        }
        domain.and_then(|domain| self.catch_all.get(&domain).cloned())
    }
}

/// Which of the listed differences this is, if any.
fn name(map: &str, key: &str, theirs: Option<&str>, ours: Option<&str>, mailbox: bool) -> Option<&'static str> {
    match (theirs, ours) {
        (Some(_), None) if map == "aliases" && key.starts_with('@') => Some("at-domain"),
        (Some(_), None) if map == "aliases" && mailbox => Some("spared"),
        (Some(_), None) if key.contains(" @") || key.contains(" +") => Some("pad"),
        // A blank at the end that is no longer an alias's falls to the catch-all, as it should.
        (Some(_), Some(_)) if key.contains(" @") || key.contains(" +") => Some("pad"),
        (None, Some(_)) if key.ends_with('.') => Some("final-dot"),
        (Some(_), None) if map == "aliases" && key.len() > 255 => Some("long"),
        (Some(_), None) if map == "aliases" && key.starts_with('"') && !key.contains("\"@") => Some("quote"),
        // They found somebody whose name is another one.
        (Some(theirs), None) if map == "mailboxes" && !is_named(theirs, key) => Some("accent"),
        _ => None,
    }
}

/// Whether a mailbox has the name that was asked for, detail and quotes aside.
fn is_named(mailbox: &str, key: &str) -> bool {
    let (whole, base, _) = forms(&key.to_lowercase());
    let mut forms = whole.into_iter().chain(base.into_iter().flat_map(|(forms, _)| forms));
    forms.any(|form| form == mailbox.trim_end_matches('/').to_lowercase())
}

#[test]
fn ten_thousand_keys_are_answered_as_by_the_mysql_tables_of_postfix() {
    let db = MariaDb::start_with_document().unwrap();
    db.sql(ROWS).unwrap();
    let site = Site::on_document(&db, &format!("[maps]\nlisten = {}\n", Site::listen("maps.sock"))).unwrap();
    let _maps = site.start("postfix-maps", "maps.sock").unwrap();
    let setup = [("mailboxes", MAILBOXES), ("aliases", ALIASES), ("catch_alls", CATCH_ALLS), ("domains", DOMAINS)];
    let postfix = setup.iter().fold(Postfix::setup(), |setup, (name, query)| {
        let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
        setup.file(&format!("{name}.cf"), document::mysql_map(&db.host_port(), &query))
    });
    let postfix = postfix.start().unwrap();
    let mysql = |name: &str| format!("mysql:{}/{name}.cf", postfix.config().display());
    let ours = |name: &str| format!("socketmap:unix:{}:{name}", site.run("maps.sock").display());

    let mut random = Random(0x5EED);
    let mut keys = BTreeSet::new();
    while keys.len() < KEYS {
        // postmap takes the blanks around a line away.
        let key = random.key().trim().to_owned();
        keys.insert(key);
    }
    let mut asked = keys.clone();
    for key in &keys {
        let (whole, base, domain) = forms(key);
        asked.extend(whole);
        asked.extend(base.into_iter().flat_map(|(forms, _)| forms));
        asked.extend(domain);
    }
    let mailboxes =
        Theirs { exact: ask(&postfix, &mysql("mailboxes"), &asked), catch_all: HashMap::new(), keeps_detail: false };
    let aliases = Theirs {
        exact: ask(&postfix, &mysql("aliases"), &asked),
        catch_all: ask(&postfix, &mysql("catch_alls"), &asked),
        keeps_detail: true,
    };
    let domains =
        Theirs { exact: ask(&postfix, &mysql("domains"), &keys), catch_all: HashMap::new(), keeps_detail: false };

    let mut named: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let mut unnamed = Vec::new();
    let mut found_both = 0;
    for (map, theirs) in [("mailboxes", &mailboxes), ("aliases", &aliases), ("domains", &domains)] {
        let found = ask(&postfix, &ours(map), &keys);
        for key in &keys {
            let theirs = match map {
                "domains" => theirs.exact.get(key).cloned(),
                _ => theirs.find(key),
            };
            let ours = found.get(key).cloned();
            if theirs == ours {
                found_both += usize::from(ours.is_some());
                continue;
            }
            let mailbox = mailboxes.find(key).is_some();
            match name(map, key, theirs.as_deref(), ours.as_deref(), mailbox) {
                Some(name) => named.entry(name).or_insert_with(|| (0, key.clone())).0 += 1,
                None => unnamed.push(format!("{map} {key:?}: theirs {theirs:?}, ours {ours:?}")),
            }
        }
    }
    mailsql_rig::progress(format!("{} keys in 3 maps, {found_both} found alike; differences {named:?}", keys.len()));
    assert!(found_both > KEYS / 4, "too few keys that exist: {found_both}");
    assert!(
        unnamed.is_empty(),
        "{} differences that are not listed\n{}",
        unnamed.len(),
        unnamed[..unnamed.len().min(20)].join("\n")
    );
    let listed: BTreeSet<&str> =
        DIFFERENCES.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let seen: BTreeSet<&str> = named.keys().copied().collect();
    assert_eq!(seen, listed, "docs/maps-differences.md lists what differs, no more and no less");
}
