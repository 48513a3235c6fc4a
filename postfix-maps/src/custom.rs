//! Maps of the administrator's own, `[maps.custom.NAME]`: a statement, the keys it is asked with, and what becomes of its
//! values. As mysql_table(5), with bound parameters instead of `%s` in the statement.
//!
//! Which keys are tried for one that Postfix sends, first hit wins (`keys`):
//! - `exact`: the key.
//! - `address`: the address, the address without its detail, `@domain`. A key that is no address: as it is.
//! - `domain`: the domain (of an address: what follows the `@`), then each domain above it.
//! - `transport`: the address, without its detail, its domain, `.parent` for each domain above. (Postfix sends `*`
//!   itself.)
//!
//! Keys are in lower case. A statement that names `:domain` is not asked with a key that has none, one that names
//! `:local` not with an empty one. Values of all rows and columns are formatted one by one; an empty value, and one that
//! lacks what the format asks for, is left out. Nothing left is "not found".

use anyhow::{Result, bail};
use mailsql_config::{CustomMap, Keys};
use mailsql_core::resolve::Rules;
use mailsql_core::{Address, Directory, Unavailable, address};

/// A map of the administrator's own.
#[derive(Debug)]
pub(crate) struct Custom {
    /// The name by which Postfix asks for it.
    pub(crate) name: Box<str>,
    keys: Keys,
    format: Box<str>,
    domains: Box<[Box<str>]>,
    expansion_limit: usize,
    names_local: bool,
    names_domain: bool,
}

impl Custom {
    /// Reads one from the configuration.
    ///
    /// # Errors
    /// A line for the administrator.
    pub(crate) fn new(name: &str, map: &CustomMap) -> Result<Self> {
        let mut rest = map.result_format.chars();
        while let Some(c) = rest.next() {
            if c == '%' && !rest.next().is_some_and(|c| "sudSUD%123456789".contains(c)) {
                bail!("[maps.custom.{name}] result_format: % is followed by one of s u d S U D 1-9 %");
            }
        }
        Ok(Self {
            name: name.into(),
            keys: map.keys,
            format: map.result_format.as_str().into(),
            domains: map.domains.iter().flat_map(|domain| address::spellings(domain)).collect(),
            expansion_limit: map.expansion_limit,
            names_local: map.query.contains(":local"),
            names_domain: map.query.contains(":domain"),
        })
    }

    /// Looks a key up.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell, and for more values than are allowed.
    pub(crate) async fn look_up(
        &self,
        key: &str,
        directory: &dyn Directory,
        rules: &Rules,
    ) -> Result<Option<String>, Unavailable> {
        let key = key.to_lowercase();
        for form in self.forms(&key, rules) {
            if !self.suits(&form) {
                continue;
            }
            let Some(values) = directory.custom(&self.name, &form).await? else { continue };
            if self.expansion_limit != 0 && values.len() > self.expansion_limit {
                let (limit, count) = (self.expansion_limit, values.len());
                return Err(Unavailable::new(format!("{} values are more than expansion_limit = {limit}", count)));
            }
            let list: Vec<String> = values.iter().filter_map(|value| format(&self.format, value, &key)).collect();
            let list = list.join(",");
            if !list.is_empty() {
                return Ok(Some(list));
            }
        }
        Ok(None)
    }

    fn forms(&self, key: &str, rules: &Rules) -> Vec<String> {
        let parsed = Address::parse(key).ok();
        let mut forms = Vec::new();
        match (self.keys, &parsed) {
            (Keys::Exact, _) => forms.push(key.to_owned()),
            (Keys::Address, None) => forms.push(key.to_owned()),
            (Keys::Address | Keys::Transport, Some(address)) => {
                forms.push(address.as_str().to_owned());
                forms.extend(address.split_detail(&rules.delimiters).map(|(base, _)| base.as_str().to_owned()));
            }
            (Keys::Domain, _) | (Keys::Transport, None) => {}
        }
        let domain = parsed.as_ref().map_or(key, Address::domain);
        for domain in address::spellings(domain) {
            match self.keys {
                Keys::Exact => {}
                Keys::Address => forms.extend(parsed.is_some().then(|| format!("@{domain}"))),
                Keys::Domain | Keys::Transport => {
                    let skip = usize::from(self.keys == Keys::Domain);
                    forms.push(domain.to_string());
                    let dots = domain.match_indices('.').filter(|(at, _)| *at > 0);
                    forms.extend(dots.map(|(at, _)| domain[at + skip..].to_owned()).filter(|form| !form.is_empty()));
                }
            }
        }
        forms
    }

    /// Whether the statement can be asked with this key.
    fn suits(&self, form: &str) -> bool {
        let parts = form.rsplit_once('@');
        let bare_is_domain = matches!(self.keys, Keys::Domain | Keys::Transport);
        let domain = match parts {
            Some((_, domain)) => Some(domain),
            None => bare_is_domain.then_some(form.trim_start_matches('.')),
        };
        let local = parts.map_or(form, |(local, _)| local);
        (!self.names_domain || domain.is_some_and(|domain| !domain.is_empty()))
            && (!self.names_local || !local.is_empty())
            && (self.domains.is_empty() || domain.is_some_and(|domain| self.domains.iter().any(|own| **own == *domain)))
    }
}

