//! Reading the server's packets without trusting them, and values of the binary protocol as the text their SQL would
//! print.

use super::Unavailable;

const CUT: Unavailable = Unavailable::Protocol("a packet that ends early");

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Unavailable> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(CUT)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unavailable> {
        let (head, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Unavailable> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Unavailable> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Unavailable> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn until_nul(&mut self) -> Result<&'a [u8], Unavailable> {
        let end = self.0.iter().position(|&b| b == 0).ok_or(CUT)?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    pub(super) fn length(&mut self) -> Result<usize, Unavailable> {
        let length = match self.u8()? {
            small @ 0..=0xfa => small.into(),
            0xfc => self.u16()?.into(),
            0xfd => self.array().map(|[a, b, c]| u64::from(u32::from_le_bytes([a, b, c, 0])))?,
            0xfe => self.array().map(u64::from_le_bytes)?,
            _ => return Err(CUT),
        };
        usize::try_from(length).map_err(|_| CUT)
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8], Unavailable> {
        let length = self.length()?;
        self.take(length)
    }
}

/// What we need of a column: its name, and how its values are written.
pub(super) struct Column {
    pub(super) name: Vec<u8>,
    kind: u8,
    unsigned: bool,
}

impl Column {
    const UNSIGNED: u16 = 32;

    pub(super) fn decode(packet: &[u8]) -> Result<Self, Unavailable> {
        let mut reader = Reader(packet);
        // Catalog, schema, table, original table; then the name and what it was called in its table.
        for _ in 0..4 {
            reader.text()?;
        }
        let name = reader.text()?.to_vec();
        reader.text()?;
        // Length of what follows, character set, display length.
        reader.take(1 + 2 + 4)?;
        Ok(Self { name, kind: reader.u8()?, unsigned: reader.u16()? & Self::UNSIGNED != 0 })
    }

    /// One value that is not NULL, as text.
    pub(super) fn value(&self, reader: &mut Reader<'_>) -> Result<Vec<u8>, Unavailable> {
        let text = match (self.kind, self.unsigned) {
            (1, false) => i8::from_le_bytes(reader.array()?).to_string(),
            (1, true) => u8::from_le_bytes(reader.array()?).to_string(),
            (2 | 13, false) => i16::from_le_bytes(reader.array()?).to_string(),
            (2 | 13, true) => u16::from_le_bytes(reader.array()?).to_string(),
            (3 | 9, false) => i32::from_le_bytes(reader.array()?).to_string(),
            (3 | 9, true) => u32::from_le_bytes(reader.array()?).to_string(),
            (8, false) => i64::from_le_bytes(reader.array()?).to_string(),
            (8, true) => u64::from_le_bytes(reader.array()?).to_string(),
            (4, _) => f32::from_le_bytes(reader.array()?).to_string(),
            (5, _) => f64::from_le_bytes(reader.array()?).to_string(),
            // Dates: a length, then as many of year, month, day as are not zero; the time of day tells nobody anything.
            (7 | 10 | 12, _) => match *reader.text()? {
                [a, b, month, day, ..] => format!("{:04}-{month:02}-{day:02}", u16::from_le_bytes([a, b])),
                _ => "0000-00-00".to_owned(),
            },
            (11, _) => {
                reader.text()?;
                "0".to_owned()
            }
            _ => return reader.text().map(<[u8]>::to_vec),
        };
        Ok(text.into_bytes())
    }
}

/// The values of a row packet of the binary protocol.
pub(super) fn row(packet: &[u8], columns: &[Column]) -> Result<Vec<Option<Vec<u8>>>, Unavailable> {
    /// Bits of the NULL map that stand for no column.
    const SKIPPED: usize = 2;
    let mut reader = Reader(packet);
    reader.take(1)?;
    let nulls = reader.take((columns.len() + SKIPPED).div_ceil(8))?;
    let mut values = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        let bit = index + SKIPPED;
        let null = nulls.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0);
        values.push(if null { None } else { Some(column.value(&mut reader)?) });
    }
    Ok(values)
}

/// A length in front of a value, for packets of ours.
pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    match length {
        0..=0xfa => out.push(length as u8),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(length as u16).to_le_bytes());
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&(length as u64).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_their_text() {
        let shown = |kind, unsigned, bytes: &[u8]| {
            let value = Column { name: vec![], kind, unsigned }.value(&mut Reader(bytes));
            value.map(|value| String::from_utf8(value).unwrap())
        };
        for (kind, unsigned, bytes, text) in [
            (1, false, &[0xff][..], "-1"),
            (1, true, &[0xff], "255"),
            (2, false, &[1, 1], "257"),
            (3, true, &[0xff; 4], "4294967295"),
            (8, false, &[0xff; 8], "-1"),
            (5, false, &[0, 0, 0, 0, 0, 0, 4, 0x40], "2.5"),
            (10, false, &[4, 0xea, 7, 11, 24], "2026-11-24"),
            (12, false, &[0], "0000-00-00"),
            (253, false, b"\x03abc", "abc"),
            (246, false, b"\x042.50", "2.50"),
        ] {
            assert_eq!(shown(kind, unsigned, bytes).as_deref(), Ok(text), "{kind}");
        }
        for (kind, bytes) in [(3, &b"\x01"[..]), (253, b"\x05abc"), (253, b""), (253, b"\xfb"), (8, b"1234567")] {
            assert_eq!(shown(kind, false, bytes), Err(CUT), "{kind}");
        }
    }

    #[test]
    fn rows_tell_null_from_empty_and_cut_rows_are_refused() {
        let text = [(); 3].map(|()| Column { name: vec![], kind: 253, unsigned: false });
        let packet = [0, 0b0000_1000, 0, 1, b'x'];
        assert_eq!(row(&packet, &text), Ok(vec![Some(vec![]), None, Some(b"x".to_vec())]));
        for end in 0..packet.len() {
            assert!(row(&packet[..end], &text).is_err(), "{end}");
        }
    }

    #[test]
    fn lengths_are_written_as_they_are_read() {
        for length in [0, 1, 250, 251, 65_535, 65_536, 1_000_000] {
            let mut out = Vec::new();
            put_length(&mut out, length);
            assert_eq!(Reader(&out).length(), Ok(length));
        }
    }
}
