//! One line of the ask protocol: framing, fields and escapes; the grammar stands in the parent module.

use super::{Account, Group, Malformed, Reply};

const MAGIC: &[u8] = b"mailsql";
const VERSION: &[u8] = b"1";

/// Length of the first line of `buffer` with its LF, `None` when more bytes are needed.
///
/// # Errors
/// [`Malformed::TooLong`] as soon as the line cannot end within `limit` bytes.
pub fn line(buffer: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
    match buffer.iter().take(limit).position(|&b| b == b'\n') {
        Some(at) => Ok(Some(at + 1)),
        None if buffer.len() >= limit => Err(Malformed::TooLong),
        None => Ok(None),
    }
}

/// The fields of a line, unescaped, in their order.
pub(super) struct Fields<'a>(Vec<(&'a [u8], &'a [u8])>);

pub(super) fn open<'a>(line: &'a mut [u8], limit: usize, fields: usize) -> Result<(&'a [u8], Fields<'a>), Malformed> {
    if line.len() > limit {
        return Err(Malformed::TooLong);
    }
    let line = match line {
        [rest @ .., b'\n'] => rest,
        line => line,
    };
    let mut parts = line.split_mut(|&b| b == b'\t');
    if parts.next().is_none_or(|part| part != MAGIC) {
        return Err(Malformed::Magic);
    }
    if parts.next().is_none_or(|part| part != VERSION) {
        return Err(Malformed::Version);
    }
    let word: &'a [u8] = parts.next().ok_or(Malformed::Word)?;
    let mut found = Vec::new();
    for part in parts {
        if found.len() == fields {
            return Err(Malformed::TooManyFields);
        }
        let equals = part.iter().position(|&b| b == b'=').ok_or(Malformed::Field)?;
        let (key, value) = part.split_at_mut(equals);
        found.push((&*key, unescape(&mut value[1..])?));
    }
    Ok((word, Fields(found)))
}

impl<'a> Fields<'a> {
    pub(super) fn find(&mut self, key: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        let mut of_key = self.0.iter().filter(|(k, _)| *k == key.as_bytes());
        let value = of_key.next().map(|(_, value)| *value);
        if of_key.next().is_some() { Err(Malformed::Count(key)) } else { Ok(value) }
    }

    pub(super) fn need(&mut self, key: &'static str) -> Result<&'a [u8], Malformed> {
        self.find(key)?.ok_or(Malformed::Missing(key))
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<&'a [u8], Malformed> {
        Ok(self.find(key)?.unwrap_or_default())
    }

    fn all(&self, key: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(k, _)| *k == key.as_bytes()).map(|(_, value)| *value)
    }

    /// What stands behind `ok`: its first key tells.
    pub(super) fn answer(mut self) -> Result<Reply, Malformed> {
        let Some(&(first, value)) = self.0.first() else { return Ok(Reply::Done) };
        Ok(match first {
            b"user" => Reply::Account(self.account()?),
            b"name" => Reply::Group(Group {
                name: self.need("name")?.to_vec(),
                gid: number(self.need("gid")?, "gid")?,
                members: self.all("member").map(<[u8]>::to_vec).collect(),
            }),
            b"groups" => {
                let gids = self.all("gid").map(|gid| number(gid, "gid")).collect::<Result<Vec<u32>, _>>()?;
                if gids.len() != number::<usize>(value, "groups")? {
                    return Err(Malformed::Count("gid"));
                }
                Reply::Groups(gids)
            }
            b"entries" => {
                let more = number::<u8>(self.need("more")?, "more")? != 0;
                let mut accounts = Vec::new();
                let begins = |field: &(&[u8], &[u8])| field.0 == b"user";
                let mut rest = self.0.iter().position(begins).map_or(&[][..], |at| &self.0[at..]);
                while let [_, tail @ ..] = rest {
                    let end = 1 + tail.iter().position(begins).unwrap_or(tail.len());
                    accounts.push(Fields(rest[..end].to_vec()).account()?);
                    rest = &rest[end..];
                }
                if accounts.len() != number::<usize>(value, "entries")? {
                    return Err(Malformed::Count("entries"));
                }
                Reply::List { accounts, more }
            }
            b"text" => Reply::Text(self.need("text")?.to_vec()),
            _ => Reply::Done,
        })
    }