/// A value in the form that is asked for; `None` where it is empty or lacks a part that is.
fn format(format: &str, value: &str, key: &str) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    if format == "%s" {
        return Some(value.to_owned());
    }
    let local = |text: &str| match text.rsplit_once('@') {
        Some((local, _)) => (!local.is_empty()).then(|| local.to_owned()),
        None => Some(text.to_owned()),
    };
    let domain =
        |text: &str| text.rsplit_once('@').map(|(_, domain)| domain.to_owned()).filter(|text| !text.is_empty());
    let label = |place: char| {
        let place = usize::try_from(place.to_digit(10)?).ok()?.checked_sub(1)?;
        let domain = key.rsplit_once('@').map_or(key, |(_, domain)| domain);
        domain.rsplit('.').nth(place).filter(|label| !label.is_empty()).map(str::to_owned)
    };
    let mut text = String::with_capacity(format.len() + value.len());
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match rest.next()? {
            's' => text.push_str(value),
            'u' => text.push_str(&local(value)?),
            'd' => text.push_str(&domain(value)?),
            'S' => text.push_str(key),
            'U' => text.push_str(&local(key)?),
            'D' => text.push_str(&domain(key)?),
            '%' => text.push('%'),
            place => text.push_str(&label(place)?),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(keys: Keys, query: &str, domains: &[&str]) -> Custom {
        let map = CustomMap {
            query: query.to_owned(),
            keys,
            result_format: "%s".to_owned(),
            domains: domains.iter().map(ToString::to_string).collect(),
            expansion_limit: 0,
        };
        Custom::new("x", &map).unwrap()
    }

    #[test]
    fn values_are_formatted_as_mysql_tables_do() {
        for (form, value, expected) in [
            ("%s", "a@b.c", Some("a@b.c")),
            ("lmtp:[%s]:24", "10.0.0.1", Some("lmtp:[10.0.0.1]:24")),
            ("%u at %d", "a@b.c", Some("a at b.c")),
            ("%u", "word", Some("word")),
            ("%d", "word", None),
            ("%S|%U|%D", "x", Some("user@mail.example.jp|user|mail.example.jp")),
            ("%3.%2.%1 %%", "x", Some("mail.example.jp %")),
            ("%4", "x", None),
            ("%s", "", None),
        ] {
            assert_eq!(format(form, value, "user@mail.example.jp").as_deref(), expected, "{form}");
        }
    }

    #[test]
    fn a_format_with_a_lonely_percent_sign_is_refused() {
        for form in ["%", "%x", "a%0", "%s%"] {
            let mut map = CustomMap {
                query: String::new(),
                keys: Keys::Exact,
                result_format: form.to_owned(),
                domains: Vec::new(),
                expansion_limit: 0,
            };
            assert!(Custom::new("x", &map).unwrap_err().to_string().contains("result_format"), "{form}");
            map.result_format = "%%".to_owned();
            assert!(Custom::new("x", &map).is_ok());
        }
    }

    #[test]
    fn keys_are_tried_in_their_order() {
        for (keys, key, expected) in [
            (Keys::Exact, "u+d@a.b.c", &["u+d@a.b.c"][..]),
            (Keys::Address, "u+d@b.c", &["u+d@b.c", "u@b.c", "@b.c"]),
            (Keys::Address, "bare", &["bare"]),
            (Keys::Domain, "u@a.b.c", &["a.b.c", "b.c", "c"]),
            (Keys::Domain, "b.c", &["b.c", "c"]),
            (Keys::Transport, "u+d@a.b", &["u+d@a.b", "u@a.b", "a.b", ".b"]),
            (Keys::Transport, "*", &["*"]),
        ] {
            assert_eq!(custom(keys, "", &[]).forms(key, &Rules::default()), expected, "{keys:?} {key}");
        }
    }

    #[test]
    fn a_statement_is_asked_only_with_keys_that_have_what_it_names() {
        for (keys, query, domains, form, expected) in [
            (Keys::Exact, ":key", &[][..], "bare", true),
            (Keys::Exact, ":local", &[], "bare", true),
            (Keys::Exact, ":local", &[], "@b.c", false),
            (Keys::Exact, ":domain", &[], "bare", false),
            (Keys::Domain, ":domain", &[], "b.c", true),
            (Keys::Address, ":key", &["B.c"], "u@b.c", true),
            (Keys::Address, ":key", &["b.c"], "u@x.c", false),
            (Keys::Address, ":key", &["b.c"], "bare", false),
            (Keys::Domain, ":key", &["b.c"], "b.c", true),
        ] {
            assert_eq!(custom(keys, query, domains).suits(form), expected, "{keys:?} {query} {form}");
        }
    }
}
