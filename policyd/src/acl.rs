//! `acl`: lists of clients, names, logins, senders and recipients, from the configuration, from files, from the database.
//!
//! ```text
//! line  = *( field "=" pattern blank ) action          # a rule; it matches when all its patterns match
//! field = "client" | "helo" | "login" | "sender" | "recipient"
//! ```
//! | field | patterns |
//! | --- | --- |
//! | client | `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32` |
//! | helo | `name`, `.domain` (and what is below it) |
//! | login, sender, recipient | `user@domain`, `user@` in any domain, `@domain`, `@.domain` (and what is below it), `<>` for none |
//!
//! The first rule that matches decides, those of the configuration before those of the files before the database's (`policy_acl`).
//! Its action is one of access(5). `DUNNO` ends this check alone; `PASS` answers DUNNO without asking the checks that follow. `OK`
//! accepts: Postfix then skips the rest of the restriction list, `reject_unauth_destination` too if it stands there.
//!
//! Lines that begin with `#` and empty ones are skipped. Limits: [`MAX_RULES`] rules, files of [`MAX_FILE`]. A file that cannot be read
//! or understood stops the start; later, the rules of before stay and the log says why.

use crate::answer::Answer;
use crate::check::{Asked, Check, Future, Opinion};
use crate::facts::{Facts, domain};
use crate::memory::lock;
use anyhow::{Context, Result, bail};
use mailsql_config::policy::{Acl as Settings, AclRule, OnTrouble};
use mailsql_core::{Network, Unavailable};
use mailsql_daemon::Shared;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Rules at most, all sources together.
const MAX_RULES: usize = 10_000;
/// Longest file, in bytes.
const MAX_FILE: u64 = 4 << 20;

#[derive(Debug)]
enum Action {
    /// The next check is asked.
    None,
    /// No check is asked any more.
    Pass,
    Answer(Answer),
}

#[derive(Debug)]
struct Rule {
    conditions: Vec<Condition>,
    action: Action,
}

#[derive(Debug)]
enum Condition {
    Client(Network),
    Helo(Name),
    Login(Pattern),
    Sender(Pattern),
    Recipient(Pattern),
}

/// A domain, in lower case, alone or with all below it.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    name: Box<str>,
    below: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Nobody,
    Whole(Box<str>),
    Local(Box<str>),
    Domain(Name),
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let (below, name) = text.strip_prefix('.').map_or((false, text), |name| (true, name));
        let usable = !name.is_empty() && !name.contains(['@', ' ', '*']);
        usable.then(|| Self { name: name.to_lowercase().into(), below })
    }

    fn matches(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let text = text.strip_suffix('.').unwrap_or(text).to_lowercase();
        text == *self.name || (self.below && text.strip_suffix(&*self.name).is_some_and(|head| head.ends_with('.')))
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        if text == "<>" {
            return Some(Self::Nobody);
        }
        match text.rsplit_once('@')? {
            ("", name) => Name::parse(name).map(Self::Domain),
            (local, "") => Some(Self::Local(local.to_lowercase().into())),
            _ => Some(Self::Whole(text.to_lowercase().into())),
        }
    }

    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Nobody => text.is_empty(),
            Self::Domain(name) => domain(text).is_some_and(|domain| name.matches(domain)),
            Self::Whole(whole) => std::str::from_utf8(text).is_ok_and(|text| text.to_lowercase() == **whole),
            Self::Local(local) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.rsplit_once('@'))
                .is_some_and(|(user, _)| user.to_lowercase() == **local),
        }
    }
}

impl Condition {
    fn parse(field: &str, pattern: &str) -> Result<Self, String> {
        let wrong =
            || format!("{field}=\"{pattern}\" is no pattern; write user@domain, user@, @domain, @.domain or <>");
        let pattern_of = || Pattern::parse(pattern).ok_or_else(wrong);
        Ok(match field {
            "client" => Self::Client(pattern.parse()?),
            "helo" => Self::Helo(
                Name::parse(pattern).ok_or_else(|| format!("helo=\"{pattern}\" is no name; write name or .domain"))?,
            ),
            "login" => Self::Login(pattern_of()?),
            "sender" => Self::Sender(pattern_of()?),
            "recipient" => Self::Recipient(pattern_of()?),
            _ => return Err(format!("{field} is no field; known are client, helo, login, sender and recipient")),
        })
    }

