//! Arguments and configuration file: pam_mysql 0.8.2's, the names its master branch adds, and ours.
//!
//! ```text
//! argument = name ["=" value]                    no "=": empty value, which is true for a switch
//! file     = *(line (LF / ";"))
//! line     = "#" comment                         only where a line begins
//!          / key blanks "=" blanks value         value up to ";", CR or LF, trailing blanks its own
//! switch   = false for 0, n, no, false in any case; anything else is true, "off" too
//! ```
//! The file is read after the arguments on every call and wins over them. A file that is missing, or a line that cannot be
//! read, is no error to pam_mysql (reading stops there), so it is none here, but it is logged. Unknown names are ignored.
//!
//! # Arguments last
//! As with pam_mysql, what the `auth` line said holds for the later `account`, `session` and `password` calls of the same
//! transaction unless they say otherwise: many service files rely on it. Two lines with this module share what they say.
//!
//! # Limits
//! A file is read up to [`FILE_MAX`] bytes. Values that are not UTF-8 are left out and logged.
//!
//! # Security
//! Values are wiped, never logged. A service file is readable by everybody: keep the database password in `config_file`.
//!
//! Source: pam_mysql 0.8.2 (Debian 0.8.2-2+deb12u1) and its README.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::host::{Host, Level, Secret};

/// Most bytes read of a configuration file.
pub(crate) const FILE_MAX: u64 = 64 * 1024;
/// Longest deadline that `timeout` may set.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Longest delay that `fail_delay` may ask for.
pub(crate) const FAIL_DELAY_MAX: Duration = Duration::from_secs(10);

/// Every argument and its key in the file ("" has none).
const OPTIONS: [(&str, &str); 42] = [
    ("host", "users.host"),
    ("db", "users.database"),
    ("user", "users.db_user"),
    ("passwd", "users.db_passwd"),
    ("table", "users.table"),
    ("update_table", "users.update_table"),
    ("usercolumn", "users.user_column"),
    ("passwdcolumn", "users.password_column"),
    ("statcolumn", "users.status_column"),
    ("where", "users.where_clause"),
    ("crypt", "users.password_crypt"),
    ("md5", "users.use_md5"),
    ("use_323_passwd", "users.use_323_password"),
    ("nullok", "nullok"),
    ("use_first_pass", ""),
    ("try_first_pass", ""),
    ("disconnect_every_op", "users.disconnect_every_operation"),
    ("verbose", "verbose"),
    ("config_file", ""),
    ("sqllog", "log.enabled"),
    ("logtable", "log.table"),
    ("logmsgcolumn", "log.message_column"),
    ("logusercolumn", "log.user_column"),
    ("logpidcolumn", "log.pid_column"),
    ("loghostcolumn", "log.host_column"),
    ("logrhostcolumn", "log.rhost_column"),
    ("logtimecolumn", "log.time_column"),
    // The master branch of pam_mysql.
    ("select", "users.select"),
    ("sha256", "users.use_sha256"),
    ("sha512", "users.use_sha512"),
    ("blowfish", "users.use_blowfish"),
    ("rounds", "users.rounds"),
    ("ssl_mode", "users.ssl_mode"),
    ("ssl_cert", "users.ssl_cert"),
    ("ssl_key", "users.ssl_key"),
    ("ssl_ca", "users.ssl_ca"),
    ("ssl_capath", "users.ssl_capath"),
    ("ssl_cipher", "users.ssl_cipher"),
    // Ours.
    ("socket", ""),
    ("timeout", ""),
    ("fail_delay", ""),
    // As other modules have it: the new password comes from the module before us.
    ("use_authtok", ""),
];

/// What this call was told, by argument name.
#[derive(Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Zeroizing<String>>,
    unknown: Vec<String>,
    skipped: Vec<&'static str>,
}

impl Settings {
    /// The arguments of earlier calls, of this one, then the file; what is now known stays with the transaction.
    pub(crate) fn find(host: &mut dyn Host, arguments: &[&[u8]]) -> Self {
        let mut settings = Self::default();
        let mut kept = host.remembered();
        for argument in &kept {
            settings.argument(argument);
        }
        for argument in arguments {
            settings.argument(argument);
            // A name given again replaces what was kept, or each call would make the list longer.
            let name = |text: &[u8]| text.split(|&b| b == b'=').next().unwrap_or_default().to_vec();
            kept.retain(|old| name(old) != name(argument));
            kept.push(Secret::new(argument.to_vec()));
        }
        host.remember(kept);
        if let Some(path) = settings.text("config_file").map(str::to_owned) {
            let told = settings.file(&path);
            if let Err(why) = told {
                host.log(Level::Error, &format!("config_file={} was not read to its end: {why}", path.escape_debug()));
            }
        }
        if settings.flag("verbose", false) {
            for name in std::mem::take(&mut settings.unknown) {
                host.log(Level::Debug, &format!("argument {} is unknown and ignored", name.escape_debug()));
            }
        }
        for name in std::mem::take(&mut settings.skipped) {
            host.log(Level::Error, &format!("the value of {name} is not UTF-8 and left out"));
        }
        settings
    }

