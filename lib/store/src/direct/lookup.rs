//! Queries made from pam_mysql's settings.
//!
//! Table, columns and conditions are text of the administrator and go into the query as they are, for they may be any
//! expression; a plain name (`users`, `mail.users`) is quoted, so that `password` or `group` may be one. What a user typed
//! is only ever bound.
//!
//! # The document's view
//! `emails(name, password)` of the document is `CONCAT(users.name, '@', domains.name)`, which no index serves: with
//! 100,000 accounts each login would read them all. Where the settings name that view and the database is the document's,
//! the base tables are asked by their unique keys instead. The view may have been changed to leave accounts out, so this is
//! done only when its definition can be read and has no condition, or, where our account may not read it (SELECT alone),
//! when the base tables have the document's columns and no other by which a view could choose. The whole address is
//! compared as well, so that the answer is one the view would give.

use super::Unavailable;
use super::connection::{Connection, Value};

/// Rows read: the second tells that the first is not the only one.
const ROWS: usize = 2;
/// The document's tables and its view.
const KINDS_MAX: usize = 3;

/// Which rows are accounts, in pam_mysql's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup<'a> {
    /// `table`: a table, a view or a join.
    pub table: &'a str,
    /// `usercolumn`.
    pub user_column: &'a str,
    /// `passwdcolumn`.
    pub password_column: &'a str,
    /// `statcolumn`; pam_mysql's default is the literal `0`.
    pub status_column: &'a str,
    /// `where`: a further condition; empty for none.
    pub condition: &'a str,
    /// `select`: the whole query instead, the name where `?`, `%u` or `%s` stands (in quotes or not), answering the
    /// password and perhaps the status; empty for none.
    pub select: &'a str,
}

/// One account's row.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Stored password; `None` is NULL.
    pub password: Option<Vec<u8>>,
    /// Status; `None` is NULL.
    pub status: Option<Vec<u8>>,
}

/// What was found for a name.
#[derive(Clone, PartialEq, Eq)]
pub enum Rows {
    /// Nobody.
    None,
    /// The account; and whether the document's base tables were asked instead of its view.
    One(Row, bool),
    /// More than one: nobody can tell which is meant.
    Many,
}

impl Lookup<'_> {
    pub(super) fn find(&self, connection: &mut Connection, database: &str, user: &[u8]) -> Result<Rows, Unavailable> {
        let direct = self.names_the_view() && is_the_documents(connection, database)?;
        let parts = if direct { split_address(user) } else { None };
        let rows = match (parts, self.select) {
            (Some((local, domain)), _) => connection.rows(BASE_TABLES, &[local, domain, user], ROWS)?,
            (None, "") => connection.rows_of(&self.query(), user, ROWS)?,
            (None, select) => connection.rows_of(&placeholders(select), user, ROWS)?,
        };
        let mut rows = rows.into_iter();
        Ok(match (rows.next(), rows.next()) {
            (None, _) => Rows::None,
            (Some(values), None) => Rows::One(Row::new(values), parts.is_some()),
            _ => Rows::Many,
        })
    }

    pub(super) fn update(&self, connection: &mut Connection, user: &[u8], hash: &[u8]) -> Result<(), Unavailable> {
        let sql =
            format!("UPDATE {} SET {} = ? WHERE {}", name(self.table), name(self.password_column), self.matching());
        connection.rows(&sql, &[hash, user], 0).map(drop)
    }

    fn query(&self) -> String {
        let (password, status) = (name(self.password_column), name(self.status_column));
        format!("SELECT {password}, {status} FROM {} WHERE {} LIMIT {ROWS}", name(self.table), self.matching())
    }

    fn matching(&self) -> String {
        let user = name(self.user_column);
        match self.condition {
            "" => format!("{user} = ?"),
            condition => format!("{user} = ? AND ({condition})"),
        }
    }

    fn names_the_view(&self) -> bool {
        let plain = |text: &str, wanted: &str| text.eq_ignore_ascii_case(wanted);
        plain(self.table, "emails")
            && plain(self.user_column, "name")
            && plain(self.password_column, "password")
            && self.status_column == "0"
            && self.condition.is_empty()
            && self.select.is_empty()
    }
}

impl Row {
    fn new(values: Vec<Value>) -> Self {
        let mut values = values.into_iter();
        let password = values.next().flatten();
        // A query of the administrator's own may have no status: then there is nothing against the account.
        let status = values.next().unwrap_or_else(|| Some(b"0".to_vec()));
        Self { password, status }
    }
}

