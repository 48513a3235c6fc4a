//! Logging in, and one prepared statement after the other.

use std::time::Instant;

use super::auth::{self, Plugin};
use super::binary::{Column, Reader, put_length, row};
use super::stream::{Stream, wipe};
use super::{COLUMNS_MAX, PACKET_MAX, Source, Unavailable};

/// LONG_PASSWORD, LONG_FLAG, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
const CAPABILITIES: u32 = 0x1 | 0x4 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
/// PROTOCOL_41 and SECURE_CONNECTION: without them there is no login we know.
const NEEDED: u32 = 0x200 | 0x8000;
/// utf8mb4_general_ci, known to every MySQL and MariaDB since 5.5.
const COLLATION: u8 = 45;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
/// Type of every parameter: VAR_STRING.
const TEXT: [u8; 2] = [253, 0];

/// A value of a row; `None` is NULL.
pub(super) type Value = Option<Vec<u8>>;

pub(super) struct Connection(Stream);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.quit();
    }
}

impl Connection {
    pub(super) fn open(source: &Source<'_>, until: Instant) -> Result<Self, Unavailable> {
        let mut connection = Self(Stream::connect(source.host, until)?);
        let stream = &mut connection.0;
        let packet = stream.receive()?;
        let greeting = Greeting::decode(&packet)?;
        // A server whose favourite we do not know will ask to switch.
        let plugin = greeting.plugin.unwrap_or(Plugin::Native);
        let password = source.password.as_bytes();
        let response = match plugin {
            Plugin::Ed25519 => Vec::new(),
            plugin => plugin.response(password, &greeting.nonce)?,
        };
        let mut out = Vec::new();
        out.extend_from_slice(&CAPABILITIES.to_le_bytes());
        out.extend_from_slice(&(PACKET_MAX as u32).to_le_bytes());
        out.push(COLLATION);
        out.extend_from_slice(&[0; 23]);
        out.extend_from_slice(source.user.as_bytes());
        out.push(0);
        out.push(response.len() as u8);
        out.extend_from_slice(&response);
        out.extend_from_slice(source.database.as_bytes());
        out.push(0);
        out.extend_from_slice(plugin.name().as_bytes());
        out.push(0);
        stream.send(&out)?;
        auth::complete(stream, plugin, &greeting.nonce, password)?;
        Ok(connection)
    }

    /// Run one statement with `values` bound in their order; at most `limit` rows, the rest is left unread and the
    /// connection with it of no further use.
    pub(super) fn rows(&mut self, sql: &str, values: &[&[u8]], limit: usize) -> Result<Vec<Vec<Value>>, Unavailable> {
        let (id, parameters, _) = self.prepare(sql)?;
        if parameters != values.len() {
            return Err(Unavailable::Protocol("another number of parameters than the query has"));
        }
        self.execute(id, values, limit)
    }

    /// Run one statement with `value` bound to each of its parameters.
    pub(super) fn rows_of(&mut self, sql: &str, value: &[u8], limit: usize) -> Result<Vec<Vec<Value>>, Unavailable> {
        let (id, parameters, _) = self.prepare(sql)?;
        self.execute(id, &vec![value; parameters], limit)
    }

    /// The names of the columns a query would answer, without running it.
    pub(super) fn columns(&mut self, sql: &str) -> Result<Vec<Vec<u8>>, Unavailable> {
        let (_, _, columns) = self.prepare(sql)?;
        Ok(columns.into_iter().map(|column| column.name).collect())
    }

    /// The statement, its number of parameters, its columns.
    fn prepare(&mut self, sql: &str) -> Result<(u32, usize, Vec<Column>), Unavailable> {
        self.0.begin();
        self.0.send(&[&[PREPARE], sql.as_bytes()].concat())?;
        let packet = self.0.receive()?;
        let mut reader = Reader(&packet);
        reader.take(1)?;
        let (id, columns, parameters) = (reader.u32()?, reader.u16()?.into(), reader.u16()?.into());
        self.definitions(parameters)?;
        Ok((id, parameters, self.definitions(columns)?))
    }

