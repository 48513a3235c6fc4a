//! saslauthd's flags (saslauthd(8) of cyrus-sasl 2.1.28), and what each of them means here.

use crate::pam;
use clap::{ArgAction, Parser};
use mailsql_config::{Listen, ListenList, Saslauthd};
use mailsql_daemon::Detach;
use mailsql_daemon::detach::is_supervised;
use std::path::PathBuf;
use std::time::Duration;

/// Children of `-a pam` without `-n`; saslauthd's default.
pub(crate) const WORKERS: usize = 5;
/// Children of `-a pam` with `-n 0`, where saslauthd makes one a connection.
const MAX_WORKERS: usize = 64;
/// Bytes that saslauthd's cache takes for an entry: what `-s` counts in.
const CACHE_ENTRY: u64 = 100;
/// Entries of the smallest cache.
const MIN_ENTRIES: usize = 64;
/// Mechanisms that some saslauthd has.
const OTHERS: [&str; 10] =
    ["sasldb", "getpwent", "kerberos4", "kerberos5", "rimap", "shadow", "ldap", "sia", "dce", "httpform"];

/// Answer libsasl2's password checks (saslauthd's protocol) from the mailsql account database, or from PAM.
///
/// Takes saslauthd's own flags, so that it can stand in for it in /etc/default/saslauthd or /etc/sysconfig/saslauthd.
#[derive(Parser)]
#[command(name = "saslauthd-rs", disable_version_flag = true)]
pub(crate) struct Arguments {
    /// Authentication mechanism: mailsql or pam
    #[arg(short = 'a', value_name = "MECH", default_value = "mailsql")]
    pub(crate) mechanism: String,
    /// For mailsql the configuration file; for pam timeout=SECONDS
    #[arg(short = 'O', value_name = "OPTION", conflicts_with = "config")]
    pub(crate) option: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "MAILSQL_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the mux socket and of saslauthd.pid
    #[arg(short = 'm', value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Requests worked on at once (pam: child processes); 0 for as many as there are connections (pam: 64)
    #[arg(short = 'n', value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Join login and realm with @ (mailsql: always, unless the configuration says combine_realm = false)
    #[arg(short = 'r')]
    pub(crate) combine_realm: bool,
    /// Remember right passwords (mailsql only: what PAM says may depend on more than the password)
    #[arg(short = 'c')]
    pub(crate) cache: bool,
    /// Seconds for which they are remembered
    #[arg(short = 't', value_name = "SECONDS")]
    pub(crate) cache_time: Option<u64>,
    /// Size of the cache in kilobytes
    #[arg(short = 's', value_name = "KILOBYTES")]
    pub(crate) cache_size: Option<u64>,
    /// No accept lock; there is none
    #[arg(short = 'l')]
    no_lock: bool,
    /// Honour login times; PAM modules always do
    #[arg(short = 'T')]
    login_times: bool,
    /// Server of the mechanism rimap, which is not here
    #[arg(short = 'H', value_name = "HOST")]
    remote: Option<String>,
    /// Stay in the foreground and log every step
    #[arg(short = 'd')]
    pub(crate) debug: bool,
    /// Stay in the foreground (always so under systemd)
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Log every decision, accepted logins too
    #[arg(short = 'V')]
    pub(crate) verbose: bool,
    /// Print the version and the mechanisms
    #[arg(short = 'v', action = ArgAction::SetTrue)]
    pub(crate) version: bool,
}

/// Who knows the passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// The account database.
    Mailsql,
    /// PAM.
    Pam,
}

impl Mechanism {
    pub(crate) fn find(name: &str) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "mailsql" => Ok(Self::Mailsql),
            "pam" => Ok(Self::Pam),
            other if OTHERS.contains(&other) => Err(format!(
                "the mechanism {other} of saslauthd is not here; there are: mailsql, and pam with any module"
            )),
            _ => Err(format!("unknown mechanism {name:?}; there are: mailsql pam")),
        }
    }
}