const BASE_TABLES: &str = "SELECT users.password, 0 FROM users JOIN domains ON domains.id = users.domain_id \
     WHERE users.name = ? AND domains.name = ? AND CONCAT(users.name, '@', domains.name) = ? LIMIT 2";

const VIEW: &str = "SHOW CREATE VIEW emails";

const KINDS: &str = "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES \
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('domains', 'emails', 'users') ORDER BY TABLE_NAME";

/// Only prepared, never run: it names the columns and fails where our account may not read one of them.
const BASE_COLUMNS: &str = "SELECT domains.*, users.* FROM domains, users";

fn is_the_documents(connection: &mut Connection, database: &str) -> Result<bool, Unavailable> {
    /// Our account may not read how the view is made.
    const DENIED: u16 = 1142;
    match connection.rows(VIEW, &[], 1) {
        Ok(rows) => {
            let made = rows.into_iter().next().and_then(|row| row.into_iter().nth(1).flatten());
            return Ok(made.is_some_and(|made| is_the_documents_view(&made, database)));
        }
        Err(Unavailable::Server { code: DENIED, .. }) => {}
        // No such view, or a table: the query itself will say what is wrong, if anything is.
        Err(Unavailable::Server { .. }) => return Ok(false),
        Err(why) => return Err(why),
    }
    let kinds = connection.rows(KINDS, &[], KINDS_MAX)?;
    let kinds = kinds.iter().flatten().map(|value| value.as_deref().unwrap_or_default());
    let wanted = ["domains", "BASE TABLE", "emails", "VIEW", "users", "BASE TABLE"];
    if !kinds.eq(wanted.map(str::as_bytes)) {
        return Ok(false);
    }
    match connection.columns(BASE_COLUMNS) {
        Ok(mut columns) => {
            columns.sort();
            Ok(columns == ["domain_id", "id", "id", "name", "name", "password"].map(str::as_bytes))
        }
        Err(Unavailable::Server { .. }) => Ok(false),
        Err(why) => Err(why),
    }
}

/// What the server says the view is, less quotes, blanks, brackets and the name of our own database.
fn is_the_documents_view(made: &[u8], database: &str) -> bool {
    let text = String::from_utf8_lossy(made).to_lowercase();
    let Some((_, text)) = text.split_once(" view `emails` as ") else { return false };
    let own = format!("`{}`.", database.to_lowercase());
    let text = text.replace(&own, "").replace('`', "");
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || "(),=".contains(c)).filter(|word| !word.is_empty()).collect();
    let words = words.join(" ");
    ["domains.id users.domain_id", "users.domain_id domains.id"].iter().any(|on| {
        ["users join domains", "domains join users"].iter().any(|join| {
            let select = "select concat users.name '@' domains.name as name users.password as password";
            words == format!("{select} from {join} on {on}")
        })
    })
}

/// The part before the last `@` and the part behind it.
fn split_address(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = address.iter().rposition(|&b| b == b'@')?;
    Some((&address[..at], &address[at + 1..]))
}

/// Words that are plain names in form and something else in SQL.
const NO_NAMES: [&str; 8] =
    ["null", "true", "false", "dual", "current_user", "current_date", "current_time", "current_timestamp"];

/// A plain name, or two or three with dots between, in quotes; any other text as it is.
fn name(text: &str) -> String {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80)
            && !part.bytes().all(|b| b.is_ascii_digit())
    };
    let is_name = text.split('.').all(plain)
        && text.split('.').count() <= 3
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !NO_NAMES.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_name { format!("`{}`", text.replace('.', "`.`")) } else { text.to_owned() }
}

/// `'%u'`, `'%s'`, `%u` and `%s` as parameters.
fn placeholders(select: &str) -> String {
    ["'%u'", "'%s'", "\"%u\"", "\"%s\"", "%u", "%s"]
        .iter()
        .fold(select.to_owned(), |text, mark| text.replace(mark, "?"))
}

/// A row for pam_mysql's `sqllog`; the time is the server's NOW().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log<'a> {
    /// `logtable`.
    pub table: &'a str,
    /// Columns and their values, the log's time column apart.
    pub values: &'a [(&'a str, &'a [u8])],
    /// `logtimecolumn`.
    pub time_column: &'a str,
}

