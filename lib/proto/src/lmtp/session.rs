//! The session: which command may come when, and the envelope they add up to.
//!
//! ```text
//! LHLO → MAIL → RCPT… → DATA → message → a reply for each recipient → MAIL …
//!                     → BDAT… → BDAT LAST → a reply for each recipient → MAIL …
//! ```
//!
//! The server hands every decoded command to [`Session::step`] and does what the [`Action`] says. The session decides all
//! that follows from the dialogue alone; whether a recipient exists, and the delivery, are the server's.

use super::{Command, Forwarded, MAX_DISCARD, MAX_REFUSED_COMMANDS, Mail, Notify, Path, Rcpt, Reply};

/// What the server offers and allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The server's name in greeting and LHLO reply.
    pub hostname: String,
    /// Largest message in bytes, as RFC 1870 counts; `None` is unlimited.
    pub max_size: Option<u64>,
    /// Most recipients in one transaction.
    pub max_recipients: usize,
    /// Whether XFORWARD is taken: only from peers whose word on the client counts.
    pub xforward: bool,
    /// Whether DSN is announced: only by a server that writes the notifications it is then asked for.
    pub dsn: bool,
}

impl Offer {
    /// The first line of a connection.
    pub fn greeting(&self) -> Reply {
        Reply::plain(220, format!("{} LMTP", self.hostname))
    }

    fn lhlo(&self) -> Reply {
        let mut text = format!("{}\nPIPELINING\nENHANCEDSTATUSCODES\n8BITMIME\nSMTPUTF8\nCHUNKING", self.hostname);
        match self.max_size {
            Some(size) => text.push_str(&format!("\nSIZE {size}")),
            None => text.push_str("\nSIZE"),
        }
        if self.dsn {
            text.push_str("\nDSN");
        }
        if self.xforward {
            text.push_str("\nXFORWARD");
            for (_, word) in Forwarded::ALL {
                text.push(' ');
                text.push_str(word);
            }
        }
        Reply::plain(250, text)
    }
}

/// Sender and recipients of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Address without brackets; empty for the null sender.
    pub sender: String,
    /// The client's own estimate of the size in bytes.
    pub size: Option<u64>,
    /// Whether addresses and headers may hold UTF-8.
    pub smtputf8: bool,
    /// ENVID of the sender's system.
    pub envid: Option<String>,
    /// Accepted recipients in their order, repeated ones repeated: each is owed a reply.
    pub recipients: Vec<Recipient>,
}

/// A recipient as the client named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Address without brackets, as [`Path::as_str`] has it; [`Path::parse`] takes it apart.
    pub address: String,
    /// What the sender wants to hear of.
    pub notify: Option<Notify>,
    /// The address before any alias, where the client knows it.
    pub original: Option<Original>,
}

/// ORCPT, decoded and printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// Address type, `rfc822` or `utf-8`.
    pub kind: String,
    /// The address.
    pub address: String,
}

/// What the server does next. All but [`Action::Close`] go on with the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Reply(Reply),
    /// Find out about the recipient and answer; if with 2xx, tell [`Session::accept`] before the next step.
    Find(Recipient),
    /// Send this, then read the message with a [`DataDecoder`](super::DataDecoder), call [`Session::finish`], and answer once for each
    /// recipient. A message that grows over the limit is read to its end all the same.
    Data(Reply),
    /// Read a chunk of `size` octets with the transaction's [`ChunkDecoder`](super::ChunkDecoder). If `last`, go on as after [`Action::Data`];
    /// else answer [`Session::chunk_reply`], or tell [`Session::spoil`] when it could not be kept.
    Chunk {
        /// Octets to read.
        size: u64,
        /// Whether the message ends with them.
        last: bool,
    },
    /// Read `size` octets and drop them together with the chunks before, then send `reply` `times` times.
    Discard {
        /// Octets to read, at most [`MAX_DISCARD`].
        size: u64,
        /// What to say.
        reply: Reply,
        /// How often: once for each recipient where the message would have ended.
        times: usize,
    },
    /// Send this and close.
    Close(Reply),
}