    fn account(&mut self) -> Result<Account, Malformed> {
        Ok(Account {
            user: self.need("user")?.to_vec(),
            home: self.need("home")?.to_vec(),
            uid: number(self.need("uid")?, "uid")?,
            gid: number(self.need("gid")?, "gid")?,
            maildir: self.need("maildir")?.to_vec(),
            quota: self.find("quota")?.map(|quota| number(quota, "quota")).transpose()?,
        })
    }
}

/// Decimal digits only: no sign, no blanks.
pub(super) fn number<T: std::str::FromStr>(digits: &[u8], key: &'static str) -> Result<T, Malformed> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(Malformed::Number(key))
}

/// Unescape in place; the result is the front of the same memory.
fn unescape(value: &mut [u8]) -> Result<&[u8], Malformed> {
    let (mut from, mut to) = (0, 0);
    while from < value.len() {
        value[to] = match value[from] {
            b'\\' => {
                from += 1;
                match value.get(from) {
                    Some(b'\\') => b'\\',
                    Some(b't') => b'\t',
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b'0') => 0,
                    _ => return Err(Malformed::Escape),
                }
            }
            b'\r' | b'\n' | 0 => return Err(Malformed::Escape),
            byte => byte,
        };
        from += 1;
        to += 1;
    }
    Ok(&value[..to])
}

/// Appends one line, never beyond its limit.
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    limit: usize,
    full: bool,
}

impl<'o> Writer<'o> {
    pub(super) fn open(out: &'o mut Vec<u8>, word: &str, limit: usize) -> Self {
        let start = out.len();
        let mut writer = Self { out, start, limit, full: false };
        for part in [MAGIC, b"\t", VERSION, b"\t", word.as_bytes()] {
            writer.raw(part);
        }
        writer
    }

    fn raw(&mut self, bytes: &[u8]) {
        // One byte stays free for the LF.
        if self.full || self.out.len() - self.start + bytes.len() >= self.limit {
            self.full = true;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    pub(super) fn put(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.raw(b"\t");
        self.raw(key.as_bytes());
        self.raw(b"=");
        for plain in value.split_inclusive(|b| b"\\\t\n\r\0".contains(b)) {
            let (body, escape): (&[u8], &[u8]) = match plain {
                [body @ .., b'\\'] => (body, b"\\\\"),
                [body @ .., b'\t'] => (body, b"\\t"),
                [body @ .., b'\n'] => (body, b"\\n"),
                [body @ .., b'\r'] => (body, b"\\r"),
                [body @ .., 0] => (body, b"\\0"),
                body => (body, b""),
            };
            self.raw(body);
            self.raw(escape);
        }
        self
    }

    pub(super) fn put_some(&mut self, key: &str, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.put(key, value) }
    }

    pub(super) fn put_option(&mut self, key: &str, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    pub(super) fn put_number(&mut self, key: &str, value: u64) -> &mut Self {
        self.put(key, value.to_string().as_bytes())
    }

    pub(super) fn put_account(&mut self, account: &Account) {
        self.put("user", &account.user).put("home", &account.home);
        self.put_number("uid", account.uid.into()).put_number("gid", account.gid.into());
        self.put("maildir", &account.maildir);
        if let Some(quota) = account.quota {
            self.put_number("quota", quota);
        }
    }

    pub(super) fn close(self) -> Result<(), Malformed> {
        if self.full {
            // Zeroes first: what did not fit may have been half a password.
            self.out[self.start..].fill(0);
            self.out.truncate(self.start);
            return Err(Malformed::TooLong);
        }
        self.out.push(b'\n');
        Ok(())
    }
}