impl Log<'_> {
    pub(super) fn insert(&self, connection: &mut Connection) -> Result<(), Unavailable> {
        let values: Vec<&[u8]> = self.values.iter().map(|(_, value)| *value).collect();
        connection.rows(&self.query(), &values, 0).map(drop)
    }

    fn query(&self) -> String {
        let columns: String = self.values.iter().map(|(column, _)| format!("{}, ", name(column))).collect();
        let marks = "?, ".repeat(self.values.len());
        format!("INSERT INTO {} ({columns}{}) VALUES ({marks}NOW())", name(self.table), name(self.time_column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: Lookup<'static> = Lookup {
        table: "emails",
        user_column: "name",
        password_column: "password",
        status_column: "0",
        condition: "",
        select: "",
    };

    #[test]
    fn plain_names_are_quoted_and_expressions_left_alone() {
        for (text, sql) in [
            ("emails", "`emails`"),
            ("mail.users", "`mail`.`users`"),
            ("group", "`group`"),
            ("0", "0"),
            ("1.5", "1.5"),
            ("2fa", "2fa"),
            ("NULL", "NULL"),
            ("`a b`", "`a b`"),
            ("users.", "users."),
            ("", ""),
            ("users u JOIN domains d ON d.id = u.domain_id", "users u JOIN domains d ON d.id = u.domain_id"),
            ("CONCAT(name, '@', domain)", "CONCAT(name, '@', domain)"),
        ] {
            assert_eq!(name(text), sql);
        }
    }

    #[test]
    fn queries_hold_parameters_and_never_a_value() {
        assert_eq!(DOCUMENT.query(), "SELECT `password`, 0 FROM `emails` WHERE `name` = ? LIMIT 2");
        let other = Lookup { condition: "active = 1 OR 1", status_column: "st & 3", ..DOCUMENT };
        assert_eq!(
            other.query(),
            "SELECT `password`, st & 3 FROM `emails` WHERE `name` = ? AND (active = 1 OR 1) LIMIT 2"
        );
        for mark in ["?", "%u", "'%s'", "\"%u\""] {
            assert_eq!(placeholders(&format!("SELECT p FROM t WHERE n = {mark}")), "SELECT p FROM t WHERE n = ?");
        }
        let values: [(&str, &[u8]); 2] = [("msg", b"OPEN SESSION"), ("user", b"'; DROP")];
        let log = Log { table: "log", values: &values, time_column: "t" };
        assert_eq!(log.query(), "INSERT INTO `log` (`msg`, `user`, `t`) VALUES (?, ?, NOW())");
    }

    #[test]
    fn only_the_documents_settings_ask_the_base_tables() {
        assert!(DOCUMENT.names_the_view());
        for other in [
            Lookup { table: "users", ..DOCUMENT },
            Lookup { status_column: "st", ..DOCUMENT },
            Lookup { condition: "1", ..DOCUMENT },
            Lookup { select: "SELECT 1", ..DOCUMENT },
        ] {
            assert!(!other.names_the_view(), "{other:?}");
        }
    }

    #[test]
    fn a_view_with_a_condition_of_its_own_is_asked_itself() {
        let document = "CREATE ALGORITHM=UNDEFINED DEFINER=`root`@`localhost` SQL SECURITY DEFINER VIEW `emails` AS \
            select concat(`users`.`name`,'@',`domains`.`name`) AS `name`,`users`.`password` AS `password` \
            from (`users` join `domains` on(`domains`.`id` = `users`.`domain_id`))";
        let named = document.replace("`users`", "`mail`.`users`").replace("`domains`", "`mail`.`domains`");
        let mysql8 = document.replace("on(", "on((").replace("`))", "`)))");
        for made in [document, &named, &mysql8] {
            assert!(is_the_documents_view(made.as_bytes(), "mail"), "{made}");
        }
        for other in [
            format!("{document} where `users`.`enabled` = 1"),
            format!("{document} limit 5"),
            named.replace("`mail`", "`other`"),
            document.replace("join", "left join"),
            document.replace("'@'", "'%'"),
            document.replace("`.`password` AS", "`.`hash` AS"),
            String::new(),
        ] {
            assert!(!is_the_documents_view(other.as_bytes(), "mail"), "{other}");
        }
    }

    #[test]
    fn addresses_are_split_at_their_last_at_sign() {
        for (address, parts) in [
            ("info@example.jp", Some(("info", "example.jp"))),
            ("\"a@b\"@c", Some(("\"a@b\"", "c"))),
            ("@", Some(("", ""))),
            ("info", None),
        ] {
            let parts = parts.map(|(local, domain): (&str, &str)| (local.as_bytes(), domain.as_bytes()));
            assert_eq!(split_address(address.as_bytes()), parts);
        }
    }
}