/// How far the dialogue has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// No LHLO yet.
    New,
    /// No transaction.
    Ready,
    /// MAIL was taken.
    Envelope(Envelope),
    /// BDAT was taken: `octets` so far.
    Chunks { envelope: Envelope, octets: u64 },
    /// A chunk failed: nothing but RSET helps.
    Spoiled,
}

/// The dialogue of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    offer: Offer,
    phase: Phase,
    client: Option<String>,
    forwarded: Vec<(Forwarded, Option<String>)>,
    refused: u32,
}

const LHLO_FIRST: Reply = Reply::fixed(503, (5, 1), "Say LHLO first");
const MAIL_FIRST: Reply = Reply::fixed(503, (5, 1), "Need MAIL command");
const NESTED: Reply = Reply::fixed(503, (5, 1), "A transaction is open");
const IN_CHUNKS: Reply = Reply::fixed(503, (5, 1), "BDAT has begun");
const NO_RECIPIENTS: Reply = Reply::fixed(503, (5, 1), "No valid recipients");
const SPOILED: Reply = Reply::fixed(503, (5, 1), "A chunk failed: say RSET");
const TOO_LARGE: Reply = Reply::fixed(552, (3, 4), "Message is larger than the limit");
const NEEDS_UTF8: Reply = Reply::fixed(553, (6, 7), "The address needs SMTPUTF8");
const TOO_MANY: Reply = Reply::fixed(452, (5, 3), "Too many recipients");
const TOO_MANY_ERRORS: Reply = Reply::fixed(421, (7, 0), "Too many errors");

impl Session {
    /// A session before its first command. The greeting is [`Offer::greeting`].
    pub fn new(offer: Offer) -> Self {
        Session { offer, phase: Phase::New, client: None, forwarded: Vec::new(), refused: 0 }
    }

    /// What the client called itself in its last LHLO.
    pub fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// What XFORWARD said of an attribute; `None` when nothing or that it is not known.
    pub fn forwarded(&self, attribute: Forwarded) -> Option<&str> {
        self.forwarded.iter().find(|(known, _)| *known == attribute).and_then(|(_, value)| value.as_deref())
    }