    /// Read so many definitions and the packet that ends them; none is not ended.
    fn definitions(&mut self, count: usize) -> Result<Vec<Column>, Unavailable> {
        if count > COLUMNS_MAX {
            return Err(Unavailable::Protocol("too many columns"));
        }
        let columns = (0..count).map(|_| Column::decode(&self.0.receive()?)).collect::<Result<Vec<_>, _>>()?;
        if count > 0 && !is_end(&self.0.receive()?) {
            return Err(Unavailable::Protocol("more columns than it announced"));
        }
        Ok(columns)
    }

    fn execute(&mut self, id: u32, values: &[&[u8]], limit: usize) -> Result<Vec<Vec<Value>>, Unavailable> {
        let size = values.iter().map(|value| value.len() + 16).sum::<usize>() + 32;
        let mut out = Vec::with_capacity(size);
        out.push(EXECUTE);
        out.extend_from_slice(&id.to_le_bytes());
        // No cursor, once.
        out.extend_from_slice(&[0, 1, 0, 0, 0]);
        if !values.is_empty() {
            out.resize(out.len() + values.len().div_ceil(8), 0);
            out.push(1);
            values.iter().for_each(|_| out.extend_from_slice(&TEXT));
            for value in values {
                put_length(&mut out, value.len());
                out.extend_from_slice(value);
            }
        }
        self.0.begin();
        let sent = self.0.send(&out);
        wipe(&mut out);
        sent?;
        let packet = self.0.receive()?;
        if packet.first() == Some(&0) {
            return Ok(Vec::new());
        }
        let count = Reader(&packet).length()?;
        let columns = self.definitions(count)?;
        let mut rows = Vec::new();
        loop {
            let mut packet = self.0.receive()?;
            if is_end(&packet) || rows.len() == limit {
                return Ok(rows);
            }
            rows.push(row(&packet, &columns)?);
            wipe(&mut packet);
        }
    }
}

/// EOF: rows and definitions that begin with 254 would be longer.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

/// What the server says first.
struct Greeting {
    nonce: Vec<u8>,
    plugin: Option<Plugin>,
}

impl Greeting {
    fn decode(packet: &[u8]) -> Result<Self, Unavailable> {
        let mut reader = Reader(packet);
        if reader.u8()? != 10 {
            return Err(Unavailable::Protocol("another protocol"));
        }
        // Version, thread.
        reader.until_nul()?;
        reader.u32()?;
        let mut nonce = reader.take(8)?.to_vec();
        reader.take(1)?;
        let low = u32::from(reader.u16()?);
        // Character set, status.
        reader.take(1 + 2)?;
        let capabilities = low | u32::from(reader.u16()?) << 16;
        if capabilities & NEEDED != NEEDED {
            return Err(Unavailable::Protocol("a protocol older than 4.1"));
        }
        // Length of the nonce, reserved.
        reader.take(1 + 10)?;
        nonce.extend_from_slice(reader.until_nul()?);
        let plugin = reader.until_nul().ok().and_then(Plugin::find);
        Ok(Self { nonce, plugin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_and_a_cut_or_old_one_refused() {
        let mut packet = b"\x0a5.5.5-10.11\0\x01\0\0\0abcdefgh\0".to_vec();
        packet.extend_from_slice(&[0xfe, 0xf7, 45, 2, 0, 0xff, 0x81, 21]);
        packet.extend_from_slice(&[0; 10]);
        packet.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        let greeting = Greeting::decode(&packet).unwrap();
        assert_eq!(greeting.nonce, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.plugin, Some(Plugin::Native));
        for end in 0..packet.len() - b"mysql_native_password\0".len() {
            assert!(Greeting::decode(&packet[..end]).is_err(), "{end}");
        }
        packet[0] = 9;
        assert!(Greeting::decode(&packet).is_err());
    }
}