    /// A value that is not empty.
    // Inlined, it is compiled to look at the length of a value that is absent (and to ignore what it saw), which valgrind
    // reports in every host.
    #[inline(never)]
    pub(crate) fn text(&self, name: &'static str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A switch.
    pub(crate) fn flag(&self, name: &'static str, default: bool) -> bool {
        self.values.get(name).map_or(default, |value| is_true(value))
    }

    /// A duration: `500ms`, `3s`, or seconds as a bare number; at most `max`. Anything else is the default.
    pub(crate) fn duration(&self, name: &'static str, default: Duration, max: Duration) -> Duration {
        self.text(name).and_then(parse_duration).unwrap_or(default).min(max)
    }

    /// Whether pam_mysql's own settings are given, so that the database is to be asked by ourselves.
    pub(crate) fn is_direct(&self) -> bool {
        ["user", "db", "config_file"].iter().any(|name| self.values.contains_key(name))
    }

    fn argument(&mut self, argument: &[u8]) {
        let (name, value) = match argument.iter().position(|&b| b == b'=') {
            Some(at) => (&argument[..at], &argument[at + 1..]),
            None => (argument, &[][..]),
        };
        // An alias of theirs.
        let name = if name == b"debug" { b"verbose" } else { name };
        match OPTIONS.iter().find(|(option, _)| option.as_bytes() == name) {
            Some(&(option, _)) => self.set(option, value),
            // Only the name: the value may be a misspelt password.
            None => self.unknown.push(String::from_utf8_lossy(name).into_owned()),
        }
    }

    fn set(&mut self, option: &'static str, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(value) => {
                self.values.insert(option, Zeroizing::new(value.to_owned()));
            }
            Err(_) => self.skipped.push(option),
        }
    }

    fn file(&mut self, path: &str) -> Result<(), String> {
        let mut text = Zeroizing::new(Vec::new());
        let file = File::open(path).map_err(|error| error.to_string())?;
        // Not a byte more is read, so a device or a log given by mistake does no harm.
        text.reserve(FILE_MAX as usize + 1);
        file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
        if text.len() as u64 > FILE_MAX {
            return Err(format!("longer than {FILE_MAX} bytes"));
        }
        self.lines(&text).map_err(|line| format!("line {line} is none of ours"))
    }

    /// Read the file's text; the number of the line where reading had to stop.
    fn lines(&mut self, text: &[u8]) -> Result<(), usize> {
        for (number, line) in text.split(|&b| b == b'\n').enumerate() {
            if line.first() == Some(&b'#') {
                continue;
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // Only a line's end may follow a ";".
            let statement = line.split(|&b| b == b';' || b == b'\r').next().unwrap_or_default();
            let rest = line.get(statement.len()..).unwrap_or_default().trim_ascii();
            if statement.trim_ascii().is_empty() && rest.is_empty() {
                continue;
            }
            let equals = statement.iter().position(|&b| b == b'=').ok_or(number + 1)?;
            let key = statement[..equals].trim_ascii();
            if key.is_empty() || key.iter().any(|b| b.is_ascii_whitespace()) || !(rest.is_empty() || rest == b";") {
                return Err(number + 1);
            }
            if let Some(&(option, _)) = OPTIONS.iter().find(|(_, name)| !name.is_empty() && name.as_bytes() == key) {
                self.set(option, statement[equals + 1..].trim_ascii_start());
            }
        }
        Ok(())
    }
}