    /// The open transaction.
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.phase {
            Phase::Envelope(envelope) | Phase::Chunks { envelope, .. } => Some(envelope),
            Phase::New | Phase::Ready | Phase::Spoiled => None,
        }
    }

    /// Whether a message of `size` bytes is within the limit.
    pub fn allows(&self, size: u64) -> bool {
        self.offer.max_size.is_none_or(|limit| size <= limit)
    }

    /// The reply for every recipient of a message over the limit.
    pub fn too_large(&self) -> Reply {
        TOO_LARGE
    }

    /// Takes a decoded line, a command or the reply that refuses it, and says what to do.
    pub fn step(&mut self, decoded: Result<Command<'_>, Reply>) -> Action {
        match decoded {
            Ok(command) => self.obey(command),
            Err(reply) => {
                self.refused += 1;
                if self.refused > MAX_REFUSED_COMMANDS { Action::Close(TOO_MANY_ERRORS) } else { Action::Reply(reply) }
            }
        }
    }

    /// Adds a recipient that [`Action::Find`] asked for and that got a 2xx reply.
    pub fn accept(&mut self, recipient: Recipient) {
        if let Phase::Envelope(envelope) = &mut self.phase {
            envelope.recipients.push(recipient);
        }
    }

    /// The reply to a chunk that is not the last.
    pub fn chunk_reply(&self, size: u64) -> Reply {
        Reply::new(250, (0, 0), format!("{size} octets taken"))
    }

    /// Gives up the transaction after a chunk that could not be kept; the server answers it with a reply of its own.
    pub fn spoil(&mut self) {
        if matches!(self.phase, Phase::Chunks { .. }) {
            self.phase = Phase::Spoiled;
        }
    }

    /// Ends the transaction when its message is complete. `None` when there is none.
    pub fn finish(&mut self) -> Option<Envelope> {
        match std::mem::replace(&mut self.phase, Phase::Ready) {
            Phase::Envelope(envelope) | Phase::Chunks { envelope, .. } => Some(envelope),
            other => {
                self.phase = other;
                None
            }
        }
    }

    fn obey(&mut self, command: Command<'_>) -> Action {
        match command {
            Command::Lhlo(name) => {
                self.client = Some(name.to_owned());
                self.phase = Phase::Ready;
                Action::Reply(self.offer.lhlo())
            }
            Command::Mail(mail) => self.mail(&mail).unwrap_or_else(Action::Reply),
            Command::Rcpt(rcpt) => self.rcpt(&rcpt).unwrap_or_else(Action::Reply),
            Command::Data => self.data().unwrap_or_else(Action::Reply),
            Command::Bdat { size, last } => self.chunk(size, last),
            Command::Rset => {
                if self.phase != Phase::New {
                    self.phase = Phase::Ready;
                }
                Action::Reply(Reply::fixed(250, (0, 0), "OK"))
            }
            Command::Noop => Action::Reply(Reply::fixed(250, (0, 0), "OK")),
            Command::Quit => Action::Close(Reply::fixed(221, (0, 0), "Bye")),
            Command::Vrfy(_) => Action::Reply(Reply::fixed(252, (0, 0), "Send mail to find out")),
            Command::Xforward(attributes) => self.xforward(attributes).unwrap_or_else(Action::Reply),
        }
    }

    fn mail(&mut self, mail: &Mail<'_>) -> Result<Action, Reply> {
        match self.phase {
            Phase::New => return Err(LHLO_FIRST),
            Phase::Ready => {}
            Phase::Envelope(_) | Phase::Chunks { .. } => return Err(NESTED),
            Phase::Spoiled => return Err(SPOILED),
        }
        if mail.size.is_some_and(|size| !self.allows(size)) {
            return Err(TOO_LARGE);
        }
        if !mail.smtputf8 && !mail.sender.is_ascii() {
            return Err(NEEDS_UTF8);
        }
        self.phase = Phase::Envelope(Envelope {
            sender: mail.sender.as_str().to_owned(),
            size: mail.size,
            smtputf8: mail.smtputf8,
            envid: mail.envid.as_deref().map(str::to_owned),
            recipients: Vec::new(),
        });
        Ok(Action::Reply(Reply::fixed(250, (1, 0), "OK")))
    }

    fn rcpt(&mut self, rcpt: &Rcpt<'_>) -> Result<Action, Reply> {
        let envelope = match &self.phase {
            Phase::New => return Err(LHLO_FIRST),
            Phase::Ready => return Err(MAIL_FIRST),
            Phase::Envelope(envelope) => envelope,
            Phase::Chunks { .. } => return Err(IN_CHUNKS),
            Phase::Spoiled => return Err(SPOILED),
        };
        if envelope.recipients.len() >= self.offer.max_recipients {
            return Err(TOO_MANY);
        }
        if !envelope.smtputf8 && !rcpt.recipient.is_ascii() {
            return Err(NEEDS_UTF8);
        }
        let original = rcpt.original.as_ref();
        Ok(Action::Find(Recipient {
            address: rcpt.recipient.as_str().to_owned(),
            notify: rcpt.notify,
            original: original
                .map(|(kind, address)| Original { kind: (*kind).to_owned(), address: address.to_string() }),
        }))
    }

    fn data(&mut self) -> Result<Action, Reply> {
        match &self.phase {
            Phase::New => Err(LHLO_FIRST),
            Phase::Ready => Err(MAIL_FIRST),
            Phase::Envelope(envelope) if envelope.recipients.is_empty() => Err(NO_RECIPIENTS),
            Phase::Envelope(_) => Ok(Action::Data(Reply::plain(354, "End data with <CR><LF>.<CR><LF>"))),
            Phase::Chunks { .. } => Err(IN_CHUNKS),
            Phase::Spoiled => Err(SPOILED),
        }
    }

    /// Every BDAT, legal or not, is followed by its octets: whatever the answer, they are read first.
    fn chunk(&mut self, size: u64, last: bool) -> Action {
        let (envelope, before) = match std::mem::replace(&mut self.phase, Phase::Ready) {
            Phase::New => return self.refuse_chunk(size, Phase::New, LHLO_FIRST, 1),
            Phase::Ready => return self.refuse_chunk(size, Phase::Ready, MAIL_FIRST, 1),
            Phase::Spoiled => return self.refuse_chunk(size, Phase::Spoiled, SPOILED, 1),
            Phase::Envelope(envelope) if envelope.recipients.is_empty() => {
                return self.refuse_chunk(size, Phase::Envelope(envelope), NO_RECIPIENTS, 1);
            }
            Phase::Envelope(envelope) => (envelope, 0),
            Phase::Chunks { envelope, octets } => (envelope, octets),
        };
        let octets = u64::saturating_add(before, size);
        if !self.allows(octets) {
            let (phase, times) = if last { (Phase::Ready, envelope.recipients.len()) } else { (Phase::Spoiled, 1) };
            return self.refuse_chunk(size, phase, TOO_LARGE, times);
        }
        self.phase = Phase::Chunks { envelope, octets };
        Action::Chunk { size, last }
    }

    fn refuse_chunk(&mut self, size: u64, phase: Phase, reply: Reply, times: usize) -> Action {
        self.phase = phase;
        if size > MAX_DISCARD { Action::Close(reply) } else { Action::Discard { size, reply, times } }
    }

    fn xforward(&mut self, attributes: Vec<(Forwarded, Option<String>)>) -> Result<Action, Reply> {
        match self.phase {
            _ if !self.offer.xforward => return Err(Reply::fixed(502, (5, 1), "Command not implemented")),
            Phase::New => return Err(LHLO_FIRST),
            Phase::Ready => {}
            Phase::Envelope(_) | Phase::Chunks { .. } | Phase::Spoiled => return Err(NESTED),
        }
        for (attribute, value) in attributes {
            self.forwarded.retain(|(known, _)| *known != attribute);
            self.forwarded.push((attribute, value));
        }
        Ok(Action::Reply(Reply::fixed(250, (0, 0), "OK")))
    }
}