    fn matches(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Client(network) => facts.client.is_some_and(|client| network.contains(client)),
            Self::Helo(name) => name.matches(facts.helo),
            Self::Login(pattern) => pattern.matches(&facts.login),
            Self::Sender(pattern) => facts.has_sender() && pattern.matches(facts.sender),
            // No recipient is known where there are several; `<>` matches nothing here.
            Self::Recipient(pattern) => !facts.recipient.is_empty() && pattern.matches(facts.recipient),
        }
    }
}

impl Rule {
    fn new<'a>(patterns: impl IntoIterator<Item = (&'a str, &'a str)>, action: &str) -> Result<Self, String> {
        let conditions =
            patterns.into_iter().map(|(field, pattern)| Condition::parse(field, pattern)).collect::<Result<_, _>>()?;
        let action = match action.trim() {
            word if word.eq_ignore_ascii_case("dunno") => Action::None,
            word if word.eq_ignore_ascii_case("pass") => Action::Pass,
            text => Action::Answer(Answer::parse(text, &[])?),
        };
        Ok(Self { conditions, action })
    }

    /// Reads a line of a file; nothing for an empty one.
    fn parse(line: &str) -> Result<Option<Self>, String> {
        let mut rest = line.trim();
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(None);
        }
        let mut patterns = Vec::new();
        while let Some((field, value)) = rest.split_once('=')
            && !field.contains(char::is_whitespace)
        {
            let (value, after) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
            patterns.push((field, value));
            rest = after.trim_start();
        }
        if patterns.is_empty() {
            return Err("a rule begins with field=pattern".to_owned());
        }
        Self::new(patterns, rest).map(Some)
    }

    fn matches(&self, facts: &Facts<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.matches(facts))
    }
}

/// The decision: the first rule that matches.
fn decide<'a>(mut rules: impl Iterator<Item = &'a Rule>, facts: &Facts<'_>) -> Option<Opinion> {
    let rule = rules.find(|rule| rule.matches(facts))?;
    Some(match &rule.action {
        Action::None => Opinion::None,
        Action::Pass => Opinion::Pass,
        Action::Answer(answer) => Opinion::Act(answer.with(&[])),
    })
}

fn from_settings(rule: &AclRule) -> Result<Rule, String> {
    let fields = [
        ("client", &rule.client),
        ("helo", &rule.helo),
        ("login", &rule.login),
        ("sender", &rule.sender),
        ("recipient", &rule.recipient),
    ];
    Rule::new(fields.into_iter().filter_map(|(field, pattern)| Some((field, pattern.as_deref()?))), &rule.action)
}