fn is_true(value: &str) -> bool {
    !["0", "n", "no", "false"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let duration = match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse().ok()?),
        None => Duration::from_secs(text.strip_suffix('s').unwrap_or(text).parse().ok()?),
    };
    Some(duration).filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    fn shown(settings: &Settings) -> String {
        settings.values.iter().map(|(name, value)| format!("{name}={} ", value.as_str())).collect()
    }

    #[test]
    fn every_argument_of_pam_mysql_is_known_with_its_key() {
        let mut settings = Settings::default();
        for (option, key) in OPTIONS {
            settings.argument(format!("{option}=A").as_bytes());
            assert_eq!(settings.text(option), Some("A"));
            if !key.is_empty() {
                assert_eq!(settings.lines(format!("{key} = F\n").as_bytes()), Ok(()));
                assert_eq!(settings.text(option), Some("F"), "{key}");
            }
        }
        assert!(settings.unknown.is_empty());
    }

    #[test]
    fn switches_are_false_for_four_words_only() {
        for (argument, value) in [
            ("nullok", true),
            ("nullok=", true),
            ("nullok=1", true),
            ("nullok=off", true),
            ("nullok=0", false),
            ("nullok=N", false),
            ("nullok=No", false),
            ("nullok=FALSE", false),
        ] {
            let mut settings = Settings::default();
            settings.argument(argument.as_bytes());
            assert_eq!(settings.flag("nullok", !value), value, "{argument}");
        }
        assert!(Settings::default().flag("try_first_pass", true));
    }

    #[test]
    fn a_file_is_read_as_pam_mysql_reads_it() {
        for (text, stop, values) in [
            ("users.host=h\nusers.db_user \t= \tu \n", Ok(()), "host=h user=u  "),
            ("# users.host=h\nusers.host=a=b#c\n", Ok(()), "host=a=b#c "),
            ("users.host=a;\r\nusers.database=d\r\n\n", Ok(()), "db=d host=a "),
            ("users.host=\nno.such=1\nverbose=1", Ok(()), "host= verbose=1 "),
            (" #no comment\nusers.host=h\n", Err(1), ""),
            ("users.host=h\nbroken line\nusers.database=d", Err(2), "host=h "),
            ("users.host=h; users.database=d\n", Err(1), ""),
            ("use_first_pass=1\n=x\n", Err(2), ""),
        ] {
            let mut settings = Settings::default();
            assert_eq!(settings.lines(text.as_bytes()), stop, "{text:?}");
            assert_eq!(shown(&settings), values, "{text:?}");
        }
    }

    #[test]
    fn the_file_wins_and_arguments_last_through_the_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pam.conf");
        std::fs::write(&path, "users.db_user = fromfile\nusers.db_passwd = s3cret\nnonsense\n").unwrap();
        let config = format!("config_file={}", path.display());
        let mut host = Script::new();
        let settings = Settings::find(&mut host, &[b"user=fromargs", config.as_bytes(), b"debug", b"colour=puce"]);
        assert_eq!((settings.text("user"), settings.text("passwd")), (Some("fromfile"), Some("s3cret")));
        assert!(settings.is_direct());
        let log = host.logged();
        assert!(log.contains("line 3 is none of ours") && log.contains("argument colour is unknown"), "{log}");
        assert!(!log.contains("s3cret") && !log.contains("puce"), "{log}");

        let settings = Settings::find(&mut host, &[b"user=again", b"nullok"]);
        assert_eq!((settings.text("user"), settings.text("passwd")), (Some("fromfile"), Some("s3cret")));
        assert!(settings.flag("verbose", false) && settings.flag("nullok", false));
        let kept = host.remembered().iter().map(|a| String::from_utf8(a.to_vec()).unwrap()).collect::<Vec<_>>();
        assert_eq!(kept, [config.as_str(), "debug", "colour=puce", "user=again", "nullok"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_logged_and_otherwise_ignored() {
        for path in ["/nonexistent/pam.conf", "/dev/zero", "/"] {
            let mut host = Script::new();
            let settings = Settings::find(&mut host, &[format!("config_file={path}").as_bytes(), b"db=mail"]);
            assert_eq!(settings.text("db"), Some("mail"));
            assert!(host.logged().contains("was not read to its end"), "{path}");
        }
    }

    #[test]
    fn durations_are_bounded_and_nonsense_is_the_default() {
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2000),
            ("7", 7000),
            ("0", 3000),
            ("-1", 3000),
            ("soon", 3000),
            ("1h", 3000),
            ("999", 60_000),
        ] {
            let mut settings = Settings::default();
            settings.argument(format!("timeout={text}").as_bytes());
            let read = settings.duration("timeout", Duration::from_secs(3), TIMEOUT_MAX);
            assert_eq!(read, Duration::from_millis(millis), "{text}");
        }
    }
}