impl Recipient {
    /// A recipient without parameters.
    pub fn new(path: Path<'_>) -> Recipient {
        Recipient { address: path.as_str().to_owned(), notify: None, original: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    fn offer() -> Offer {
        Offer {
            hostname: "mx.example.jp".to_owned(),
            max_size: Some(1000),
            max_recipients: 2,
            xforward: true,
            dsn: false,
        }
    }

    fn say(session: &mut Session, line: &str) -> Action {
        let wire = format!("{line}\r\n");
        let (decoded, _) = decode(wire.as_bytes()).unwrap().unwrap();
        session.step(decoded)
    }

    /// Says all of `lines`, accepting every recipient, and gives the last action.
    fn after(session: &mut Session, lines: &[&str]) -> Action {
        let mut last = Action::Reply(offer().greeting());
        for line in lines {
            last = say(session, line);
            if let Action::Find(recipient) = &last {
                session.accept(recipient.clone());
            }
        }
        last
    }

    #[test]
    fn a_delivery_goes_through_its_phases() {
        let mut session = Session::new(offer());
        let Action::Reply(reply) = say(&mut session, "LHLO mail.example.net") else { panic!("LHLO is answered") };
        assert_eq!(
            reply.text.split('\n').collect::<Vec<_>>(),
            [
                "mx.example.jp",
                "PIPELINING",
                "ENHANCEDSTATUSCODES",
                "8BITMIME",
                "SMTPUTF8",
                "CHUNKING",
                "SIZE 1000",
                "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
            ]
        );
        assert_eq!(session.client(), Some("mail.example.net"));
        after(
            &mut session,
            &["MAIL FROM:<a@example.net> SIZE=1000 ENVID=e", "RCPT TO:<bob@example.org> ORCPT=rfc822;b@x"],
        );
        assert_eq!(
            say(&mut session, "RCPT TO:<gone@example.org>"),
            Action::Find(Recipient::new(Path::parse("gone@example.org").unwrap()))
        );
        after(&mut session, &["RCPT TO:<bob@example.org>"]);
        assert!(matches!(say(&mut session, "DATA"), Action::Data(Reply { code: 354, status: None, .. })));
        let envelope = session.finish().unwrap();
        assert_eq!(
            (envelope.sender.as_str(), envelope.size, envelope.envid.as_deref()),
            ("a@example.net", Some(1000), Some("e"))
        );
        let original = Original { kind: "rfc822".to_owned(), address: "b@x".to_owned() };
        assert_eq!(envelope.recipients.iter().map(|r| r.address.as_str()).collect::<Vec<_>>(), ["bob@example.org"; 2]);
        assert_eq!(envelope.recipients[0].original, Some(original));
        assert_eq!(session.finish(), None);
        assert!(matches!(say(&mut session, "MAIL FROM:<>"), Action::Reply(Reply { code: 250, .. })));
        assert!(matches!(say(&mut session, "QUIT"), Action::Close(Reply { code: 221, .. })));
    }

    #[test]
    fn commands_out_of_order_are_refused() {
        let table: &[(&[&str], u16)] = &[
            (&["MAIL FROM:<a@b>"], 503),
            (&["RCPT TO:<a@b>"], 503),
            (&["DATA"], 503),
            (&["XFORWARD NAME=a"], 503),
            (&["RSET", "MAIL FROM:<a@b>"], 503),
            (&["NOOP"], 250),
            (&["VRFY a"], 252),
            (&["LHLO a", "RCPT TO:<a@b>"], 503),
            (&["LHLO a", "DATA"], 503),
            (&["LHLO a", "MAIL FROM:<>", "DATA"], 503),
            (&["LHLO a", "MAIL FROM:<>", "MAIL FROM:<>"], 503),
            (&["LHLO a", "MAIL FROM:<>", "XFORWARD NAME=a"], 503),
            (&["LHLO a", "MAIL FROM:<>", "RSET", "MAIL FROM:<>"], 250),
            (&["LHLO a", "MAIL FROM:<>", "LHLO a", "RCPT TO:<a@b>"], 503),
            (&["LHLO a", "MAIL FROM:<> SIZE=1001"], 552),
            (&["LHLO a", "MAIL FROM:<用@b>"], 553),
            (&["LHLO a", "MAIL FROM:<用@b> SMTPUTF8"], 250),
            (&["LHLO a", "MAIL FROM:<>", "RCPT TO:<用@b>"], 553),
            (&["LHLO a", "MAIL FROM:<>", "RCPT TO:<a@b>", "RCPT TO:<a@b>", "RCPT TO:<a@b>"], 452),
            (&["LHLO a", "MAIL FROM:<>", "RCPT TO:<a@b>", "BDAT 1", "RCPT TO:<a@b>"], 503),
            (&["LHLO a", "MAIL FROM:<>", "RCPT TO:<a@b>", "BDAT 1", "DATA"], 503),
        ];
        for (lines, code) in table {
            let action = after(&mut Session::new(offer()), lines);
            assert!(matches!(&action, Action::Reply(reply) if reply.code == *code), "{lines:?}: {action:?}");
        }
    }

    #[test]
    fn chunks_add_up_to_a_message() {
        let mut session = Session::new(offer());
        let open = ["LHLO a", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<e@f>"];
        after(&mut session, &open);
        assert_eq!(say(&mut session, "BDAT 600"), Action::Chunk { size: 600, last: false });
        assert_eq!(session.chunk_reply(600).code, 250);
        assert_eq!(say(&mut session, "BDAT 400 LAST"), Action::Chunk { size: 400, last: true });
        assert_eq!(session.finish().map(|envelope| envelope.recipients.len()), Some(2));

        // Over the limit at the end: one reply for each recipient, and the transaction is over.
        after(&mut session, &open[1..]);
        say(&mut session, "BDAT 600");
        assert_eq!(say(&mut session, "BDAT 401 LAST"), Action::Discard { size: 401, reply: TOO_LARGE, times: 2 });
        assert!(matches!(say(&mut session, "MAIL FROM:<>"), Action::Reply(Reply { code: 250, .. })));
    }

    #[test]
    fn a_refused_chunk_is_read_and_then_answered_once() {
        let table: &[(&[&str], Reply)] = &[
            (&[], LHLO_FIRST),
            (&["LHLO a"], MAIL_FIRST),
            (&["LHLO a", "MAIL FROM:<>"], NO_RECIPIENTS),
            (&["LHLO a", "MAIL FROM:<>", "RCPT TO:<a@b>", "BDAT 1001"], SPOILED),
        ];
        for (lines, reply) in table {
            for word in ["", " LAST"] {
                let mut session = Session::new(offer());
                after(&mut session, lines);
                let want = Action::Discard { size: 9, reply: reply.clone(), times: 1 };
                assert_eq!(say(&mut session, &format!("BDAT 9{word}")), want, "{lines:?}");
                let close = Action::Close(reply.clone());
                assert_eq!(say(&mut session, &format!("BDAT {}{word}", MAX_DISCARD + 1)), close, "{lines:?}");
            }
        }
        let mut session = Session::new(offer());
        after(&mut session, &["LHLO a", "MAIL FROM:<>", "RCPT TO:<a@b>"]);
        assert_eq!(say(&mut session, "BDAT 1001"), Action::Discard { size: 1001, reply: TOO_LARGE, times: 1 });
    }

    #[test]
    fn only_rset_helps_after_a_chunk_that_failed() {
        let mut session = Session::new(offer());
        after(&mut session, &["LHLO a", "MAIL FROM:<>", "RCPT TO:<a@b>", "BDAT 10"]);
        session.spoil();
        assert_eq!(session.envelope(), None);
        for line in ["MAIL FROM:<>", "RCPT TO:<a@b>", "DATA"] {
            assert_eq!(say(&mut session, line), Action::Reply(SPOILED), "{line}");
        }
        assert_eq!(session.finish(), None);
        assert!(matches!(after(&mut session, &["RSET", "MAIL FROM:<>"]), Action::Reply(Reply { code: 250, .. })));
    }

    #[test]
    fn what_was_forwarded_adds_up_and_is_taken_only_when_offered() {
        let mut session = Session::new(offer());
        after(&mut session, &["LHLO a", "XFORWARD NAME=n ADDR=192.0.2.7", "XFORWARD NAME=[UNAVAILABLE] HELO=h"]);
        assert_eq!(session.forwarded(Forwarded::Name), None);
        assert_eq!(session.forwarded(Forwarded::Addr), Some("192.0.2.7"));
        assert_eq!(session.forwarded(Forwarded::Helo), Some("h"));
        let mut closed = Session::new(Offer { xforward: false, max_size: None, dsn: true, ..offer() });
        let Action::Reply(reply) = say(&mut closed, "LHLO a") else { panic!("LHLO is answered") };
        assert!(
            !reply.text.contains("XFORWARD") && reply.text.contains("\nDSN") && reply.text.contains("\nSIZE\n"),
            "{}",
            reply.text
        );
        assert!(matches!(say(&mut closed, "XFORWARD NAME=n"), Action::Reply(Reply { code: 502, .. })));
    }

    #[test]
    fn the_hundred_and_first_refused_command_ends_the_connection() {
        let mut session = Session::new(offer());
        for _ in 0..MAX_REFUSED_COMMANDS {
            assert!(matches!(say(&mut session, "FOO"), Action::Reply(Reply { code: 500, .. })));
        }
        assert_eq!(say(&mut session, "FOO"), Action::Close(TOO_MANY_ERRORS));
    }
}