fn read_file(path: &Path) -> Result<Vec<Rule>> {
    let size = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if size > MAX_FILE {
        bail!("{}: longer than {MAX_FILE} bytes", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let rule = Rule::parse(line).map_err(|wrong| anyhow::anyhow!("{}:{}: {wrong}", path.display(), number + 1))?;
        rules.extend(rule);
    }
    Ok(rules)
}

/// The rules of one source, all of them or, of the database, none known yet.
type Rules = Arc<[Rule]>;

struct Sources {
    files: Vec<(PathBuf, Option<SystemTime>, Rules)>,
    database: Option<Rules>,
}

/// The check.
pub(crate) struct Acl {
    configured: Vec<Rule>,
    sources: Mutex<Sources>,
    ask_database: bool,
    on_trouble: OnTrouble,
}

impl Acl {
    /// Reads settings and files.
    ///
    /// # Errors
    /// A line that names the rule which is wrong.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let mut configured = Vec::new();
        for (number, rule) in settings.rule.iter().enumerate() {
            let rule = from_settings(rule).map_err(anyhow::Error::msg);
            configured.push(rule.with_context(|| format!("[[policy.acl.rule]] number {}", number + 1))?);
        }
        let mut files = Vec::new();
        for path in &settings.files {
            files.push((path.clone(), changed(path), read_file(path).context("[policy.acl] files")?.into()));
        }
        let count = configured.len() + files.iter().map(|(_, _, rules): &(_, _, Rules)| rules.len()).sum::<usize>();
        anyhow::ensure!(count <= MAX_RULES, "[policy.acl] has more than {MAX_RULES} rules");
        let sources = Mutex::new(Sources { files, database: None });
        Ok(Self { configured, sources, ask_database: settings.database, on_trouble: settings.on_trouble })
    }

    fn decide(&self, facts: &Facts<'_>) -> Result<Opinion, Unavailable> {
        if let Some(opinion) = decide(self.configured.iter(), facts) {
            return Ok(opinion);
        }
        let sources = lock(&self.sources);
        if let Some(opinion) = decide(sources.files.iter().flat_map(|(_, _, rules)| rules.iter()), facts) {
            return Ok(opinion);
        }
        match (&sources.database, self.ask_database) {
            (_, false) => Ok(Opinion::None),
            (Some(rules), true) => Ok(decide(rules.iter(), facts).unwrap_or(Opinion::None)),
            (None, true) => Err(Unavailable::new("the rules of policy_acl have not been read yet")),
        }
    }

    async fn load(&self, shared: &Shared) -> Result<(), Unavailable> {
        let rows = shared.store.policy_acl().await?;
        let mut rules = Vec::new();
        for row in rows.into_iter().take(MAX_RULES) {
            let rule = AclRule {
                client: row.client,
                helo: row.helo,
                login: row.login,
                sender: row.sender,
                recipient: row.recipient,
                action: row.action,
            };
            match from_settings(&rule) {
                Ok(rule) => rules.push(rule),
                Err(wrong) => tracing::error!(id = row.id, reason = %wrong, "row of policy_acl left out"),
            }
        }
        lock(&self.sources).database = Some(rules.into());
        Ok(())
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

impl Check for Acl {
    fn name(&self) -> &'static str {
        "acl"
    }

    fn on_trouble(&self) -> OnTrouble {
        self.on_trouble
    }

    fn ask<'a>(&'a self, facts: &'a Facts<'a>, shared: &'a Shared) -> Asked<'a> {
        match self.decide(facts) {
            Ok(opinion) => Asked::Now(Ok(opinion)),
            Err(_) => Asked::Later(Box::pin(async {
                self.load(shared).await?;
                self.decide(facts)
            })),
        }
    }

    fn forget(&self) {
        // The rules that are known serve until they have been read anew.
        lock(&self.sources).files.iter_mut().for_each(|file| file.1 = None);
    }

    fn refresh<'a>(&'a self, shared: &'a Shared) -> Future<'a, ()> {
        Box::pin(async move {
            let files: Vec<_> = lock(&self.sources).files.iter().map(|(path, at, _)| (path.clone(), *at)).collect();
            for (at, (path, known)) in files.into_iter().enumerate() {
                let now = changed(&path);
                if now == known {
                    continue;
                }
                match read_file(&path) {
                    Ok(rules) if rules.len() <= MAX_RULES => {
                        tracing::info!(file = %path.display(), rules = rules.len(), "rules read anew");
                        lock(&self.sources).files[at] = (path, now, rules.into());
                    }
                    Ok(_) => {
                        tracing::error!(file = %path.display(), "more than {MAX_RULES} rules; those of before stay")
                    }
                    Err(error) => tracing::error!(reason = format!("{error:#}"), "the rules of before stay"),
                }
            }
            if self.ask_database
                && let Err(trouble) = self.load(shared).await
            {
                tracing::warn!(reason = %trouble, "policy_acl not read; the rules of before stay");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::rcpt;
    use mailsql_proto::policy::State;

    fn rules(text: &str) -> Vec<Rule> {
        text.lines().filter_map(|line| Rule::parse(line).unwrap()).collect()
    }

    fn opinion(rules: &[Rule], facts: &Facts<'_>) -> String {
        match decide(rules.iter(), facts) {
            None => "-".to_owned(),
            Some(Opinion::None) => "DUNNO".to_owned(),
            Some(Opinion::Pass) => "PASS".to_owned(),
            Some(Opinion::Act(action)) => action.as_str().to_owned(),
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(
            "# comment\n\
             client=192.0.2.0/24 recipient=@open.jp PASS\n\
             client=192.0.2.0/24   554 5.7.1 no = no\n\
             \n\
             sender=<> recipient=@a.jp REJECT no bounces\n\
             sender=@.spam.example REJECT\n\
             sender=news@ DUNNO\n\
             helo=.dyn.example DEFER\n\
             login=bob@a.jp HOLD\n\
             recipient=Info@A.jp OK\n",
        );
        for (client, login, sender, recipient, want) in [
            ("192.0.2.9", "", "x@y", "a@OPEN.jp", "PASS"),
            ("192.0.2.9", "", "x@y", "a@b.jp", "554 5.7.1 no = no"),
            ("192.0.3.9", "", "", "x@a.jp", "REJECT no bounces"),
            ("192.0.3.9", "", "", "x@b.jp", "-"),
            ("192.0.3.9", "", "x@mx.Spam.example", "x@b.jp", "REJECT"),
            ("192.0.3.9", "", "x@spam.example", "x@b.jp", "REJECT"),
            ("192.0.3.9", "", "x@nospam.example", "x@b.jp", "-"),
            ("192.0.3.9", "bob@a.jp", "NEWS@z", "x@b.jp", "DUNNO"),
            ("192.0.3.9", "BOB@a.jp", "bob@a.jp", "x@b.jp", "HOLD"),
            ("2001:db8::1", "", "bob@a.jp", "info@a.jp", "OK"),
        ] {
            let facts = rcpt(0, client, login, sender, recipient);
            assert_eq!(opinion(&rules, &facts), want, "{client} {login} {sender} {recipient}");
        }
        let facts = Facts { helo: b"host.DYN.example.", ..rcpt(0, "192.0.3.9", "", "x@y", "a@b") };
        assert_eq!(opinion(&rules, &facts), "DEFER");
    }

    #[test]
    fn before_mail_there_is_no_sender_not_even_the_null_one() {
        let rules = rules("sender=<> REJECT");
        for (state, want) in
            [(State::Connect, "-"), (State::Ehlo, "-"), (State::Mail, "REJECT"), (State::Data, "REJECT")]
        {
            let facts = Facts { state, ..rcpt(0, "192.0.2.1", "", "", "") };
            assert_eq!(opinion(&rules, &facts), want, "{state:?}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_meant_is_refused() {
        for line in [
            "REJECT",
            "client=here REJECT",
            "sender=bob REJECT",
            "sender=@ REJECT",
            "helo=*.x REJECT",
            "subject=x REJECT",
            "client=192.0.2.1",
            "client=192.0.2.1 450",
        ] {
            assert!(Rule::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_file_is_named_with_its_line() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("acl");
        std::fs::write(&path, "# x\nclient=192.0.2.1 REJECT\nclient=x REJECT\n").unwrap();
        let settings = Settings { files: vec![path.clone()], database: false, ..Settings::default() };
        let error = Acl::new(&settings).err().map(|error| format!("{error:#}")).unwrap();
        assert!(error.contains("acl:3: "), "{error}");
        std::fs::write(&path, "client=192.0.2.1 REJECT\n").unwrap();
        let acl = Acl::new(&settings).unwrap();
        let refused = acl.decide(&rcpt(0, "192.0.2.1", "", "x@y", "a@b")).unwrap();
        assert!(matches!(refused, Opinion::Act(_)));
        assert_eq!(acl.decide(&rcpt(0, "192.0.2.2", "", "x@y", "a@b")).unwrap(), Opinion::None);
        let with_database = Acl::new(&Settings { database: true, ..settings }).unwrap();
        assert!(with_database.decide(&rcpt(0, "192.0.2.2", "", "x@y", "a@b")).is_err(), "not read yet");
    }
}