impl Arguments {
    /// Puts what the flags say into a section.
    pub(crate) fn apply(&self, section: &mut Saslauthd) -> Result<(), String> {
        if let Some(host) = &self.remote {
            return Err(format!("-H {host}: the mechanism rimap is not here"));
        }
        if let Some(directory) = &self.directory {
            if !directory.is_absolute() {
                return Err(format!("-m {}: the directory's path must begin with /", directory.display()));
            }
            // As saslauthd: the directory is made if it can be. What is wrong with it shows when the socket is made.
            let _ = std::fs::create_dir_all(directory);
            section.listen = ListenList::unix(directory.join("mux"));
        }
        section.combine_realm |= self.combine_realm;
        match (self.threads, self.mechanism.eq_ignore_ascii_case("pam")) {
            (Some(0), true) => section.concurrency = MAX_WORKERS,
            (Some(0), false) => section.concurrency = section.max_connections,
            (Some(threads), _) => section.concurrency = threads,
            (None, _) => {}
        }
        Ok(())
    }

    /// Entries of the cache that `-s` asks for.
    pub(crate) fn cache_entries(&self) -> Option<usize> {
        let entries = self.cache_size?.saturating_mul(1024) / CACHE_ENTRY;
        Some(usize::try_from(entries).unwrap_or(usize::MAX).clamp(MIN_ENTRIES, 1 << 24))
    }

    /// The log level that the flags ask for.
    pub(crate) fn level(&self) -> Option<String> {
        match (self.debug, self.verbose) {
            (true, _) => Some("debug".to_owned()),
            (false, true) => Some("info".to_owned()),
            (false, false) => None,
        }
    }

    /// What a login by PAM may take.
    pub(crate) fn pam_deadline(&self) -> Result<Duration, String> {
        let Some(option) = &self.option else { return Ok(pam::DEADLINE) };
        let seconds = option.strip_prefix("timeout=").and_then(|text| text.parse().ok());
        let seconds = seconds.filter(|seconds| (1..=600).contains(seconds));
        seconds.map(Duration::from_secs).ok_or_else(|| format!("-O {option}: -a pam takes timeout=SECONDS, 1 to 600"))
    }

    /// Into the background, unless told or supervised otherwise; the file with our number lies beside the mux.
    pub(crate) fn detach(&self, section: &Saslauthd) -> Option<Detach> {
        if self.debug || self.foreground || is_supervised() {
            return None;
        }
        let mux = section.listen.0.iter().find_map(|listen| match listen {
            Listen::Unix(path, _) => path.parent(),
            Listen::Tcp(_) => None,
        });
        Some(Detach { pid_file: mux.map(|folder| folder.join("saslauthd.pid")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(["saslauthd-rs"].into_iter().chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn what_the_start_scripts_of_debian_and_rhel_compose_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().display();
        for line in [
            format!("-a pam -c -m {run} -n 5"),
            format!("-a pam -r -c -m {run} -n 5"),
            format!("-m {run} -a pam -r"),
            format!("-a mailsql -O /etc/mailsql/mailsql.toml -c -s 128 -t 3600 -l -T -V -m {run}/deeper -n 0"),
        ] {
            let arguments = parse(&line);
            let mut section = Saslauthd::default();
            arguments.apply(&mut section).unwrap();
            let Listen::Unix(mux, _) = &section.listen.0[0] else { panic!("{line}") };
            assert!(mux.starts_with(folder.path()) && mux.ends_with("mux"), "{line}");
            assert!(mux.parent().is_some_and(Path::is_dir), "{line}");
        }
        let arguments = parse("-a mailsql -s 100 -n 7");
        let mut section = Saslauthd::default();
        arguments.apply(&mut section).unwrap();
        assert_eq!((section.concurrency, arguments.cache_entries()), (7, Some(1024)));
    }

    #[test]
    fn mechanisms_are_refused_by_name() {
        assert_eq!(Mechanism::find("PAM"), Ok(Mechanism::Pam));
        assert_eq!(Mechanism::find("mailsql"), Ok(Mechanism::Mailsql));
        for (name, expected) in
            [("ldap", "ldap of saslauthd is not here"), ("RIMAP", "rimap of"), ("x", "unknown mechanism \"x\"")]
        {
            assert!(Mechanism::find(name).unwrap_err().contains(expected), "{name}");
        }
        for (line, expected) in [("-H mail.example.org", "rimap"), ("-m relative", "begin with /")] {
            let error = parse(line).apply(&mut Saslauthd::default()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn pam_takes_a_deadline() {
        assert_eq!(parse("-a pam").pam_deadline(), Ok(pam::DEADLINE));
        assert_eq!(parse("-a pam -O timeout=3").pam_deadline(), Ok(Duration::from_secs(3)));
        for option in ["timeout=0", "timeout=x", "/etc/x"] {
            assert!(parse(&format!("-a pam -O {option}")).pam_deadline().is_err(), "{option}");
        }
    }
}
